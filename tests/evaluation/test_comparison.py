import itertools
import math

import numpy as np
import pytest

from mic_tf.evaluation import comparison


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 32),
        (1, 9, 2 * (1 + 10) / 1024),
        (3000, 3000, 1.0),
    ],
)
def test_p_value_done_by_hand(only_first, only_second, p):
    assert comparison.mcnemar_p(only_first, only_second) == pytest.approx(p)
    assert comparison.mcnemar_p(only_second, only_first) == pytest.approx(p)


def test_p_value_is_the_binomial_sum():
    for first, second in ((3, 8), (20, 13), (101, 150), (0, 1)):
        n, k = first + second, min(first, second)
        wanted = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        assert comparison.mcnemar_p(first, second) == min(1.0, wanted)


def test_p_value_of_thousands_of_notes_is_small_and_finite():
    assert 0 < comparison.mcnemar_p(2000, 2500) < 1e-10


def test_table_counts_each_note_once():
    first = np.array([1, 1, 0, 0, 1], bool)
    second = np.array([1, 0, 1, 0, 0], bool)
    found = comparison.compare(first, second, np.array([7, 7, 7, 9, 9]))
    counts = [found[k] for k in ("both", "only_first", "only_second", "neither")]
    assert counts == [1, 2, 1, 1]
    assert found["accuracy"] == [0.6, 0.4]
    assert found["instruments"] == 2


def test_the_sign_flip_test_is_that_of_all_signs():
    random = np.random.default_rng(0)
    for size in (1, 5, 12):
        differences = random.integers(-6, 7, size)
        signs = np.array(list(itertools.product([-1, 1], repeat=size)))
        sums = np.abs(signs @ np.abs(differences))
        wanted = (sums >= abs(differences.sum())).mean()
        assert comparison.sign_flip_p(differences) == pytest.approx(wanted)
    assert comparison.sign_flip_p(np.zeros(3, int)) == 1.0


def test_notes_of_few_instruments_prove_little():
    first = np.repeat([True, False], 12)
    second = ~np.repeat([True, True], 12)
    found = comparison.compare(first, second, np.arange(24) // 4)
    # Three instruments differ: one division of eight is as uneven, in either direction.
    assert found["p"] == 0.25
    assert found["p_notes"] < 0.001
