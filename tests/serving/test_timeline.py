"""Timelines: stretches, their joins, their ends, their layouts."""

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from mic_tf.errors import UserError
from mic_tf.serving import contract as contracts
from mic_tf.serving import prediction, timeline
from mic_tf.serving.classifier import Classifier
from mic_tf.serving.doubt import Doubt

LABELS = ("bell", "drum")


@pytest.fixture
def classifier() -> Classifier:
    """Hears a bell where the window begins loud, else a drum, at 0.9 or 0.6."""

    def infer(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bell = np.where(windows[:, 0] > 0.5, 0.9, 0.4)
        return np.stack([bell, 1 - bell], axis=1), np.zeros([len(windows), 2])

    return Classifier(contracts.Contract(LABELS, 2), infer)


def buzz(levels: np.ndarray) -> np.ndarray:
    """A sound with these amplitudes that begins above zero in every window."""
    return levels * np.where(np.arange(len(levels)) % 2, -1.0, 1.0)


@pytest.fixture
def recording(tmp_path) -> str:
    """Two windows loud, one soft, one silent, one loud, and 1 s more."""
    levels = [0.8, 0.8, 0.2, 0.0, 0.8]
    sound = np.append(np.repeat(levels, 64_000), np.full(16_000, 0.8))
    path = tmp_path / "long.wav"
    soundfile.write(path, buzz(sound), 16_000)
    return str(path)


def test_neighbouring_equal_answers_are_joined(classifier, recording):
    found = list(timeline.segments(classifier, recording, batch_size=2))
    stretches = [(s.start, s.end, s.family) for s in found]
    assert stretches == [
        (0.0, 8.0, "bell"),
        (8.0, 12.0, "drum"),
        (12.0, 16.0, "silence"),
        (16.0, 21.0, "bell"),
    ]
    assert [round(s.probability, 6) for s in found] == [0.9, 0.6, 1.0, 0.9]


def test_a_shorter_hop_finds_the_change_closer(classifier, tmp_path):
    path = tmp_path / "change.wav"
    sound = np.where(np.arange(160_000) < 5.2 * 16_000, 0.8, 0.2)
    soundfile.write(path, buzz(sound), 16_000)
    [first, second] = timeline.segments(classifier, str(path), hop_seconds=0.5)
    # The first window that begins behind it is that from 5.5 to 9.5 s: it counts from
    # the middle of what it shares with the one before.
    assert (first.end, second.start, second.end) == (7.25, 7.25, 10.0)


def test_a_window_counts_around_its_middle_and_what_is_silent_is_silence(
    classifier, tmp_path
):
    path = tmp_path / "pause.wav"
    time = np.arange(20 * 16_000) / 16_000
    sound = np.where((time < 6) | (time >= 12), 0.8, 0.0)
    soundfile.write(path, buzz(sound), 16_000)
    found = list(timeline.segments(classifier, str(path), hop_seconds=1.0))
    stretches = [(s.start, s.end, s.family) for s in found]
    assert stretches == [
        (0.0, 6.5, "bell"),
        (6.5, 11.5, "silence"),
        (11.5, 13.5, "drum"),
        (13.5, 20.0, "bell"),
    ]


def test_the_last_window_shares_its_part_with_the_one_before(classifier, tmp_path):
    path = tmp_path / "last.wav"
    sound = np.where(np.arange(96_000) < 1_000, 0.8, 0.2)
    soundfile.write(path, buzz(sound), 16_000)
    [first, second] = timeline.segments(classifier, str(path))
    assert (first.end, second.start, second.end) == (3.0, 3.0, 6.0)


def test_improbable_stretches_are_unsure(classifier, recording):
    found = timeline.segments(classifier, recording, doubt=Doubt(0.7))
    assert [s.family for s in found] == ["bell", "unsure", "silence", "bell"]


def test_a_short_note_is_one_segment_of_its_length(classifier, tmp_path):
    soundfile.write(tmp_path / "note.wav", buzz(np.full(8_000, 0.8)), 16_000)
    [segment] = timeline.segments(classifier, str(tmp_path / "note.wav"))
    assert (segment.start, segment.end, segment.family) == (0.0, 0.5, "bell")


def test_a_fault_in_the_middle_comes_after_what_was_heard(classifier, tmp_path):
    path = tmp_path / "broken.wav"
    samples = buzz(np.full(600_000, 0.8))
    samples[-1] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    *heard, fault = timeline.segments(classifier, str(path))
    assert [s.family for s in heard] == ["bell"]
    assert heard[0].end > 16
    assert fault.error.startswith("sample 599999 is nan")
    assert (fault.family, fault.probability) == ("", None)


def written(classifier, paths, tmp_path, layout) -> str:
    out = tmp_path / "out"
    options = prediction.Options(layout=layout, out=str(out))
    prediction.predict_timelines(classifier, paths, options)
    return out.read_text()


def test_layouts_say_the_same(classifier, recording, tmp_path):
    paths = [recording]
    table = csv.DictReader(io.StringIO(written(classifier, paths, tmp_path, "csv")))
    rows = list(table)
    objects = json.loads(written(classifier, paths, tmp_path, "json"))
    labels = written(classifier, paths, tmp_path, "audacity").splitlines()
    assert rows[1] == {
        "file": recording,
        "start": "8.000",
        "end": "12.000",
        "family": "drum",
        "probability": "0.600000",
        "error": "",
    }
    assert [row["family"] for row in rows] == [item["family"] for item in objects]
    assert labels[1] == "8.000\t12.000\tdrum 60%"
    assert len(labels) == len(rows) == 4


def test_a_label_track_belongs_to_one_recording(classifier, recording, tmp_path):
    with pytest.raises(UserError, match="audacity: 2 files; one expected"):
        written(classifier, [recording, recording], tmp_path, "audacity")
