"""Training notes as small samplers play them."""

import types

import numpy as np
import pytest
import soundfile

from mic_tf.datasets import catalogue
from tests import processes
from tools import training_notes, write_looped_notes

SECOND = 16_000


def breathy_note(decay: float = 0.0) -> np.ndarray:
    """Harmonics of A3 with noise 20 dB below, for 4 s, that may die away."""
    time = np.arange(4 * SECOND) / SECOND
    tone = sum(np.sin(2 * np.pi * 220.0 * k * time) / k for k in range(1, 12))
    noise = np.random.default_rng(0).normal(0, 0.1, len(time))
    attack = np.minimum(time / 0.02, 1.0)
    return (0.2 * (tone + noise) * attack * np.exp(-decay * time)).astype(np.float32)


def repeats(sound: np.ndarray) -> float:
    """The best correlation of the third second with what is up to 0.5 s later."""
    piece = sound[2 * SECOND : 3 * SECOND]
    shifts = range(40, SECOND // 2)
    return max(
        np.corrcoef(piece, sound[2 * SECOND + s : 3 * SECOND + s])[0, 1] for s in shifts
    )


def levels(sound: np.ndarray) -> np.ndarray:
    frames = sound[: 39 * 1600].reshape(39, 1600)
    return 20 * np.log10(np.sqrt(np.mean(frames**2, axis=1)))


def test_what_is_behind_the_attack_repeats_to_the_noise_in_it():
    sound = breathy_note()
    found = write_looped_notes.looped(sound, 57, np.random.default_rng(3))
    assert found.shape == sound.shape
    assert repeats(sound) < 0.995
    assert repeats(found) > 0.999


@pytest.mark.parametrize("seed", range(6))
def test_attack_and_level_over_time_stay(seed):
    sound = breathy_note(decay=1.0)
    found = write_looped_notes.looped(sound, 57, np.random.default_rng(seed))
    attack = slice(0, int(0.04 * SECOND))
    np.testing.assert_allclose(found[attack], sound[attack], atol=0.02)
    assert np.abs(levels(found) - levels(sound)).max() < 1.0


def test_what_does_not_repeat_is_left_out():
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * SECOND).astype(np.float32)
    random = np.random.default_rng(0)
    assert write_looped_notes.looped(noise, 57, random) is None
    assert write_looped_notes.looped(np.zeros_like(noise), 57, random) is None


def test_each_note_is_written_in_its_copies(small_dataset, tmp_path, monkeypatch):
    given = types.SimpleNamespace(
        dataset="small", data_dir="", out=str(tmp_path), max_notes=8, copies=2
    )
    flags = types.SimpleNamespace(FLAGS=given)
    monkeypatch.setattr(training_notes, "flags", flags)
    monkeypatch.setattr(catalogue, "load_builder", lambda *_: small_dataset)
    write_looped_notes.main([])
    found = sorted(tmp_path.rglob("*.wav"))
    assert len(found) == 16
    assert {path.parts[-3] for path in found} <= {"bass", "guitar", "organ", "vocal"}
    assert all(path.parent.name.startswith(path.parts[-3]) for path in found)
    first, second = (soundfile.read(path)[0] for path in found[:2])
    assert len(first) == len(second) == 64_000
    assert not np.array_equal(first, second)


def test_without_a_folder_nothing_is_written():
    finished = processes.run("tools/write_looped_notes.py", "--dataset=any")
    assert finished.returncode == 2
    assert "--dataset, --out: give both" in finished.stderr
