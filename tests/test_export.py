"""The export command as people run it."""

import shutil
import subprocess

import pytest

from tests import processes


def run(*arguments: str) -> subprocess.CompletedProcess:
    return processes.run("-m", "mic_tf.export", *arguments)


def refused(*arguments: str) -> str:
    """The one line with which a command line is refused."""
    finished = processes.anew("-m", "mic_tf.export", *arguments)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    return line


def test_a_work_folder_is_exported_into_itself(tiny_workdir, tmp_path):
    workdir = tmp_path / "run"
    ignored = shutil.ignore_patterns("export")
    shutil.copytree(tiny_workdir, workdir, ignore=ignored)
    finished = run(f"--workdir={workdir}")
    assert finished.returncode == 0, finished.stderr
    assert str(workdir / "export") in finished.stdout
    written = {path.name for path in (workdir / "export").iterdir()}
    assert written >= {"saved_model", "labels.txt", "contract.json"}


@pytest.mark.slow
def test_an_export_is_exported_again_elsewhere(tiny_workdir, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    finished = run(f"--workdir={tiny_workdir}", f"--out={first}", "--weights")
    assert finished.returncode == 0, finished.stderr
    finished = run(f"--workdir={first}/", f"--out={second}", "--tflite=float16")
    assert finished.returncode == 0, finished.stderr
    assert (second / "model_float16.tflite").exists()
    assert not (second / "weights").exists()
    for out in ("", f"{first}/../first"):
        line = refused(f"--workdir={first}", f"--out={out}")
        assert "another folder expected" in line
    assert (first / "contract.json").exists()


def test_mistakes_are_one_line_and_status_2():
    assert "--workdir: missing" in refused()
    assert "unexpected argument" in refused("run")
    assert "unknown" in refused("--workdr=run").lower()
    line = refused("--workdir=run", "--data_dir=nowhere")
    assert line.endswith("no notes are needed without --tflite=int8 or --familiarity")
