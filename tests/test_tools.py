"""Scripts, requirements and job files around the package: what needs no network."""

import dataclasses
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from mic_tf import settings
from tests import processes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted([*PROJECT.glob("tools/*.sh"), PROJECT / ".ci" / "run"])
REQUIREMENTS = sorted(PROJECT.glob("requirements*.txt"))
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def entries(path: pathlib.Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def pins(path: pathlib.Path, python: str) -> dict[str, str]:
    """Exact versions for one Python on Linux, by normalized name."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "implementation_name": "cpython",
    }
    found: dict[str, str] = {}
    for entry in entries(path):
        if entry.marker and not entry.marker.evaluate(environment):
            continue
        [specifier] = entry.specifier
        assert specifier.operator == "==", f"{path.name}: {entry}"
        name = re.sub(r"[-_.]+", "-", entry.name).lower()
        assert name not in found, f"{path.name}: {name} twice on Python {python}"
        found[name] = specifier.version
    return found


def fake_python(path: pathlib.Path, version: str) -> str:
    """A program that answers like a Python of this version and does nothing else."""
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def copied_tools(tmp_path) -> pathlib.Path:
    """The scripts in a project folder without an environment."""
    shutil.copytree(PROJECT / "tools", tmp_path / "project" / "tools")
    for path in (*REQUIREMENTS, PROJECT / "constraints.txt"):
        shutil.copy(path, tmp_path / "project")
    return tmp_path / "project"


def files_below(folder: pathlib.Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder))
        for path in paths
        if "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def bash(script: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash(script):
    finished = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert finished.stderr == ""


@pytest.mark.parametrize("version", ["3.9", "3.14"])
@pytest.mark.parametrize("script", ["test.sh", "quickstart.sh"])
def test_another_python_is_refused_in_one_sentence(
    script, version, copied_tools, tmp_path
):
    python = fake_python(tmp_path / "python", version)
    finished = bash(f"bash {copied_tools}/tools/{script}", PYTHON=python)
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert f"3.10, 3.11, 3.12 or 3.13 is needed, and {python} is {version}" in line


def test_a_python_that_is_not_there_is_named(copied_tools):
    finished = bash(f"bash {copied_tools}/tools/test.sh", PYTHON="python3.77")
    assert finished.returncode == 2
    assert "python3.77 is not to be found" in finished.stderr


def test_each_python_has_its_own_environment(copied_tools, tmp_path):
    first = fake_python(tmp_path / "first", "3.12")
    second = fake_python(tmp_path / "second", "3.13")
    folder = copied_tools / ".venv" / "bin"
    script = f"source {copied_tools}/tools/environment.sh; environment_folder"
    assert bash(f"{script} {second}").stdout.strip() == str(copied_tools / ".venv")
    folder.mkdir(parents=True)
    fake_python(folder / "python", "3.12")
    assert bash(f"{script} {first}").stdout.strip() == str(copied_tools / ".venv")
    assert bash(f"{script} {second}").stdout.strip() == str(copied_tools / ".venv-3.13")


def test_an_environment_is_reused_until_requirements_change(copied_tools, tmp_path):
    folder = copied_tools / ".venv" / "bin"
    folder.mkdir(parents=True)
    fake_python(folder / "python", "3.12")
    calls = tmp_path / "calls"
    (folder / "python").write_text(f'#!/bin/sh\necho 3.12\necho "$@" >>{calls}\n')
    script = f"source {copied_tools}/tools/environment.sh; use_environment dev"

    def installs() -> list[str]:
        calls.unlink(missing_ok=True)
        finished = bash(script)
        assert finished.returncode == 0, finished.stderr
        lines = calls.read_text().splitlines()
        return [line for line in lines if line.startswith("-m pip install")]

    first = installs()
    assert len(first) == 2
    assert "-r requirements.txt -r requirements-dev.txt" in first[0]
    assert "--no-deps -r requirements-nodeps.txt" in first[1]
    assert installs() == []
    with (copied_tools / "requirements-dev.txt").open("a") as file:
        file.write("# changed\n")
    [again, _] = installs()
    assert "-r requirements-dev.txt" in again
    assert "-r requirements.txt" not in again


@pytest.mark.parametrize(
    ("installed", "is_kept"),
    [
        (["pip", "setuptools", "wheel-0.4.dist-info", "_distutils_hack"], False),
        (["pip", "numpy"], True),
        ([], False),
    ],
)
def test_an_environment_with_packages_of_others_is_not_cleared(
    copied_tools, tmp_path, installed, is_kept
):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$2" = venv ] && rm -rf "$4"\necho 3.12\n')
    python.chmod(0o755)
    folder = copied_tools / ".venv"
    packages = folder / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    for name in installed:
        (packages / name).mkdir()
    script = f"source {copied_tools}/tools/environment.sh; choose_environment"
    finished = bash(script, PYTHON=str(python))
    assert packages.exists() is is_kept
    assert finished.returncode == (2 if is_kept else 0)
    if is_kept:
        assert f"{folder} has packages, and its Python" in finished.stderr
        (folder / "installed").touch()  # By these scripts: theirs to make anew.
        assert bash(script, PYTHON=str(python)).returncode == 0


def test_an_environment_without_pip_gets_it(copied_tools, tmp_path):
    (copied_tools / ".venv" / "bin").mkdir(parents=True)
    python = copied_tools / ".venv" / "bin" / "python"
    calls = tmp_path / "calls"
    python.write_text(
        f'#!/bin/sh\necho "$@" >>{calls}\necho 3.12\n'
        f'[ "$2" != pip ] || grep -q ensurepip {calls}\n'
    )
    python.chmod(0o755)
    script = f"source {copied_tools}/tools/environment.sh; choose_environment"
    finished = bash(script)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert calls.read_text().splitlines()[-2:] == ["-m ensurepip", "-m pip --version"]
    # A pip that ensurepip takes for whole and that does not work.
    python.write_text('#!/bin/sh\necho 3.12\n[ "$2" != pip ]\n')
    assert bash(script).stdout.startswith("making .venv with Python 3.12")


def test_paths_of_a_person_are_theirs_from_wherever_a_script_goes(tmp_path):
    script = f"cd {tmp_path}; source {PROJECT}/tools/environment.sh; absolute"
    for given, wanted in (
        ("notes", f"{tmp_path}/notes"),
        ("/notes", "/notes"),
        ("pretrained", "pretrained"),
        ("gs://bucket/run", "gs://bucket/run"),
        ("~/notes", "/home/me/notes"),
        ("", ""),
    ):
        assert bash(f"{script} '{given}'", HOME="/home/me").stdout == f"{wanted}\n"


def test_a_folder_made_with_other_arguments_is_not_gone_on_with(tmp_path):
    scripts = f"source {PROJECT}/tools/environment.sh; source {PROJECT}/tools/steps.sh"
    made = f"{scripts}; made_with {tmp_path}/folder"
    assert bash(f"{made} pretrained 'a font.sf2'").returncode == 0
    assert bash(f"{made} pretrained 'a font.sf2'").returncode == 0
    finished = bash(f"{made} runs/mine 'a font.sf2'")
    assert finished.returncode == 2
    assert "folder was begun with pretrained a font.sf2; name an" in finished.stderr


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_one_exact_version(path, python):
    assert pins(path, python)


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_agree_with_requirements(python):
    constraints = pins(PROJECT / "constraints.txt", python)
    for path in REQUIREMENTS:
        if path.name == "requirements-nodeps.txt":
            continue
        for name, version in pins(path, python).items():
            if name != "torch":  # its builds differ, so nothing else depends on it
                assert constraints[name] == version, f"{path.name}: {name}"


def test_both_lanes_have_their_tensorflow():
    first = pins(PROJECT / "requirements.txt", "3.12")
    second = pins(PROJECT / "requirements.txt", "3.13")
    assert (first["tensorflow"], second["tensorflow"]) == ("2.17.1", "2.21.0")
    assert "tensorflow-io" in first
    assert "tensorflow-io" not in second
    gpu = PROJECT / "requirements-gpu.txt"
    assert {str(entry).split("=")[0] for entry in entries(gpu)} == {
        "tensorflow[and-cuda]"
    }
    for python in PYTHONS:
        wanted = pins(PROJECT / "requirements.txt", python)["tensorflow"]
        assert pins(gpu, python)["tensorflow"] == wanted


def test_pyproject_names_commands_that_exist():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"]["file"] == ["requirements.txt"]
    scripts = project["project"]["scripts"]
    assert "mic-train" in scripts
    for command, target in scripts.items():
        module, function = target.split(":")
        assert command == "mic-" + module.removeprefix("mic_tf.").replace("_", "-")
        source = (PROJECT / f"{module.replace('.', '/')}.py").read_text()
        assert f"def {function}() -> None:" in source


@pytest.mark.slow
def test_the_installed_package_has_its_commands_and_all_files(tmp_path):
    ignored = shutil.ignore_patterns(".*", "quickstart", "runs", "build", "*.egg-info")
    shutil.copytree(PROJECT, tmp_path / "source", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    offline = ["--no-build-isolation", "--no-index"]
    target = tmp_path / "target"
    subprocess.run(
        [*pip, *offline, "--target", target, tmp_path / "source"], check=True
    )
    assert (target / "bin" / "mic-train").is_file()
    assert files_below(target / "mic_tf") == files_below(PROJECT / "mic_tf")
    [metadata] = target.glob("mic_tf-*.dist-info/METADATA")
    assert 'tensorflow==2.21.0; python_version >= "3.13"' in metadata.read_text()
    assert not (target / "tests").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--source: missing"),
        ("--source=/nowhere", "--source=/nowhere: no such folder"),
        ("--source=/tmp --soundfont=/a.sf2,/b.sf3", "/a.sf2: no such file"),
        ("--source=/tmp '--soundfont=/my fonts/a.sf2,/b.sf3'", "/my fonts/a.sf2: no"),
        ("--sauce=/tmp", "--sauce=/tmp: --source, --folder, --soundfont or --out"),
    ],
)
def test_mistakes_in_making_the_bundled_model_are_one_line(arguments, message):
    finished = bash(f"bash {PROJECT}/tools/make_pretrained.sh {arguments}")
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert message in line


def test_the_bundled_model_is_made_of_the_notes_that_its_config_names():
    config = (PROJECT / "mic_tf" / "configs" / "best.cfg").read_text()
    script = (PROJECT / "tools" / "make_pretrained.sh").read_text()
    said = " ".join(config.replace("#", " ").replace("\\", " ").split())
    done = " ".join(script.replace("\\", " ").split())
    [options] = re.findall(r"mic_tf.prepare (--dataset=\S+ .*?) --soundfont", said)
    assert f"mic_tf.prepare {options}" in done
    [fonts] = re.findall(r"--soundfont=(\S+)", said)
    assert all(name in script for name in fonts.split(","))


def test_a_soundfont_that_lacks_a_new_class_is_refused_before_a_note_is_written(
    tmp_path, monkeypatch
):
    path = PROJECT / "tools" / "write_new_classes.py"
    code = f"""
import runpy, sys
from mic_tf.datasets.soundfont_notes import rendering
rendering.SoundFont.has = lambda self, bank, program: program != 108
sys.argv = ["write_new_classes.py", "--out={tmp_path / "notes"}"]
runpy.run_path({str(path)!r}, run_name="__main__")
"""
    done = processes.run("-c", code)
    assert done.returncode == 2
    assert "has no General MIDI program 108 (kalimba)" in done.stderr
    assert not (tmp_path / "notes").exists()


def test_notes_of_new_classes_share_no_pitch_between_splits():
    path = PROJECT / "tools" / "write_new_classes.py"
    new_classes = runpy.run_path(str(path))
    counts = {"train": 16, "valid": 4, "test": 20}
    for name, (_, low, high) in new_classes["PROGRAMS"].items():
        planned = new_classes["plan"](name, low, high)
        assert {split: len(set(notes)) for split, notes in planned.items()} == counts
        pitches = [{pitch for pitch, _ in notes} for notes in planned.values()]
        assert len(set.union(*pitches)) == sum(map(len, pitches))
        assert low <= min(map(min, pitches)) and max(map(max, pitches)) <= high


def test_figures_are_printed_beside_their_protocol(tmp_path):
    metrics = tmp_path / "metrics.json"
    metrics.write_text(
        '{"dataset": "d/1.0.0", "split": "test", "protocol": "official", "n": 7,'
        '"accuracy": 0.5, "balanced_accuracy": 0.25, "macro_f1": 0.125,'
        '"families_present": ["bass", "reed"]}'
    )
    script = PROJECT / "tools" / "print_figures.py"
    finished = subprocess.run(
        [sys.executable, script, metrics], capture_output=True, text=True, check=True
    )
    head, *rows = finished.stdout.splitlines()
    assert head == "d/1.0.0, test: 7 notes of 2 families, official protocol"
    assert [row.split()[-1] for row in rows] == ["0.5000", "0.2500", "0.1250"]


def test_cloud_job_files_run_commands_and_flags_that_exist():
    yaml = pytest.importorskip("yaml")
    sections = dataclasses.fields(settings.RunSettings)
    known = {f.name for s in sections for f in dataclasses.fields(s.default)}
    known |= {"workdir", "flagfile"}
    paths = sorted((PROJECT / "tools" / "cloud").glob("*.yaml"))
    assert len(paths) == 2
    for path in paths:
        documents = list(yaml.safe_load_all(path.read_text()))
        text = json.dumps(documents)
        assert "mic_tf.train" in text
        flags = set(re.findall(r"--(\w+)=", text))
        assert {"data_dir", "workdir", "flagfile"} <= flags <= known, path.name
        for config in re.findall(r"mic_tf/configs/\w+\.cfg", text):
            assert (PROJECT / config).is_file(), f"{path.name}: {config}"


def test_the_kubernetes_job_gives_each_worker_its_place():
    yaml = pytest.importorskip("yaml")
    path = PROJECT / "tools" / "cloud" / "kubernetes.yaml"
    service, job = yaml.safe_load_all(path.read_text())
    name, count = job["metadata"]["name"], job["spec"]["completions"]
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    # Kubernetes takes rules about failures with this alone.
    assert job["spec"]["podFailurePolicy"] and pod["restartPolicy"] == "Never"
    assert service["spec"]["selector"] == {"job-name": name}
    [script] = pod["containers"][0]["args"]
    preparation, _ = script.split("exec python")
    finished = bash(preparation + 'echo "$TF_CONFIG"', JOB_COMPLETION_INDEX="1")
    cluster = json.loads(finished.stdout)
    assert cluster["task"] == {"type": "worker", "index": 1}
    port = service["spec"]["ports"][0]["port"]
    addresses = [f"{name}-{i}.{pod['subdomain']}:{port}" for i in range(count)]
    assert cluster["cluster"]["worker"] == addresses


@pytest.mark.parametrize("name", ["write_codec_notes.py", "write_looped_notes.py"])
def test_help_says_which_flags_two_programs_have_in_common(name):
    command = [sys.executable, PROJECT / "tools" / name, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^ +--(\w+):", said, re.MULTILINE) == [
        *("copies", "data_dir", "dataset", "max_notes", "out")
    ]
