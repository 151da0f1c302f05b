"""The export command as people run it."""

import shutil
import subprocess

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


def test_mistakes_are_one_line_and_status_2():
    assert "--workdir: missing" in refused()
    assert "unexpected argument" in refused("run")
    assert "unknown" in refused("--workdr=run").lower()
