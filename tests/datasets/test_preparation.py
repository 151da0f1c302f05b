import fcntl
import os
import pathlib
import resource
import shutil
import types

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf.datasets import catalogue, names, preparation
from mic_tf.datasets.nsynth_jsonwav.nsynth_jsonwav_dataset_builder import Builder
from mic_tf.errors import UserError
from tests.datasets import publisher_archives as publisher


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    members = publisher.split_members("train", ["bass_synthetic_001"], notes=5)
    publisher.write_jsonwav(folder, "train", members)
    return folder


def prepare(source, data_dir, dataset="nsynth_jsonwav", **settings):
    settings.setdefault("source_given", bool(source))
    name = names.parse_name(dataset)
    return preparation.prepare(
        Builder, name, str(data_dir), source=str(source), **settings
    )


def find(data_dir):
    return catalogue.find_prepared(names.parse_name("nsynth_jsonwav"), str(data_dir))


def test_the_second_time_the_set_is_used_as_it_is(source, tmp_path, caplog):
    folder = prepare(source, tmp_path)
    before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder)}
    caplog.set_level("INFO", logger="absl")
    assert prepare(source, tmp_path) == folder
    assert "is prepared already, with these settings" in caplog.text
    shutil.rmtree(source)
    assert prepare("", tmp_path) == folder
    after = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(folder)}
    assert before == after


def test_another_source_needs_a_label_or_overwrite(source, tmp_path):
    folder = prepare(source, tmp_path)
    members = publisher.split_members("train", ["reed_acoustic_002"], notes=7)
    publisher.write_jsonwav(source, "train", members)
    with pytest.raises(UserError, match="--overwrite replaces it") as caught:
        prepare(source, tmp_path)
    assert "nsynth_jsonwav/LABEL keeps both" in str(caught.value)
    labelled = prepare(source, tmp_path, "nsynth_jsonwav/reeds")
    assert labelled == str(tmp_path / "nsynth_jsonwav" / "reeds" / "1.0.0")
    assert notes_in(folder) == 5
    assert prepare(source, tmp_path, overwrite=True) == folder
    assert notes_in(folder) == notes_in(labelled) == 7


def test_overwrite_makes_the_same_set_anew(source, tmp_path, caplog):
    folder = prepare(source, tmp_path)
    [name] = [name for name in os.listdir(folder) if "-train.tfrecord-" in name]
    record = os.path.join(folder, name)
    with open(record, "rb") as file:
        whole = file.read()
    os.remove(record)
    assert prepare(source, tmp_path) == folder
    assert not os.path.exists(record)
    assert prepare(source, tmp_path, overwrite=True) == folder
    with open(record, "rb") as file:
        assert file.read() == whole
    for shards in (0, 1, 3):
        caplog.clear()
        prepare(source, tmp_path, num_shards=shards)
        assert ("--overwrite makes it anew" in caplog.text) == (shards == 3)
    prepare(source, tmp_path, overwrite=True, num_shards=3)
    assert len([n for n in os.listdir(folder) if "-train.tfrecord-" in n]) == 3
    assert os.listdir(tmp_path / "nsynth_jsonwav") == ["1.0.0"]


@pytest.mark.parametrize("content", ["", None])
@pytest.mark.parametrize("name", ["metadata.json", "features.json"])
def test_overwrite_repairs_a_set_whose_description_is_damaged(
    source, tmp_path, name, content
):
    folder = prepare(source, tmp_path)
    path = pathlib.Path(folder) / name
    before = path.read_text()
    path.unlink()
    if content is not None:
        path.write_text(content)
    if name == "metadata.json":
        with pytest.raises(UserError, match=f"{path}: .*; --overwrite makes the set"):
            prepare(source, tmp_path)
    prepare(source, tmp_path, overwrite=True)
    assert path.read_text() == before
    assert notes_in(folder) == 5


def test_overwrite_without_a_source_leaves_the_set_as_it_is(source, tmp_path):
    folder = prepare(source, tmp_path)
    with pytest.raises(UserError, match=r"--overwrite: .* no --source is given"):
        prepare("", tmp_path, overwrite=True)
    shutil.rmtree(source)
    with pytest.raises(UserError, match="no such folder"):
        prepare(source, tmp_path, overwrite=True)
    assert notes_in(folder) == 5


def test_a_source_that_may_not_be_read_is_one_line(source, tmp_path, monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied", str(source))

    with monkeypatch.context() as patch:
        patch.setattr(Builder, "note_counts", refused)
        with pytest.raises(UserError, match=f"^{source}: Permission denied$"):
            prepare(source, tmp_path)
    prepare(source, tmp_path)
    monkeypatch.setattr(Builder, "settings", refused)
    with pytest.raises(UserError, match=f"^{source}: Permission denied$"):
        prepare(source, tmp_path)


def notes_in(folder):
    return tfds.builder_from_directory(folder).info.splits["train"].num_examples


def broken_off(error):
    """A builder's `_notes` that raises an error after the first note."""
    notes = Builder._notes

    def break_off(self, split):
        yield next(notes(self, split))
        raise error

    return break_off


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_an_interrupted_preparation_leaves_nothing_that_looks_whole(
    source, tmp_path, monkeypatch, error
):
    with monkeypatch.context() as patch:
        patch.setattr(Builder, "_notes", broken_off(error))
        with pytest.raises(error):
            prepare(source, tmp_path)
    assert find(tmp_path) is None
    assert notes_in(prepare(source, tmp_path)) == 5


def content_of(folder):
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, UserError, OSError(28, "No space left on device")]
)
def test_a_set_stays_where_the_one_in_its_place_does_not_get_whole(
    source, tmp_path, monkeypatch, error
):
    folder = prepare(source, tmp_path)
    before = content_of(folder)
    monkeypatch.setattr(Builder, "_notes", broken_off(error))
    with pytest.raises((KeyboardInterrupt, UserError)):
        prepare(source, tmp_path, overwrite=True)
    assert content_of(folder) == before
    assert os.listdir(tmp_path / "nsynth_jsonwav") == ["1.0.0"]


