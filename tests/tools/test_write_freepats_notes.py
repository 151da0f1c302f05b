"""Notes of TiMidity's patches; a stand-in plays where TiMidity is not installed."""

import os
import pathlib

import mido
import numpy as np
import pytest
import soundfile

from tests import processes
from tools import write_freepats_notes
from tools.write_freepats_notes import Note

CONFIG = """drumset 0
 25\tDrum_000/025_Snare_Roll.pat
bank 0
 0\tTone_000/000_Acoustic_Grand_Piano.pat\tamp=120
#1\tTone_000/001_Bright.pat
 73\tTone_000/073_Flute.pat
"""


@pytest.fixture
def timidity(tmp_path, monkeypatch) -> pathlib.Path:
    """Stands in for the program: keeps the MIDI file and gives 5 s of a tone."""
    folder = tmp_path / "bin"
    folder.mkdir()
    sound = 0.3 * np.sin(np.arange(80_000) / 5.0)
    soundfile.write(folder / "tone.wav", sound, 16_000)
    program = folder / "timidity"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\n'
        f'while [ "$1" != -o ]; do shift; done\n'
        f'cp "$3" {folder}/last.mid; cp {folder}/tone.wav "$2"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_programs_are_those_of_the_melodic_bank_that_are_not_commented_out():
    assert write_freepats_notes.patches(CONFIG) == {0, 73}


def test_each_program_plays_its_range_at_both_velocities():
    wanted = list(write_freepats_notes.notes({0, 73}))
    assert {note.family for note in wanted} == {"keyboard", "flute"}
    piano = [note for note in wanted if note.program == 0]
    assert len(piano) == len(set(piano)) == 52
    assert (min(n.pitch for n in piano), max(n.pitch for n in piano)) == (21, 108)


def test_a_note_is_held_for_three_seconds(timidity):
    sound = write_freepats_notes.played(Note("flute", 73, 60, 110), "patches.cfg")
    assert sound.shape == (64_000,)
    file = mido.MidiFile(timidity / "last.mid")
    assert file.length == pytest.approx(4.0)
    on, off = (each for each in file if each.type in ("note_on", "note_off"))
    assert (on.note, on.velocity, off.note) == (60, 110, 60)
    assert (on.time, off.time) == (0.0, pytest.approx(3.0))
    assert (
        "-c patches.cfg -Ow --output-mono -s 16000" in (timidity / "asked").read_text()
    )


def test_files_are_under_family_and_program(timidity, tmp_path):
    config = tmp_path / "patches.cfg"
    config.write_text(CONFIG.replace(" 0\t", "#0\t"))
    program = "tools/write_freepats_notes.py"
    finished = processes.run(program, f"--out={tmp_path}/out", f"--config={config}")
    assert finished.returncode == 0, finished.stderr
    found = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*-*.wav"))
    assert f"{len(found)} notes of 1 programs" in finished.stdout
    assert len(found) == len(list(write_freepats_notes.notes({73})))
    assert str(found[0].parent) == "out/flute/freepats073"


def test_nothing_to_play_is_said(timidity, tmp_path):
    config = tmp_path / "patches.cfg"
    program = ("tools/write_freepats_notes.py", f"--out={tmp_path}/out")
    config.write_bytes(b"# caf\xe9\nsource other.cfg\n")
    finished = processes.run(*program, f"--config={config}")
    assert finished.returncode == 2
    assert f"--config={config}: no patch of a melodic program" in finished.stderr
    config.write_text(CONFIG)
    soundfile.write(timidity / "tone.wav", np.zeros(80_000), 16_000)
    finished = processes.run(*program, f"--config={config}")
    assert finished.returncode == 2
    assert "TiMidity plays nothing but silence" in finished.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out="], "--out: missing"),
        (["--config=nowhere.cfg"], "--config=nowhere.cfg: No such file"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, arguments, said):
    program = "tools/write_freepats_notes.py"
    finished = processes.run(program, f"--out={tmp_path}/out", *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr and "Traceback" not in finished.stderr


def test_without_timidity_it_is_said_which_package_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(write_freepats_notes.UserError, match="timidity: not installed"):
        write_freepats_notes.played(Note("flute", 73, 60, 110), "patches.cfg")
