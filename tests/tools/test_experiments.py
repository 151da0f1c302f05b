"""The program that measures changes to a recipe by cross-validation."""

import functools
import json
import pathlib
import subprocess
import sys
import types

import pytest
from absl import flags

from mic_tf.errors import UserError
from tools import experiments, kept_runs

PROJECT = pathlib.Path(__file__).parents[2]
RECIPE = "mic_tf/configs/phase4.cfg"

PREDICTIONS = """id,truth,answer
bass_1,bass,bass
bass_2,bass,guitar
organ_1,organ,reed
"""


@pytest.fixture
def run(monkeypatch):
    """The program in this process; the process-wide flags are other programs', too."""

    def ask(*arguments: str) -> None:
        own = flags.FlagValues()
        kinds = ("string", "integer", "bool", "multi_string")
        defining = {
            f"DEFINE_{kind}": functools.partial(
                getattr(flags, f"DEFINE_{kind}"), flag_values=own
            )
            for kind in kinds
        }
        patched = types.SimpleNamespace(FLAGS=own, **defining)
        monkeypatch.setattr(experiments, "flags", patched)
        experiments.define_flags()
        experiments.main(own(["experiments", *map(str, arguments)])[1:])

    return ask


@pytest.fixture
def trained(monkeypatch, tmp_path) -> list[tuple[str, ...]]:
    """Stands in for the commands: what they were asked; they write what is read."""
    asked = []

    def call(module: str, *arguments: str) -> None:
        asked.append((module, *arguments))
        if module != "mic_tf.report":
            return
        wrong = 0.5 if any("no_mixup" in each for each in arguments) else 0.25
        folder = pathlib.Path(arguments[-1].removeprefix("--out="))
        folder.mkdir(parents=True)
        figures = {"accuracy": 1 - wrong, "folds": [{"accuracy": 1 - wrong}] * 2}
        (folder / "metrics.json").write_text(json.dumps(figures))
        lines = [f"{n},bass,{'organ' if n < 4 * wrong else 'bass'}" for n in range(4)]
        (folder / "predictions.csv").write_text("id,truth,answer\n" + "\n".join(lines))

    monkeypatch.setattr(kept_runs, "call", call)
    monkeypatch.setattr(kept_runs, "minutes", lambda workdir: 2.0)
    return asked


def test_each_change_is_trained_on_every_fold_and_stands_beside_the_recipe(
    run, trained, tmp_path, capsys
):
    ids = tmp_path / "ids.txt"
    ids.write_text("a\nb\n")
    wanted = (
        f"--recipe={RECIPE}",
        f"--folder={tmp_path / 'runs'}",
        f"--exclude={ids}",
        "--folds=2",
        "--common=--epochs=3",
        "--change=no mixup: --mixup_alpha=0",
    )
    run(*wanted)
    trainings = [each for each in trained if each[0] == "mic_tf.train"]
    assert len(trainings) == 4
    assert [each[0] for each in trained].count("mic_tf.evaluate") == 4
    first, last = trainings[0], trainings[-1]
    assert "--fold=0" in first and "--fold=1" in last
    assert "--mixup_alpha=0" not in first and "--mixup_alpha=0" in last
    for each in trainings:
        assert {"--epochs=3", "--protocol=instrument", f"--exclude={ids}"} <= {*each}
        assert each[1] == f"--flagfile={PROJECT / RECIPE}"
    unchanged, without = capsys.readouterr().out.splitlines()[-2:]
    assert unchanged.startswith(
        f"| {experiments.UNCHANGED} |  | 0.750 | 0.750 | 0 | 0 | 1"
    )
    assert without == (
        "| no mixup | `--mixup_alpha=0` | 0.750 | 0.500 | 1 | 0 | 1 | 0.75, 0.75 "
        "| 0.50, 0.50 | 2.0 |"
    )
    trained.clear()
    run(*wanted)
    assert not trained
    assert capsys.readouterr().out.splitlines()[-1] == without


