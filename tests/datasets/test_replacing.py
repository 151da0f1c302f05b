import os

import pytest
import tensorflow as tf

from mic_tf import files
from mic_tf.datasets import replacing
from mic_tf.errors import UserError

ASIDE = f"replaced.{'0f' * 16}_"


def write_set(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records").write_text(content)
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.fixture
def old(tmp_path):
    return write_set(tmp_path / "1.0.0", "old")


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_a_set_is_back_where_the_new_one_does_not_get_whole(tmp_path, old, error):
    with pytest.raises(error), replacing.taken_away(str(old)):
        assert not old.exists()
        old.mkdir()
        (old / "records").write_text("half")
        raise error
    assert (old / "records").read_text() == "old"
    assert os.listdir(tmp_path) == ["1.0.0"]


def test_a_set_goes_when_the_new_one_is_whole(tmp_path, old):
    with replacing.taken_away(str(old)):
        write_set(old, "new")
    assert (old / "records").read_text() == "new"
    assert os.listdir(tmp_path) == ["1.0.0"]


def test_what_a_killed_replacement_left_is_put_back_or_removed(tmp_path, old):
    write_set(tmp_path / f"{ASIDE}1.0.0", "older")
    write_set(tmp_path / f"{ASIDE}2.0.0", "other version")
    half = tmp_path / f"{ASIDE}3.0.0"
    half.mkdir()
    label = write_set(tmp_path / "replaced.mine_1.0.0", "a label is no version")
    replacing.settle(str(tmp_path))
    assert (old / "records").read_text() == "old"
    assert (tmp_path / "2.0.0" / "records").read_text() == "other version"
    assert sorted(os.listdir(tmp_path)) == ["1.0.0", "2.0.0", label.name]


def test_a_set_in_a_folder_that_may_not_be_written_to_stays(old, monkeypatch):
    def refused(folder):
        raise UserError(f"{folder}: cannot be written to: Permission denied")

    monkeypatch.setattr(files, "check_writable", refused)
    refusal = pytest.raises(UserError, match=f"^{old}: cannot be written to")
    with refusal, replacing.taken_away(str(old)):
        pytest.fail("taken away")
    assert (old / "records").read_text() == "old"


def test_a_set_that_may_not_be_removed_is_one_line(tmp_path, old, monkeypatch, caplog):
    def refused(folder):
        raise tf.errors.PermissionDeniedError(None, None, "Permission denied\ntrace")

    monkeypatch.setattr(tf.io.gfile, "rmtree", refused)
    with replacing.taken_away(str(old)):
        write_set(old, "new")
    assert "_1.0.0: cannot be removed: Permission denied" in caplog.text
    assert (old / "records").read_text() == "new"
    with pytest.raises(UserError, match=f"^{old}: cannot be removed: .* denied$"):
        replacing.discard(str(old))


def test_an_object_store_keeps_nothing_under_another_name(tmp_path, old, monkeypatch):
    monkeypatch.setattr(files, "is_remote", lambda path: True)
    with replacing.taken_away(str(old)):
        assert os.listdir(tmp_path) == []
