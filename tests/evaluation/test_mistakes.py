import numpy as np
import pytest
import tensorflow as tf

from mic_tf.evaluation import mistakes
from mic_tf.evaluation.heard import Heard
from tests.evaluation import planted
from tools.planting import clean_note

LABELS = ("bass", "flute")


def test_the_surest_wrong_answers_come_first():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    found = mistakes.most_confident(
        np.array([10, 11, 12, 13]), np.array([1, 0, 0, 0]), probabilities, LABELS
    )
    assert [(m.row, m.truth, m.answer) for m in found] == [
        (11, "bass", "flute"),
        (13, "bass", "flute"),
        (10, "flute", "bass"),
    ]
    assert found[0].confidence == pytest.approx(0.9)


def test_no_more_are_shown_than_asked_for():
    probabilities = np.tile([[0.9, 0.1]], [50, 1])
    wrong = np.ones(50, int)
    found = mistakes.most_confident(np.arange(50), wrong, probabilities, LABELS)
    assert len(found) == mistakes.MOST_MISTAKES


def likeness(waveform):
    """An embedding that knows the spectrum: the same sound has cosine 1."""
    return tf.abs(tf.signal.rfft(tf.cast(waveform, tf.float32)))[:, :4000]


def test_the_nearest_training_note_is_the_one_that_sounds_the_same(tmp_path):
    train = [clean_note("organ", i, p) for i in (0, 1) for p in (50, 57, 63)]
    copy = planted.renamed(train[4], "reed", 9, 57)
    records = planted.open_planted(tmp_path, {"train": train, "test": [copy]})
    index = records.index
    tested = int(np.flatnonzero(index.ids == copy["id"])[0])
    in_training = np.arange(len(index)) != tested
    wrong = [mistakes.Mistake(tested, "reed", "organ", 0.9)]
    found, heard = mistakes.with_nearest(
        wrong, records, [Heard("", records, in_training)], likeness
    )
    assert index.ids[found[0].nearest[1]] == train[4]["id"]
    assert found[0].similarity == pytest.approx(1.0, abs=1e-4)
    assert heard == 6
    words = mistakes.nearest_families(found)
    assert words.startswith("Of 1 nearest training notes 1 are of the family")


def test_a_note_is_not_its_own_neighbour(tmp_path):
    notes = {"train": [clean_note("organ", 0, p) for p in (50, 57)]}
    records = planted.open_planted(tmp_path, notes)
    wrong = [mistakes.Mistake(0, "organ", "reed", 0.9)]
    both = [Heard("", records, np.ones(2, bool))]
    found, _ = mistakes.with_nearest(wrong, records, both, likeness)
    assert found[0].nearest == (both[0], 1)


def test_without_training_notes_there_is_no_neighbour():
    wrong = [mistakes.Mistake(0, "organ", "reed", 0.9)]
    found, heard = mistakes.with_nearest(wrong, None, [], likeness)
    assert (found, heard) == (wrong, 0)
