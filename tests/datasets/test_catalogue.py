import pytest

from mic_tf.datasets import catalogue, names
from mic_tf.errors import UserError
from tests.conftest import make_note, write_dataset

SPLITS = {"train": [make_note("bass", 0, 40)]}


def find(name, data_dir):
    return catalogue.find_prepared(names.parse_name(name), str(data_dir))


def test_a_prepared_set_opens_without_its_source(tmp_path):
    write_dataset(tmp_path, SPLITS, name="nsynth_jsonwav")
    for name in ("nsynth_jsonwav", "nsynth_jsonwav:1.0.0"):
        builder = catalogue.load_builder(name, str(tmp_path))
        assert builder.info.splits["train"].num_examples == 1


def test_a_home_folder_may_be_written_short(tmp_path, monkeypatch):
    write_dataset(tmp_path / "sets", SPLITS)
    monkeypatch.setenv("HOME", str(tmp_path))
    builder = catalogue.load_builder("nsynth_jsonwav", "~/sets")
    assert builder.data_dir.startswith(str(tmp_path))


def test_a_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(UserError) as caught:
        catalogue.load_builder("sample_folder/mine", str(tmp_path))
    assert (
        "python -m mic_tf.prepare --dataset=sample_folder/mine --source=… "
        f"--data_dir={tmp_path}"
    ) in str(caught.value)


def test_the_newest_version_is_taken_unless_one_is_asked_for(tmp_path):
    for version in ("9.0.0", "10.0.0"):
        folder = tmp_path / "soundfont_notes" / version
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").touch()
    assert find("soundfont_notes", tmp_path).endswith("10.0.0")
    assert find("soundfont_notes:9.0.0", tmp_path).endswith("9.0.0")
    assert find("soundfont_notes:1.0.0", tmp_path) is None


def test_a_single_labelled_set_is_found_without_its_label(tmp_path):
    _touch(tmp_path, "mine")
    assert find("sample_folder", tmp_path).endswith("sample_folder/mine/1.0.0")
    _touch(tmp_path, "other")
    with pytest.raises(UserError, match="sample_folder/mine, sample_folder/other"):
        find("sample_folder", tmp_path)
    _touch(tmp_path, "")
    assert find("sample_folder", tmp_path).endswith("sample_folder/1.0.0")


@pytest.mark.parametrize("content", ["", "null", '{"name": "nsy', "{}"])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_description_that_is_damaged_is_one_line(tmp_path, name, content):
    folder = write_dataset(tmp_path, SPLITS).data_path
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=f"^{folder}: its .* damaged .*") as caught:
        catalogue.load_builder("nsynth_jsonwav", str(tmp_path))
    assert str(caught.value).endswith("; prepare it again with --overwrite")


def test_a_folder_without_its_description_is_not_a_prepared_set(tmp_path):
    (tmp_path / "soundfont_notes" / "1.0.0").mkdir(parents=True)
    (tmp_path / "soundfont_notes" / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    assert find("soundfont_notes", tmp_path) is None


def _touch(data_dir, label):
    folder = data_dir / "sample_folder" / label / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").touch()