def test_a_second_stage_goes_on_from_its_own_fold_of_the_first(run, trained, tmp_path):
    common = (f"--recipe={RECIPE}", f"--folder={tmp_path / 'runs'}", "--folds=2")
    run(*common, "--common=--init_from=runs/{fold}")
    trainings = [each for each in trained if each[0] == "mic_tf.train"]
    assert ["--init_from=runs/0" in each for each in trainings] == [True, False]
    assert ["--init_from=runs/1" in each for each in trainings] == [False, True]


def test_another_program_may_train(run, trained, tmp_path):
    common = (f"--recipe={RECIPE}", f"--folder={tmp_path / 'runs'}", "--folds=2")
    other = "--trainer=tools.train_prototype"
    run(*common, other, "--change=h: --prototype=holes")
    trainings = [each for each in trained if each[0] == "tools.train_prototype"]
    assert ["--prototype=holes" in each for each in trainings] == [False] * 2 + [
        True
    ] * 2
    assert not any(each[0] == "mic_tf.train" for each in trained)
    with pytest.raises(UserError, match="was measured with .*--trainer"):
        run(*common)


@pytest.mark.parametrize(
    "other", ["--folds=3", "--common=--epochs=4", "--recipe=mic_tf/configs/best.cfg"]
)
def test_figures_of_another_experiment_are_refused(run, trained, tmp_path, other):
    common = (f"--recipe={RECIPE}", f"--folder={tmp_path / 'runs'}", "--folds=2")
    run(*common, "--common=--epochs=3")
    with pytest.raises(UserError, match="was measured with"):
        run(*common, "--common=--epochs=3", other)


def test_chance_is_judged_over_instruments():
    kept = {"accuracy": 0.5, "folds": [0.5], "minutes": 1.0, "n": 40}
    wrong = [f"bass_acoustic_{i % 3:03d}-{40 + i}-100" for i in range(12)]
    results = {
        experiments.UNCHANGED: {**kept, "wrong": []},
        "other": {**kept, "wrong": wrong},
    }
    # Twelve notes lost, of three instruments: one of eight ways is as bad.
    assert "| 12 | 0 | 0.25 |" in experiments.row("other", [], results)


def test_figures_of_other_notes_do_not_stand_beside_each_other():
    kept = {"accuracy": 0.5, "folds": [0.5], "minutes": 1.0, "wrong": []}
    results = {experiments.UNCHANGED: {**kept, "n": 4}, "other": {**kept, "n": 5}}
    with pytest.raises(UserError, match="measured on 5 notes"):
        experiments.row("other", [], results)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--change=no mixup"], "NAME: --FLAG=VALUE"),
        (["--change=: --mixup_alpha=0"], "NAME: --FLAG=VALUE"),
        (["--change=a: mixup_alpha=0"], "mixup_alpha=0: --FLAG=VALUE expected"),
        (["--change=a: --x='b"], "No closing quotation"),
        (["--common=--x='b"], "No closing quotation"),
        (["--change=a: --fold=3"], "--fold=3: not a part of a change"),
        (["--change=a b: --x=1", "--change=a-b: --x=2"], "that is taken"),
        ([f"--change={experiments.UNCHANGED}: --x=1"], "that is taken"),
        (["--recipe=nowhere.cfg"], "--recipe=nowhere.cfg: no such file"),
        (["--exclude=nowhere.txt"], "--exclude=nowhere.txt: no such file"),
        (["--results=tools/benchmarks/two_cores.json"], "figures of other runs"),
        (["--results=tools"], "tools: a file expected"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is(
    run, trained, tmp_path, arguments, said
):
    with pytest.raises(UserError, match=said):
        run(f"--recipe={RECIPE}", f"--folder={tmp_path / 'runs'}", *arguments)
    assert not trained
    assert not (tmp_path / "runs").exists()


def test_a_mistake_is_one_line_and_status_2():
    finished = subprocess.run(
        [sys.executable, "tools/experiments.py", "--recipe=nowhere.cfg"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 2
    assert "--recipe=nowhere.cfg: no such file" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_wrong_answers_are_kept_by_name():
    assert experiments.answers(PREDICTIONS) == {"n": 3, "wrong": ["bass_2", "organ_1"]}
