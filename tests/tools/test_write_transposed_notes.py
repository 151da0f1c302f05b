"""Recordings of notes at several pitches."""

import numpy as np
import pytest
import soundfile

from tests import processes
from tools import write_transposed_notes

RATE = 44_100


def tone(hertz: float, seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def loudest_hertz(sound: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(sound, 16_000 * 16))
    return float(np.argmax(spectrum)) / 16


def write(out, *arguments: str):
    program = "tools/write_transposed_notes.py"
    return processes.run(program, f"--out={out}", *arguments)


def test_the_first_copy_is_the_recording_and_others_are_near_it(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name, hertz, seconds in (("long", 440.0, 5.0), ("short", 880.0, 1.0)):
        sound = np.stack([tone(hertz, seconds)] * 2, axis=1)
        soundfile.write(source / f"{name}.wav", sound, RATE)
    (source / "README.md").write_text("no sound")
    finished = write(tmp_path / "out", f"--instrument=reed:sax/1:{source}")
    assert finished.returncode == 0, finished.stderr
    assert "16 files of 2 recordings" in finished.stdout
    folder = tmp_path / "out" / "reed" / "sax%2F1"
    assert len(list(folder.iterdir())) == 16
    found = {}
    for name, hertz in (("long", 440.0), ("short", 880.0)):
        for copy in range(8):
            sound, rate = soundfile.read(folder / f"{name}-{copy}.wav")
            assert rate == 16_000 and len(sound) <= 64_000
            found[name, copy] = 12 * np.log2(loudest_hertz(sound) / hertz)
    assert abs(found["long", 0]) < 0.05 and abs(found["short", 0]) < 0.05
    others = [semitones for (_, copy), semitones in found.items() if copy]
    assert max(np.abs(others)) < 2.6 and np.ptp(others) > 2.0
    assert len({round(semitones, 3) for semitones in others}) == 14


def test_higher_is_shorter():
    sound = write_transposed_notes.transposed(tone(440.0, 2.0), RATE, 12.0)
    assert len(sound) == 16_000
    assert loudest_hertz(sound) == pytest.approx(880.0, abs=1.0)


def test_recordings_of_one_name_in_other_folders_stay_apart(tmp_path):
    for name in ("a/C4.wav", "b/C4.wav"):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True)
        soundfile.write(path, tone(440.0, 0.5), RATE)
    source = f"--instrument=reed:sax:{tmp_path}/source"
    assert write(tmp_path / "out", source, "--copies=2").returncode == 0
    folder = tmp_path / "out" / "reed" / "sax"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}%2FC4-{copy}.wav" for name in "ab" for copy in range(2)
    ]
    finished = write(tmp_path / "again", source, source)
    assert finished.returncode == 2
    assert "a/C4.wav: would have the names of" in finished.stderr


def test_what_cannot_be_read_or_written_is_one_line(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    soundfile.write(source / "empty.wav", np.zeros(0), RATE)
    finished = write(tmp_path / "out", f"--instrument=reed:sax:{source}")
    assert finished.returncode == 2 and "empty.wav: no sound in it" in finished.stderr
    soundfile.write(source / "empty.wav", tone(440.0, 0.5), RATE)
    (tmp_path / "file").write_text("")
    finished = write(tmp_path / "file", f"--instrument=reed:sax:{source}")
    assert finished.returncode == 2 and "Traceback" not in finished.stderr
    assert f"--out={tmp_path}/file: " in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out, --instrument: give both"),
        (["--instrument=reed:sax"], "--instrument=reed:sax: FAMILY:NAME:FOLDER"),
        (["--instrument=sax:a:b"], "with a family of bass, brass"),
        (["--instrument=reed:..:b"], "--instrument=reed:..:b: FAMILY:NAME:FOLDER"),
        (["--instrument=reed:a:b", "--semitones=nan"], "--semitones=nan: 0 to 24"),
        (["--instrument=reed:sax:nowhere"], "nowhere: "),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path, arguments, said):
    finished = write(tmp_path / "out", *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr and "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists()
