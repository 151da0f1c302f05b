"""Training notes that went through codecs."""

import types

import numpy as np
import pytest
import soundfile

from mic_tf.audio import reading
from mic_tf.datasets import catalogue
from tests import processes
from tools import training_notes, write_codec_notes


@pytest.fixture
def write(small_dataset, tmp_path, monkeypatch):
    """Runs the program; gives the folder that it wrote."""

    def run(**values):
        out = tmp_path / "codec"
        given = {"dataset": "small", "data_dir": "", "out": str(out)}
        found = types.SimpleNamespace(**given | {"max_notes": 0, "copies": 1} | values)
        flags = types.SimpleNamespace(FLAGS=found)
        monkeypatch.setattr(training_notes, "flags", flags)
        monkeypatch.setattr(catalogue, "load_builder", lambda *_: small_dataset)
        write_codec_notes.main([])
        return out

    return run


def test_each_training_note_comes_back_under_family_and_instrument(write):
    found = sorted(path for path in write().rglob("*") if path.is_file())
    assert len(found) == 36
    families = {path.parts[-3] for path in found}
    assert families == {"bass", "guitar", "organ", "vocal"}
    assert all(path.parent.name.startswith(path.parts[-3]) for path in found)
    headers = [soundfile.info(path) for path in found]
    assert {header.subtype for header in headers} == {
        encoding for _, encoding, _ in write_codec_notes.CODECS
    }
    for path in found[:8]:
        waveform = reading.read(path)
        # Codecs may add a frame or so of padding.
        assert abs(waveform.size - 64_000) < 2500
        assert np.abs(waveform).max() > 0.01


def test_few_notes_and_several_copies_are_what_was_asked_for(write):
    names = [path.name for path in write(max_notes=6, copies=3).rglob("*.*")]
    stems = {name.rpartition("-")[0] for name in names}
    assert (len(names), len(stems)) == (18, 6)


def test_without_a_folder_nothing_is_written():
    finished = processes.run("tools/write_codec_notes.py", "--dataset=any")
    assert finished.returncode == 2
    assert "--dataset, --out: give both" in finished.stderr


def test_names_that_are_no_file_names_stay_apart():
    names = {training_notes.file_name(name) for name in ("a/b#0", "a_b_0", "a/b_0")}
    assert len(names) == 3
    assert not any("/" in name or "#" in name for name in names)