def test_a_set_that_a_killed_replacement_left_aside_is_put_back(source, tmp_path):
    folder = prepare(source, tmp_path)
    parent = tmp_path / "nsynth_jsonwav"
    aside = parent / f"replaced.{'0f' * 16}_1.0.0"
    os.rename(folder, aside)
    assert find(tmp_path) is None
    assert prepare("", tmp_path) == folder
    assert notes_in(folder) == 5
    assert os.listdir(parent) == ["1.0.0"]


def test_in_an_object_store_the_source_is_looked_at_first(
    source, tmp_path, monkeypatch
):
    folder = prepare(source, tmp_path)
    archive = source / "nsynth-train.jsonwav.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(b"<html>403 Forbidden</html>")
    monkeypatch.setattr(preparation.files, "is_remote", lambda path: True)
    with pytest.raises(UserError, match="damaged at or after its first member"):
        prepare(source, tmp_path, overwrite=True)
    assert notes_in(folder) == 5
    archive.write_bytes(whole)
    prepare(source, tmp_path, overwrite=True)
    assert notes_in(folder) == 5


def test_what_a_killed_preparation_left_is_removed(source, tmp_path):
    left = tmp_path / "nsynth_jsonwav" / "incomplete.ABCDEF_1.0.0"
    left.mkdir(parents=True)
    (left / "nsynth_jsonwav-train.tfrecord-00000-of-00001").write_bytes(b"half")
    half_removed = tmp_path / "nsynth_jsonwav" / "1.0.0"
    half_removed.mkdir()
    (half_removed / "features.json").write_text("{}")
    assert notes_in(prepare(source, tmp_path)) == 5
    assert not left.exists()


def test_two_processes_do_not_prepare_the_same_set(source, tmp_path):
    folder = tmp_path / "nsynth_jsonwav"
    folder.mkdir()
    other = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is preparing it"):
            prepare(source, tmp_path)
    finally:
        os.close(other)
    assert notes_in(prepare(source, tmp_path)) == 5


def test_size_and_free_disk_are_said_before_the_start(source, tmp_path, caplog):
    caplog.set_level("INFO", logger="absl")
    prepare(source, tmp_path)
    assert f"5 notes: about 642.0 kB; free in {tmp_path}: " in caplog.text


def test_a_full_disk_is_told_before_the_start(source, tmp_path, monkeypatch):
    small = types.SimpleNamespace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    with pytest.raises(UserError, match="642.0 kB needed, 1.0 kB free"):
        prepare(source, tmp_path)
    assert find(tmp_path) is None


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device\ntrace"),
    ],
)
def test_a_disk_that_fills_up_is_one_line(source, tmp_path, monkeypatch, error):
    def fill_up(self, split):
        raise error
        yield

    monkeypatch.setattr(Builder, "_notes", fill_up)
    with pytest.raises(UserError, match=r"^--data_dir=.*: No space left on device$"):
        prepare(source, tmp_path)


def test_a_disk_that_fills_up_as_records_are_written_is_one_line(source, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"^--data_dir=.*: .*File too large$"):
            prepare(source, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("cause", [ValueError("a fault of ours"), None])
def test_other_errors_are_not_taken_for_the_disks(cause):
    error = RuntimeError("text")
    error.__cause__ = cause
    with pytest.raises(RuntimeError), preparation.faults_of_disk("--data_dir=x"):
        raise error


@pytest.mark.parametrize(("asked", "found"), [(3, 3), (100, 5), (0, 1)])
def test_the_number_of_shards_can_be_chosen(source, tmp_path, asked, found):
    folder = prepare(source, tmp_path, num_shards=asked)
    files = [name for name in os.listdir(folder) if "-train.tfrecord-" in name]
    assert len(files) == found


def test_only_the_builders_version_can_be_prepared(source, tmp_path):
    with pytest.raises(UserError, match="only version 1.0.0 can be prepared"):
        prepare(source, tmp_path, "nsynth_jsonwav:2.0.0")


def test_a_data_dir_that_is_a_file_is_one_line(source, tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(UserError, match="cannot be made"):
        prepare(source, path)


@pytest.mark.parametrize(
    ("size", "text"),
    [(999, "999 bytes"), (1_500, "1.5 kB"), (235.4e9, "235.4 GB"), (2e12, "2.0 TB")],
)
def test_sizes_are_readable(size, text):
    assert preparation.readable(size) == text
