"""The commands one after another, from sound files to answers."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

PROJECT = pathlib.Path(__file__).parents[1]
RATE = 22_050


def write_sounds(folder: pathlib.Path) -> None:
    """Two classes that anyone can tell apart: four instruments of each, two notes."""
    random = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    for instrument in range(4):
        for note in range(2):
            phase = 2 * np.pi * (220 + 40 * instrument + 15 * note) * time
            sounds = {
                "hum": 0.5 * np.sin(phase),
                "hiss": 0.2 * random.standard_normal(RATE),
            }
            for family, sound in sounds.items():
                path = folder / family / f"instrument_{instrument}" / f"{note}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sound, RATE)


def run(command: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", f"mic_tf.{command}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)  # at the lowest priority beside all tests, as in CI
def test_sound_files_become_a_model_that_answers(tmp_path):
    sounds, data, workdir = (tmp_path / name for name in ("sounds", "data", "run"))
    write_sounds(sounds)
    where = f"--data_dir={data}"
    run("prepare", "--dataset=sample_folder", f"--source={sounds}", where)
    small = ("--width=4", "--dense_units=8", "--n_mels=16", "--batch_size=4")
    run(
        "train",
        *("--dataset=sample_folder", where, f"--workdir={workdir}", "--epochs=1"),
        *small,
    )
    run("evaluate", f"--workdir={workdir}", where, "--split=test")
    run("export", f"--workdir={workdir}")
    answers = run(
        "predict",
        *(f"--model={workdir}/export", "--format=csv", str(sounds)),
    )

    metrics = json.loads(
        (workdir / "eval" / "sample_folder-test" / "metrics.json").read_text()
    )
    assert metrics["n"] == 4
    assert metrics["protocol"] == "official"
    rows = list(csv.DictReader(answers.splitlines()))
    assert len(rows) == 16
    for row in rows:
        assert float(row["hum"]) + float(row["hiss"]) == pytest.approx(1, abs=1e-5)
        assert not row["error"]
