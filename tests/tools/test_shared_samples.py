"""What two SoundFonts have in common."""

import struct

import numpy as np
import pytest

from tests import processes
from tools import shared_samples


def write_soundfont(path, recordings, *, kind=1):
    """An .sf2 of named recordings with the zeros between them that the format asks."""
    gap = np.zeros(46, np.int16)
    samples, headers = [], b""
    at = 0
    for name, sound in recordings.items():
        headers += struct.pack(
            "<20s5IBbHH",
            name.encode(),
            at,
            at + len(sound),
            0,
            0,
            44_100,
            60,
            0,
            0,
            kind,
        )
        samples += [sound, gap]
        at += len(sound) + len(gap)
    headers += struct.pack("<20s5IBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def chunk(name, content):
        return (
            name
            + struct.pack("<I", len(content))
            + content
            + b"\0" * (len(content) % 2)
        )

    body = b"sfbk" + chunk(b"LIST", b"INFO" + chunk(b"ifil", struct.pack("<2H", 2, 1)))
    body += chunk(b"LIST", b"sdta" + chunk(b"smpl", np.concatenate(samples).tobytes()))
    body += chunk(b"LIST", b"pdta" + chunk(b"shdr", headers))
    path.write_bytes(chunk(b"RIFF", body))
    return str(path)


def sound(seed, length=500):
    return np.random.default_rng(seed).integers(-9_000, 9_000, length, dtype=np.int16)


def test_what_two_files_share_is_found_wherever_it_lies(tmp_path, monkeypatch):
    own = {"Piano": sound(1), "Flute": sound(2), "Silence": np.zeros(400, np.int16)}
    other = {"A": sound(3), "B": np.concatenate([sound(4, 7), sound(2)[:300]])}
    first = shared_samples.read(write_soundfont(tmp_path / "own.sf2", own))
    second = shared_samples.read(write_soundfont(tmp_path / "other.sf2", other))
    assert [name for name, *_ in first.recordings] == ["Piano", "Flute", "Silence"]
    # Where the other file is looked at in pieces nothing at their edges is missed.
    for at_once in (1 << 22, 100):
        monkeypatch.setattr(shared_samples, "_AT_ONCE", at_once)
        rows = shared_samples.Rows(first.samples)
        is_shared = rows.shared(second.samples)
        by_name = {n: int(is_shared[a:b].sum()) for n, a, b in first.recordings}
        assert by_name == {"Piano": 0, "Flute": 300, "Silence": 0}
        assert not rows.counts[first.recordings[2][1] + 30 :].any()


def test_silence_is_no_sound_in_common():
    silence = np.zeros(1_000, np.int16)
    rows = shared_samples.Rows(silence)
    assert not rows.shared(silence).any() and not rows.counts.any()
    assert not shared_samples.Rows(sound(1, 10)).shared(silence).any()


def test_the_table_has_a_row_for_each_other_file(tmp_path):
    own = write_soundfont(tmp_path / "own.sf2", {"Piano": sound(1), "Flute": sound(2)})
    other = write_soundfont(tmp_path / "other.sf2", {"X": sound(2)})
    none = write_soundfont(tmp_path / "none.sf2", {"X": sound(5)})
    finished = processes.run(
        *("tools/shared_samples.py", f"--soundfont={own}", f"--others={other},{none}")
    )
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]
    ]
    assert [row[1] for row in cells] == ["other.sf2", "none.sf2"]
    # Rows of samples that reach into the silence beside a recording count with it.
    assert 45 < float(cells[0][2].rstrip("%")) < 55 and cells[1][2] == "0.0%"
    assert [row[3:] for row in cells] == [["1", "2", "Flute"], ["0", "2", ""]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_bytes(b"RIFF\4\0\0\0WAVE"), "no SoundFont 2 file"),
        (lambda path: path.write_bytes(b""), "no SoundFont 2 file"),
        (
            lambda path: write_soundfont(path, {"A": sound(1)}, kind=0x11),
            "its samples are compressed",
        ),
    ],
)
def test_a_file_that_cannot_be_compared_is_said(tmp_path, make, said):
    path = tmp_path / "bank.sf2"
    make(path)
    finished = processes.run(
        "tools/shared_samples.py", f"--soundfont={path}", "--others=other.sf2"
    )
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {path}: {said}")
