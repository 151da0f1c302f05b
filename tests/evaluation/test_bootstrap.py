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


def test_instruments_that_agree_say_nothing_of_others():
    found = bootstrap.intervals(*notes([[0.5] * 5, [0.5] * 3, [0.5] * 2]), LABELS)
    assert found["accuracy"] is None
    assert found["per_family"] == {"bass": {"recall": None, "f1": None}}
    right = bootstrap.intervals(*notes([[1.0] * 2, [1.0], [1.0] * 2]), LABELS)
    assert right["without_them"]["accuracy"] == {"value": 1.0, "interval": None}


def test_interval_is_that_of_drawing_instruments_by_hand():
    # Of two instruments one is drawn, for both: all wrong or all right.
    found = bootstrap.intervals(*notes([[0.0, 1.0], [1.0] * 2, [1.0] * 2]), LABELS)
    assert found["accuracy"] == pytest.approx([2 / 3, 1.0])
    # Of five four are drawn: one wrong one never in 41 %, twice and more in 18 %, four
    # times in less than 1 %.
    found = bootstrap.intervals(*notes([[0.0] + [1.0] * 4, [1.0] * 2, [1.0]]), LABELS)
    assert found["per_family"]["bass"]["recall"] == pytest.approx([0.25, 1.0])


def test_as_many_intervals_as_are_promised_hold_the_accuracy_of_all_instruments():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        shares = random.beta(2, 1, (3, 3))  # Three families of three instruments.
        right = random.binomial(20, shares) / 20
        low, high = bootstrap.intervals(*notes(right), LABELS)["accuracy"]
        held += low <= 2 / 3 <= high
    assert 0.87 < held / 200 < 0.97


def test_a_family_of_few_instruments_has_no_interval_of_its_own():
    found = bootstrap.intervals(
        *notes([[0.2, 0.9] * 2, [0.2, 0.9] * 3, [0.2, 0.9]]), LABELS
    )
    assert set(found["per_family"]) == {"flute"}
    assert found["accuracy"] is not None


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
    others = found["without_them"]
    assert others["families"] == 2
    assert others["accuracy"]["value"] == pytest.approx((0.6 + 0.95) / 2)
    low, high = others["accuracy"]["interval"]
    assert low <= others["accuracy"]["value"] <= high


def test_intervals_are_the_same_each_time():
    data = notes([[0.2, 0.9, 0.6]] * 3)
    assert bootstrap.intervals(*data, LABELS) == bootstrap.intervals(*data, LABELS)


def test_a_family_that_is_absent_takes_no_part():
    truth, answer, instrument = notes([[0.0, 1.0] * 3, [1.0] * 6])
    found = bootstrap.intervals(truth, answer, instrument, LABELS)
    low, high = found["balanced_accuracy"]
    assert 0.5 <= low < 0.75 < high <= 1.0
    assert "flute" in found["per_family"]
    assert "reed" not in found["per_family"]
