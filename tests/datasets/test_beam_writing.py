import importlib.util
import json
import os
import pathlib
import sys

import numpy as np
import pytest
import soundfile

from mic_tf.datasets import names, preparation
from mic_tf.datasets.nsynth_jsonwav import nsynth_jsonwav_dataset_builder
from mic_tf.datasets.sample_folder import sample_folder_dataset_builder
from mic_tf.datasets.soundfont_notes import soundfont_notes_dataset_builder
from mic_tf.errors import UserError
from tests.datasets import publisher_archives as publisher

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="apache-beam is not installed (requirements-beam.txt)",
)
BUILDERS = {
    "nsynth_jsonwav": nsynth_jsonwav_dataset_builder.Builder,
    "sample_folder": sample_folder_dataset_builder.Builder,
    "soundfont_notes": soundfont_notes_dataset_builder.Builder,
}


def prepare(dataset, data_dir, **settings):
    folder = preparation.prepare(
        BUILDERS[dataset],
        names.parse_name(dataset),
        str(data_dir),
        source_given=True,
        num_shards=3,
        **settings,
    )
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


@pytest.fixture
def archives(tmp_path):
    """Two splits of NSynth in small; one WAV file of train is cut off."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for split, instruments in (
        ("train", ["bass_synthetic_001", "reed_acoustic_002"]),
        ("valid", ["organ_electronic_003"]),
    ):
        members = publisher.split_members(split, instruments, notes=4)
        cut = f"nsynth-{split}/audio/{instruments[0]}-041-100.wav"
        if split == "train":
            members[cut] = members[cut][:500]
        publisher.write_jsonwav(folder, split, members)
    return folder


@pytest.fixture
def recordings(tmp_path):
    """Two classes of three files, the first of 9 s, one of them no sound file."""
    folder = tmp_path / "recordings"
    for family in ("gong", "saw"):
        for i in range(5):
            path = folder / family / f"{family}{i}" / "take.wav"
            path.parent.mkdir(parents=True)
            tone = np.sin(np.arange(16_000 * (9 if i == 0 else 1)) * (0.1 + 0.01 * i))
            soundfile.write(path, 0.5 * tone, 16_000)
    (folder / "saw" / "saw3" / "take.wav").write_bytes(b"no sound")
    return folder


def assert_same_files(plain, with_beam):
    assert plain.keys() == with_beam.keys()
    for name in plain:
        if name == "dataset_info.json":
            before, after = json.loads(plain[name]), json.loads(with_beam[name])
            assert before["splits"] == after["splits"]
        else:
            assert plain[name] == with_beam[name], name


@needs_beam
@pytest.mark.parametrize("options", ["", "direct_num_workers=2"])
def test_rendered_notes_are_the_same_byte_for_byte(tmp_path, monkeypatch, options):
    pytest.importorskip("tinysoundfont", reason="tinysoundfont is not installed")
    monkeypatch.setattr(soundfont_notes_dataset_builder, "_NOTES_AT_ONCE", 7)
    plain = prepare("soundfont_notes", tmp_path / "plain", train_notes=40)
    beam = prepare("soundfont_notes", tmp_path / "beam", train_notes=40, beam=options)
    assert sum("tfrecord" in name for name in beam) == 9
    assert_same_files(plain, beam)


@needs_beam
@pytest.mark.parametrize("dataset", ["nsynth_jsonwav", "sample_folder"])
def test_what_was_left_out_is_listed_as_without_beam(request, tmp_path, dataset):
    fixture = "archives" if dataset == "nsynth_jsonwav" else "recordings"
    settings = {"source": str(request.getfixturevalue(fixture)), "skip_bad": True}
    plain = prepare(dataset, tmp_path / "plain", **settings)
    beam = prepare(dataset, tmp_path / "beam", **settings, beam="")
    assert plain["left_out.csv"].count(b"\n") == 2
    assert_same_files(plain, beam)


@needs_beam
@pytest.mark.parametrize("options", ["", "direct_running_mode=multi_processing"])
def test_a_fault_is_the_same_line_as_without_beam(archives, tmp_path, options):
    with pytest.raises(UserError) as plain:
        prepare("nsynth_jsonwav", tmp_path, source=str(archives))
    with pytest.raises(UserError) as beam:
        prepare("nsynth_jsonwav", tmp_path, source=str(archives), beam=options)
    assert "bass_synthetic_001-041-100.wav" in str(beam.value)
    assert str(beam.value) == str(plain.value)
    left = os.listdir(tmp_path / "nsynth_jsonwav")
    assert all(entry.startswith("incomplete") for entry in left)


def test_without_beam_one_line_says_what_to_install(recordings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match="pip install -r requirements-beam.txt"):
        prepare("sample_folder", tmp_path, source=str(recordings), beam="")
