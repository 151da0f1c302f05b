import numpy as np
import pytest

from mic_tf import taxonomy
from mic_tf.pipeline.balance import balance

NSYNTH = np.array([taxonomy.NSYNTH_FAMILY_NOTES[f] for f in taxonomy.FAMILIES])


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_accepted_shares_are_the_target(alpha):
    found = balance(NSYNTH, "rejection", alpha)
    accepted = found.initial * found.acceptance
    assert accepted / accepted.sum() == pytest.approx(found.target)
    assert found.acceptance.max() == 1.0


def test_uniform_target_of_nsynth_costs_five_reads_a_note():
    assert balance(NSYNTH, "rejection", 1.0).reads_per_note == pytest.approx(5.06, 0.01)


def test_natural_target_accepts_everything():
    assert balance(NSYNTH, "rejection", 0.0).acceptance == pytest.approx(np.ones(11))


def test_family_without_notes_is_left_out_of_the_target():
    found = balance(np.array([10, 0, 30]), "rejection", 1.0)
    assert found.target.tolist() == [0.5, 0.0, 0.5]
    assert found.acceptance.tolist() == [1.0, 0.0, pytest.approx(1 / 3)]


def test_class_weights_make_families_count_alike():
    found = balance(NSYNTH, "class_weight", 1.0)
    weight = found.initial * found.class_weight
    assert weight == pytest.approx(np.full(11, 1 / 11))
    assert found.acceptance.tolist() == [1.0] * 11


def test_none_changes_nothing():
    found = balance(NSYNTH, "none", 1.0)
    assert found.class_weight.tolist() == found.acceptance.tolist() == [1.0] * 11
