import numpy as np
import pytest

from mic_tf import taxonomy
from mic_tf.errors import UserError
from mic_tf.pipeline.balance import balance, parse_weights

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


@pytest.mark.parametrize("method", ["rejection", "streams", "none"])
def test_a_family_that_only_another_set_has_keeps_its_weight_in_the_loss(method):
    assert (
        balance(np.array([10, 0, 30]), method, 1.0).class_weight.tolist() == [1.0] * 3
    )


def test_class_weights_make_families_count_alike():
    found = balance(NSYNTH, "class_weight", 1.0)
    weight = found.initial * found.class_weight
    assert weight == pytest.approx(np.full(11, 1 / 11))
    assert found.acceptance.tolist() == [1.0] * 11


def test_none_changes_nothing():
    found = balance(NSYNTH, "none", 1.0)
    assert found.class_weight.tolist() == found.acceptance.tolist() == [1.0] * 11


@pytest.mark.parametrize("method", ["rejection", "class_weight"])
def test_weights_of_families_multiply_their_shares(method):
    weights = parse_weights("guitar:3, vocal:0.5", taxonomy.FAMILIES)
    found = balance(NSYNTH, method, 1.0, weights)
    drawn = found.initial * found.acceptance * found.class_weight
    shares = dict(zip(taxonomy.FAMILIES, drawn / drawn.sum(), strict=True))
    assert shares["guitar"] == pytest.approx(3 * shares["brass"])
    assert shares["vocal"] == pytest.approx(0.5 * shares["brass"])
    assert sum(shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["harp:2", "guitar", "guitar:0", "guitar:x", ":2"])
def test_weights_that_cannot_be_read_are_an_error(text):
    with pytest.raises(UserError, match="--family_weights"):
        parse_weights(text, taxonomy.FAMILIES)
