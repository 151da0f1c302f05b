"""The program that measures changes to a recipe by cross-validation."""

import json
import pathlib
import subprocess
import sys

import pytest

from tools import experiments

PROJECT = pathlib.Path(__file__).parents[2]

PREDICTIONS = """id,truth,answer
bass_1,bass,bass
bass_2,bass,guitar
organ_1,organ,reed
"""


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "tools/experiments.py", *map(str, arguments)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


def measured(accuracy: float, wrong: list[str], flags: list[str]) -> dict:
    return {
        "flags": flags,
        "accuracy": accuracy,
        "folds": [accuracy, accuracy],
        "minutes": 2.0,
        "n": 10,
        "wrong": wrong,
    }


@pytest.fixture
def results(tmp_path) -> pathlib.Path:
    path = tmp_path / "kept.json"
    content = {
        experiments.UNCHANGED: measured(0.8, ["a", "b"], ["--epochs=3"]),
        "no mixup": measured(0.7, ["b", "c", "d"], ["--epochs=3", "--mixup_alpha=0"]),
    }
    path.write_text(json.dumps(content))
    return path


def test_a_change_stands_beside_the_recipe_without_it(results):
    finished = call(
        f"--results={results}",
        "--common=--epochs=3",
        "--change=no mixup: --mixup_alpha=0",
        "--change=not measured yet: --dropout=0",
        "--print_only",
    )
    assert finished.returncode == 0, finished.stderr
    unchanged, without = finished.stdout.splitlines()[2:]
    assert unchanged.startswith(f"| {experiments.UNCHANGED} |  | 0.800 | 0.800 | 0 | 0")
    assert without == (
        "| no mixup | `--mixup_alpha=0` | 0.800 | 0.700 | 2 | 1 | 0.80, 0.80 "
        "| 0.70, 0.70 | 2.0 |"
    )


def test_the_same_name_for_other_flags_is_refused(results):
    finished = call(
        f"--results={results}",
        "--common=--epochs=4",
        "--change=no mixup: --mixup_alpha=0",
        "--print_only",
    )
    assert finished.returncode == 2
    assert "was measured with --epochs=3, not --epochs=4" in finished.stderr


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--change=no mixup", "--change=no mixup: NAME: --FLAG=VALUE"),
        ("--change=no mixup: mixup_alpha=0", "NAME: --FLAG=VALUE"),
        ("--recipe=nowhere.cfg", "--recipe=nowhere.cfg: no such flagfile"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is(tmp_path, argument, said):
    finished = call(f"--folder={tmp_path / 'runs'}", argument)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "runs").exists()


def test_wrong_answers_are_kept_by_name():
    assert experiments.answers(PREDICTIONS) == {"n": 3, "wrong": ["bass_2", "organ_1"]}
