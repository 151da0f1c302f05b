"""The program that sets the networks' accuracy beside their CPU time."""

import json
import pathlib
import time
import types

import pytest

from mic_tf.errors import UserError
from tests import processes as processes_of_tests
from tools import networks_table
from tools.benchmarks import processes

EPOCHS = [
    {"seconds": "3", "val_accuracy": "0.5"},
    {"seconds": "1", "val_accuracy": "0.75"},
    {"seconds": "1", "val_accuracy": "0.7"},
]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The program's flags; the process-wide ones are those of other programs, too."""

    def ask(**values) -> None:
        found = types.SimpleNamespace(
            data_dir=str(tmp_path / "data"),
            folder=str(tmp_path / "runs"),
            recipe=str(networks_table.FLAGFILE),
            **{"models": ["deep_cnn"], "seeds": ["0"], "epochs": 0, "after": ["60"]}
            | values,
        )
        flags = types.SimpleNamespace(FLAGS=found)
        monkeypatch.setattr(networks_table, "flags", flags)

    return ask


def test_cpu_time_is_shared_out_by_the_epochs_duration():
    course = networks_table.course_of(EPOCHS, cpu_seconds=10.0, parameters=7)
    assert course.seconds == [6.0, 8.0, 10.0]
    assert [course.after(s) for s in (5, 6, 9, 100)] == [None, 0.5, 0.75, 0.7]


def test_a_row_is_the_mean_of_the_seeds_with_the_lowest_and_highest():
    quick = networks_table.course_of(EPOCHS, 5.0, 1234)
    slow = networks_table.course_of(EPOCHS, 10.0, 1234)
    assert networks_table.row("deep_cnn", [quick, slow], [4, 8]) == (
        "| deep_cnn | 1,234 | 3 | 2.5 | none yet | 0.725 (0.700 to 0.750) | "
        "0.700 (0.700 to 0.700) | 8 |"
    )


def test_each_network_is_trained_once_and_its_cpu_time_kept(
    asked, monkeypatch, capsys, tmp_path
):
    trained = []

    def train(module: str, arguments: list[str]) -> processes.Finished:
        trained.append(arguments)
        workdir = pathlib.Path(arguments[-1].removeprefix("--workdir="))
        workdir.mkdir(parents=True)
        (workdir / "summary.json").write_text(json.dumps({"parameters": 99}))
        lines = ["seconds,val_accuracy", *(",".join(e.values()) for e in EPOCHS)]
        (workdir / "history.csv").write_text("\n".join(lines))
        return processes.Finished(time.monotonic(), 5.0, cpu_seconds=10.0, peak_bytes=1)

    monkeypatch.setattr(processes, "run_module", train)
    asked(models=["deep_cnn", "mobile_cnn"], after=["9"], epochs=3)
    networks_table.main([])
    first = capsys.readouterr().out
    assert "| mobile_cnn | 99 | 3 | 3.3 | 0.750 | 0.700 | 10 |" in first
    wanted = {"--select=last", "--epochs=3", "--protocol=official"}
    assert [run[2] for run in trained] == ["--model=deep_cnn", "--model=mobile_cnn"]
    assert all(wanted <= set(run) for run in trained)
    networks_table.main([])
    assert capsys.readouterr().out == first
    assert len(trained) == 2
    asked(models=["deep_cnn", "mobile_cnn"], after=["9"], epochs=40)
    with pytest.raises(UserError, match="deep_cnn-0: of other flags than these"):
        networks_table.main([])


def test_a_run_whose_cpu_time_is_not_known_is_refused(asked, tmp_path):
    (tmp_path / "runs" / "deep_cnn-0").mkdir(parents=True)
    asked(models=["deep_cnn"])
    with pytest.raises(UserError, match="deep_cnn-0: begun, but not finished in one"):
        networks_table.main([])


def test_a_list_with_nothing_in_it_is_named(asked):
    asked(seeds=[])
    with pytest.raises(UserError, match="--seeds: one at least expected"):
        networks_table.main([])


@pytest.mark.parametrize("wrong", ["--after=soon", "--seeds=-1"])
def test_what_is_no_number_is_named(wrong):
    finished = processes_of_tests.run("tools/networks_table.py", wrong)
    assert finished.returncode == 2
    assert f"{wrong}: whole numbers expected" in finished.stderr
