"""The program that trains and measures the phases of the study."""

import json
import pathlib
import subprocess
import sys

import pytest

from tools import phases

PROJECT = pathlib.Path(__file__).parents[2]


def measured(
    folder: pathlib.Path, accuracy: float, dataset: str = "soundfont_notes"
) -> None:
    """A run as it lies there when it is trained and evaluated."""
    evaluation = folder / "eval" / f"{dataset}-test"
    evaluation.mkdir(parents=True)
    figures = {"n": 1483, "accuracy": accuracy, "macro_f1": accuracy / 2}
    (evaluation / "metrics.json").write_text(json.dumps(figures))
    (folder / "history.csv").write_text("epoch,seconds\n1,90\n2,30\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    found = tmp_path_factory.mktemp("phases")
    for seed, accuracy in (("0", 0.5), ("1", 0.75)):
        measured(found / "soundfont_notes" / "random" / f"phase1-{seed}", accuracy)
    return found


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "tools/phases.py", *map(str, arguments)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


def test_what_is_done_is_not_trained_again_and_stands_in_the_table(folder):
    only = ("--only=phase1", "--protocols=random", "--datasets=soundfont_notes")
    finished = call(f"--folder={folder}", "--seeds=0,1", *only)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("done before") == 2
    assert finished.stdout.splitlines()[-1] == (
        "| soundfont_notes | phase1 | random | 2 | 1,483 | 0.625 (0.500 to 0.750) "
        "| 0.312 (0.250 to 0.375) | 2.0 |"
    )


def test_a_set_prepared_under_a_label_is_found_too(tmp_path):
    run = tmp_path / "soundfont_notes" / "random" / "phase1-0"
    measured(run, 0.5, dataset="soundfont_notes_mine")
    only = ("--only=phase1", "--protocols=random", "--datasets=soundfont_notes")
    finished = call(f"--folder={tmp_path}", "--seeds=0", *only)
    assert "done before" in finished.stdout
    assert "| soundfont_notes | phase1 | random | 1 | 1,483 |" in finished.stdout


def test_seeds_that_are_missing_are_counted_as_such(folder):
    finished = call(f"--folder={folder}", "--seeds=1,2", "--print_only")
    assert len(finished.stdout.splitlines()) == 3
    assert "| random | 1 | 1,483 | 0.750 (0.750 to 0.750) |" in finished.stdout


def test_figures_outlive_the_runs_they_are_of(folder, tmp_path):
    results = tmp_path / "kept" / "phases.json"
    only = ("--only=phase1", "--protocols=random", "--seeds=0,1", "--print_only")
    shown = call(f"--folder={folder}", f"--results={results}", *only).stdout
    kept = json.loads(results.read_text())
    name = "soundfont_notes/random/phase1-1"
    assert kept[name] == {
        "accuracy": 0.75,
        "macro_f1": 0.375,
        "minutes": 2.0,
        "n": 1483,
    }
    elsewhere = tmp_path / "empty"
    again = call(f"--folder={elsewhere}", f"--results={results}", *only)
    assert again.stdout == shown
    assert not elsewhere.exists()
    only = ("--only=phase1", "--protocols=random", "--datasets=soundfont_notes")
    trained = call(f"--folder={elsewhere}", f"--results={results}", *only, "--seeds=1")
    assert trained.stdout.startswith(f"{name}: done before")
    assert not elsewhere.exists()


def test_the_figures_kept_here_are_those_of_the_notes(tmp_path):
    kept = PROJECT / "tools" / "phases.json"
    shown = call(f"--folder={tmp_path}", f"--results={kept}", "--print_only").stdout
    notes = (PROJECT / "BUILD_NOTES.md").read_text().splitlines()
    rows = shown.splitlines()
    assert len(rows) > 10
    assert not set(rows) - set(notes)


def test_a_run_that_fails_is_said_and_stops_the_program(folder):
    data = folder / "nothing"
    finished = call(
        f"--folder={folder}", "--seeds=3", "--only=phase2", f"--data_dir={data}"
    )
    assert finished.returncode == 2
    assert "soundfont_notes is not prepared" in finished.stderr
    assert "it failed, see above" in finished.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "named"),
    [("--only=phase5", "phase1, phase2"), ("--seeds=x", "whole numbers")],
)
def test_a_wrong_value_is_one_line_and_status_2(flag, named):
    finished = call(flag)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {flag}")
    assert named in finished.stderr


def test_a_small_set_is_passed_over_until_the_steps_are_as_many():
    assert phases.epochs_for(12_000) == 10
    assert phases.epochs_for(942) == 125
    assert phases.epochs_for(5) == phases.STEPS
