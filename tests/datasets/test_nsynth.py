import importlib.util
import os
import shutil
import sys
import types

import pytest
from tensorflow_datasets.core import naming

from mic_tf.datasets import catalogue, names, nsynth, preparation
from mic_tf.errors import UserError
from mic_tf.pipeline import index
from mic_tf.taxonomy import FAMILIES
from tests.datasets import publisher_archives as publisher

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="apache-beam is not installed (requirements-beam.txt)",
)


def prepare(name, data_dir, **settings):
    nsynth.prepare(names.parse_name(name), str(data_dir), **settings)
    return catalogue.load_builder(name, str(data_dir))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("nsynth")
    publisher.write_tfds_cache(data_dir / "downloads", notes=2)
    prepare("nsynth/full", data_dir, beam_options="runner=DirectRunner")
    return data_dir


@needs_beam
def test_the_published_counts_are_said(prepared, caplog):
    caplog.set_level("INFO", logger="absl")
    nsynth._compare_with_published(catalogue.load_builder("nsynth/full", str(prepared)))
    assert "valid: 22 of the published 12,678 notes" in caplog.text


@needs_beam
def test_tfds_builder_prepares_the_publishers_archives(prepared):
    builder = catalogue.load_builder("nsynth/full", str(prepared))
    counts = index.load(builder).counts_by_split()
    assert counts == {s: dict.fromkeys(FAMILIES, 2) for s in ("train", "valid", "test")}
    assert str(builder.info.features["audio"].dtype).endswith("float32'>")


@needs_beam
def test_a_prepared_set_is_used_again_without_any_download(
    prepared, monkeypatch, caplog
):
    monkeypatch.setattr(nsynth, "_pipeline_options", None)
    caplog.set_level("INFO", logger="absl")
    prepare("nsynth/full:2.3.3", prepared)
    assert "is prepared already" in caplog.text


def test_overwrite_keeps_the_prepared_set_until_the_new_one_is_whole(
    tmp_path, monkeypatch
):
    folder = tmp_path / "nsynth" / "full" / "2.3.3"
    monkeypatch.setattr(catalogue, "find_prepared", lambda name, data_dir: str(folder))
    for step in ("_pipeline_options", "_download", "_warn_of_memory"):
        monkeypatch.setattr(nsynth, step, lambda *_: None)
    monkeypatch.setattr(nsynth, "_compare_with_published", lambda _: None)
    written = []
    size = 1000

    def generate(*_):
        assert not folder.exists()
        folder.mkdir()
        (folder / "records").write_text("half")
        if not written:
            raise UserError("the disk is full")
        (folder / "records").write_text(written[-1])
        (folder / "dataset_info.json").write_text("{}")

    monkeypatch.setattr(nsynth, "_generate", generate)

    def opened(name, data_dir):
        found, arguments = naming.parse_builder_name_kwargs(name, data_dir=data_dir)
        assert (str(found), arguments["config"]) == ("nsynth", "full")
        info = types.SimpleNamespace(dataset_size=size)
        return types.SimpleNamespace(data_dir=folder, info=info)

    monkeypatch.setattr(nsynth.tfds, "builder", opened)
    folder.mkdir(parents=True)
    (folder / "records").write_text("old")
    (folder / "dataset_info.json").write_text("{}")
    half = folder.parent / "incomplete.0_2.3.3"
    half.mkdir()
    for text in ("nsynth/full", "nsynth/full:2.3.3"):
        name = names.parse_name(text)
        before = (folder / "records").read_text()
        nsynth.prepare(name, str(tmp_path))
        if not written:
            with pytest.raises(UserError, match="the disk is full"):
                nsynth.prepare(name, str(tmp_path), overwrite=True)
        assert (folder / "records").read_text() == before
        written.append(text)
        nsynth.prepare(name, str(tmp_path), overwrite=True)
        assert (folder / "records").read_text() == text
    assert os.listdir(folder.parent) == ["2.3.3"]
    size = 10**18
    with pytest.raises(UserError, match=r"--data_dir=.*: 1000000\.0 TB needed"):
        nsynth.prepare(names.parse_name("nsynth/full"), str(tmp_path), overwrite=True)
    assert (folder / "records").read_text() == "nsynth/full:2.3.3"


def test_nsynth_is_prepared_by_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(nsynth, "_pipeline_options", lambda *_: None)
    folder = tmp_path / "nsynth" / "full" / "2.3.3"
    refused = pytest.raises(UserError, match="another process is preparing it")
    with preparation.one_at_a_time(str(folder)), refused:
        nsynth.prepare(names.parse_name("nsynth/full"), str(tmp_path))


@needs_beam
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("runner=NoSuchRunner", "Unexpected pipeline runner: NoSuchRunner"),
        ("runner=DirectRunner, direct_workers=2", "no option direct_workers"),
    ],
)
def test_wrong_beam_options_are_named(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        prepare("nsynth/full", tmp_path, beam_options=options)


@needs_beam
def test_a_file_put_there_by_hand_is_checked_for_its_size(tmp_path):
    publisher.write_tfds_cache(tmp_path / "downloads", notes=1)
    cached = tmp_path / "downloads" / "nsynth"
    for path in cached.glob("*test*"):
        path.unlink()
    by_hand = tmp_path / "by_hand"
    by_hand.mkdir()
    (by_hand / "nsynth-test.tfrecord.tar").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"3 bytes, 1,050,327,040 expected"):
        prepare("nsynth/full", tmp_path, downloads=str(by_hand))


@needs_beam
def test_a_disk_that_is_too_small_is_told_before_the_download(tmp_path, monkeypatch):
    def no_download(download):
        raise AssertionError(download)

    monkeypatch.setattr(nsynth, "fetch", no_download)
    small_disk = types.SimpleNamespace(free=10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small_disk)
    with pytest.raises(UserError, match=r"235.4 GB needed, 1.0 GB free"):
        prepare("nsynth/full", tmp_path)


@needs_beam
@pytest.mark.parametrize("kept", [0, 200_000])
def test_a_damaged_archive_is_named(tmp_path, kept):
    publisher.write_tfds_cache(tmp_path / "downloads", notes=1)
    (path,) = (tmp_path / "downloads" / "nsynth").glob("*vali*.tar")
    path.write_bytes(path.read_bytes()[:kept] or b"<html>403 Forbidden</html>" * 100)
    with pytest.raises(UserError, match="delete that file and run") as caught:
        prepare("nsynth/full", tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    name = names.parse_name("nsynth/full")
    assert catalogue.find_prepared(name, str(tmp_path)) is None


def test_the_gansynth_subset_comes_with_a_warning(tmp_path, caplog, monkeypatch):
    def stop(options):
        raise UserError("stop")

    monkeypatch.setattr(nsynth, "_pipeline_options", stop)
    with pytest.raises(UserError, match="stop"):
        prepare("nsynth/gansynth_subset", tmp_path)
    assert "same instruments in train, valid and test" in caplog.text


def test_without_beam_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match="pip install -r requirements-beam.txt"):
        prepare("nsynth/full", tmp_path)
