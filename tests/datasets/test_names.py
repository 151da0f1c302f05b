import pytest

from mic_tf.datasets import names
from mic_tf.errors import UserError


@pytest.mark.parametrize(
    "name",
    [
        "nsynth/full",
        "nsynth/gansynth_subset:2.3.3",
        "soundfont_notes",
        "sample_folder/my-own.set",
        "nsynth_jsonwav/mini:1.0.0",
    ],
)
def test_a_known_name_is_taken_apart_and_put_together(name):
    assert str(names.parse_name(name)) == name


@pytest.mark.parametrize(
    "name",
    ["", "nsynth", "nsynth/small", "mnist", "sample_folder/", "sample_folder/a/b"],
)
def test_an_unknown_name_is_told_with_the_known_ones(name):
    with pytest.raises(UserError, match="nsynth/full, .*soundfont_notes") as caught:
        names.parse_name(name)
    assert f"--dataset={name}: " in str(caught.value)


@pytest.mark.parametrize("label", ["2.0.0", "..", ".", "1.0.0:1.0.0"])
def test_a_label_is_no_version_and_no_way_out(label):
    with pytest.raises(UserError, match=f"soundfont_notes/{label}: no label"):
        names.parse_name(f"soundfont_notes/{label}")


@pytest.mark.parametrize("version", ["", "1.0", "newest"])
def test_a_version_has_three_numbers(version):
    with pytest.raises(UserError, match="not like 1.0.0"):
        names.parse_name(f"soundfont_notes:{version}")
