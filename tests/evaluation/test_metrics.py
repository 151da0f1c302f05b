import numpy as np
import pytest

from mic_tf.evaluation import metrics


def test_headline_of_a_small_matrix_done_by_hand():
    confusion = np.array([[3, 1, 0], [1, 1, 0], [0, 0, 0]])
    found = metrics.headline(confusion)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found["macro_f1"] == pytest.approx((6 / 8 + 2 / 4) / 2)


def test_confusion_has_truth_in_rows():
    confusion = metrics.confusion_matrix(np.array([0, 0, 2]), np.array([0, 1, 1]), 3)
    assert confusion.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_figures_of_a_family_done_by_hand():
    family = metrics.per_family(np.array([[3, 1, 0], [1, 1, 0], [0, 0, 0]]))
    assert family["n"].tolist() == [4, 2, 0]
    assert family["precision"].tolist() == [0.75, 0.5, 0.0]
    assert family["recall"].tolist() == [0.75, 0.5, 0.0]
    assert family["f1"].tolist() == [0.75, 0.5, 0.0]


def test_families_without_notes_are_not_in_the_means():
    probabilities = np.eye(4)[[0, 1, 1]]
    found = metrics.summary(probabilities, np.array([0, 1, 1]), ("a", "b", "c", "d"))
    assert found["macro_f1"] == 1.0
    assert found["families_present"] == ["a", "b"]
    assert found["per_family"]["c"]["n"] == 0


def test_calibration_error_of_an_oracle_is_zero_and_of_a_braggart_large():
    truth = np.tile([0, 1], 500)
    sure = np.eye(2)[truth]
    assert metrics.expected_calibration_error(sure, truth) == pytest.approx(0.0)
    bragging = np.tile([[0.99, 0.01]], (1000, 1))
    assert metrics.expected_calibration_error(bragging, truth) == pytest.approx(0.49)


def test_temperature_takes_back_what_was_exaggerated():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 5)) * 2
    probabilities = metrics.softmax(logits)
    truth = np.array([random.choice(5, p=p) for p in probabilities])
    assert metrics.best_temperature(logits * 3, truth) == pytest.approx(3.0, rel=0.05)
    assert metrics.best_temperature(logits, truth) == pytest.approx(1.0, rel=0.05)


def test_few_notes_hardly_move_the_temperature():
    right = np.tile([[4.0, 0.0]], (10, 1))
    few = metrics.best_temperature(right, np.zeros(10, int))
    assert 0.5 < few < 1
    many = metrics.best_temperature(np.tile(right, (1000, 1)), np.zeros(10_000, int))
    assert many < few
    wrong = metrics.best_temperature(right[:2], np.array([0, 1]))
    assert 1 < wrong < 2
    alone = metrics.best_temperature(np.ones((7, 1)), np.zeros(7, int))
    assert alone == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("notes", "kept"), [(20, 19), (198, 189), (7, 7), (100, 95)])
def test_95_percent_of_the_notes_reach_the_threshold(notes, kept):
    best = np.random.default_rng(0).uniform(0.5, 1, notes)
    probabilities = np.stack([best, 1 - best], axis=1)
    threshold = metrics.threshold_keeping(probabilities)
    assert (best >= threshold).sum() == kept
    assert (best > threshold).sum() == kept - 1


def test_thresholds_together_leave_out_5_percent_and_each_as_many():
    values = np.random.default_rng(0).uniform(0, 1, [200, 2])
    values[:, 1] **= 3
    together = metrics.keeping_together(values)
    assert ((values >= together).all(axis=1)).sum() in (190, 191)
    assert (values[:, 0] < together[0]).sum() == (values[:, 1] < together[1]).sum() > 3
    alike = np.repeat(values[:, :1], 2, axis=1)
    alone = metrics.keeping(values[:, 0])
    np.testing.assert_array_equal(metrics.keeping_together(alike), [alone, alone])
    assert (metrics.keeping_together(np.ones([4, 2])) == 1).all()
