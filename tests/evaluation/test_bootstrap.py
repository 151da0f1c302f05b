import tracemalloc

import numpy as np
import pytest

from mic_tf.evaluation import bootstrap

LABELS = ("bass", "flute", "reed")


def notes(right_of_instrument, per_instrument=20):
    """Truth, answer and instrument; shares of right answers by family."""
    truth, answer, instrument = [], [], []
    for family, shares in enumerate(right_of_instrument):
        for share in shares:
            right = round(share * per_instrument)
            wrong = [(family + 1) % 3] * (per_instrument - right)
            instrument += [len(set(instrument))] * per_instrument
            truth += [family] * per_instrument
            answer += [family] * right + wrong
    return np.array(truth), np.array(answer), np.array(instrument)


def test_point_figures_of_the_others_are_those_of_their_matrix():
    truth, answer, instrument = notes([[0.5, 0.7], [0.6], [0.9, 1.0]])
    others = bootstrap.intervals(truth, answer, instrument, LABELS)["without_them"]
    confusion = np.zeros([3, 3])
    np.add.at(confusion, (truth, answer), 1)
    confusion[1] = 0
    hits = np.diag(confusion)
    recall = hits / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * hits / (confusion.sum(axis=1) + confusion.sum(axis=0))
    assert others["accuracy"]["value"] == pytest.approx(hits.sum() / confusion.sum())
    assert others["balanced_accuracy"]["value"] == pytest.approx(recall[[0, 2]].mean())
    assert others["macro_f1"]["value"] == pytest.approx(f1[[0, 2]].mean())


def test_hundreds_of_families_need_no_matrix_each():
    families = 300
    truth = np.repeat(np.arange(families), 4)
    instrument = np.arange(len(truth)) // 2
    answer = np.where(instrument % 2, truth, (truth + 1) % families)
    labels = tuple(map(str, range(families)))
    tracemalloc.start()
    found = bootstrap.intervals(truth, answer, instrument, labels)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200e6
    low, high = found["accuracy"]
    assert low < 0.5 < high


def test_instruments_that_agree_give_an_interval_of_no_width():
    found = bootstrap.intervals(*notes([[0.5, 0.5], [0.5] * 3, [0.5] * 2]), LABELS)
    assert found["accuracy"] == [0.5, 0.5]


def test_interval_is_that_of_drawing_two_instruments_by_hand():
    found = bootstrap.intervals(*notes([[0.0, 1.0], [1.0] * 2, [1.0] * 2]), LABELS)
    # The first family's recall is 0, 0.5 or 1, a quarter of the time at each end.
    assert found["per_family"]["bass"]["recall"] == [0.0, 1.0]
    assert found["accuracy"] == pytest.approx([2 / 3, 1.0])


def test_intervals_over_instruments_are_wider_than_over_notes():
    truth, answer, instrument = notes([[0.2, 0.9, 0.6, 1.0]] * 3)
    by_instrument = bootstrap.intervals(truth, answer, instrument, LABELS)["accuracy"]
    by_note = bootstrap.intervals(truth, answer, np.arange(len(truth)), LABELS)
    width = np.ptp(by_note["accuracy"])
    assert np.ptp(by_instrument) > 2 * width


def test_a_family_with_one_instrument_gets_no_interval_and_is_named():
    found = bootstrap.intervals(*notes([[0.5, 0.7], [0.6], [0.9, 1.0]]), LABELS)
    assert found["accuracy"] is found["macro_f1"] is None
    assert found["single_instrument_families"] == ["flute"]
    assert set(found["per_family"]) == {"bass", "reed"}
    others = found["without_them"]
    assert others["families"] == 2
    assert others["accuracy"]["value"] == pytest.approx((0.6 + 0.95) / 2)
    low, high = others["accuracy"]["interval"]
    assert low <= others["accuracy"]["value"] <= high


def test_intervals_are_the_same_each_time():
    data = notes([[0.2, 0.9, 0.6]] * 3)
    assert bootstrap.intervals(*data, LABELS) == bootstrap.intervals(*data, LABELS)


def test_a_family_that_is_absent_takes_no_part():
    truth, answer, instrument = notes([[0.5, 0.5], [1.0, 1.0]])
    found = bootstrap.intervals(truth, answer, instrument, LABELS)
    assert found["balanced_accuracy"] == [0.75, 0.75]
    assert "reed" not in found["per_family"]
