"""Answers made otherwise than a network was trained for."""

import pathlib

import numpy as np
import pytest

from tests import processes
from tools import views_table


def test_a_shift_moves_and_fills():
    log_mels = np.arange(6.0).reshape(1, 3, 2)
    later = views_table.moved(log_mels, 1, 1, -1.0)
    assert later.tolist() == [[[-1.0, -1.0], [0.0, 1.0], [2.0, 3.0]]]
    lower = views_table.moved(log_mels, 2, -1, None)
    assert lower.tolist() == [[[1.0, 1.0], [3.0, 3.0], [5.0, 5.0]]]


def test_views_keep_what_they_are_about():
    log_mels = np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(1, 6, 4)
    found = {name: view(log_mels) for name, view in views_table.views(80.0)}
    for shifted in ("shifts by a band", "shifts by a frame", "shifts by three frames"):
        first, *others = found[shifted]
        assert (first == log_mels).all() and len(others) == 2
    # -1 is 80 dB below the loudest: 60 dB below is -0.5 there, -1 of a range of 60.
    (cut,) = found["cut off 60 dB below"]
    np.testing.assert_allclose(cut, np.maximum(log_mels, -0.5), atol=1e-6)
    (narrow,) = found["60 dB of range"]
    assert narrow.min() == -1.0 and narrow.max() == 1.0
    np.testing.assert_allclose(
        narrow[log_mels > -0.5],
        1 + (log_mels[log_mels > -0.5] - 1) * 80 / 60,
        atol=1e-6,
    )
    assert len(found["that and as it is"]) == 2


def test_two_answers_are_joined_in_other_ways():
    own = np.log(np.float32([[0.6, 0.4], [0.05, 0.95], [0.5, 0.5]]))
    its = np.log(np.float32([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]))
    found = views_table.joined(own, its)
    np.testing.assert_allclose(
        np.exp(found["mean of probabilities"][0]), [0.4, 0.6], atol=1e-6
    )
    np.testing.assert_array_equal(found["the surer of both"], [its[0], own[1], its[2]])
    # What is undecided has no weight.
    by_entropy = found["weights by entropy"]
    np.testing.assert_allclose(by_entropy[2], its[2], atol=1e-4)
    assert (by_entropy[:2] > np.minimum(own, its)[:2]).all()


def test_lost_and_won_are_against_what_is_as_it_was():
    before, after = np.array([True, True, False, False]), np.array([True] + [False] * 3)
    after = after | np.array([False, False, True, True])
    right = {views_table.UNCHANGED: before, "other": after}
    lines = list(views_table.table(right, np.array([1, 1, 2, 3])))
    assert lines[2:] == [
        "| as it is | 0.500 | 0 | 0 | 1 |",
        "| other | 0.750 | 1 | 2 | 1 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--workdirs: missing"),
        (["--workdirs=a,b", "--beside=c"], "--beside: 1 work folders for 2"),
        (["--workdirs=a", "--other_notes=b"], "--other_notes: only with --beside"),
        (["--workdirs=a,a"], "--workdirs, --beside: a twice"),
        (["--workdirs=a", "--beside=a"], "--workdirs, --beside: a twice"),
        (["--workdirs=/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_answered_is_said(arguments, said):
    finished = processes.run("tools/views_table.py", *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr and "Traceback" not in finished.stderr


@pytest.mark.slow
def test_every_way_has_a_row_over_all_folds(small_dataset, tmp_path):
    data_dir = pathlib.Path(small_dataset.data_dir).parents[1]
    common = (
        *(f"--data_dir={data_dir}", "--dataset=nsynth_jsonwav", "--epochs=1"),
        *("--batch_size=12", "--width=4", "--depth=2", "--dense_units=16"),
        *("--n_mels=32", "--hop_length=2000"),
        *("--protocol=instrument", "--folds=3"),
    )
    workdirs = []
    for seed, fold in ((0, 0), (1, 0)):
        workdirs.append(str(tmp_path / f"{seed}-{fold}"))
        finished = processes.run(
            *("-m", "mic_tf.train", *common, f"--seed={seed}", f"--fold={fold}"),
            f"--workdir={workdirs[-1]}",
        )
        assert finished.returncode == 0, finished.stderr
    finished = processes.run(
        *("tools/views_table.py", f"--data_dir={data_dir}"),
        *(f"--workdirs={workdirs[0]}", f"--beside={workdirs[1]}"),
        "--other_notes=nsynth_jsonwav",
    )
    assert finished.returncode == 0, finished.stderr
    twice = processes.run(
        *("tools/views_table.py", f"--data_dir={data_dir}"),
        f"--workdirs={','.join(workdirs)}",
    )
    assert twice.returncode == 2
    assert f"{workdirs[0]} and {workdirs[1]}: both were tested on" in twice.stderr
    lines = [line for line in finished.stdout.splitlines() if line.startswith("| ")]
    ways = [name for name, _ in views_table.views(80.0)]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [
        *(views_table.UNCHANGED, *ways),
        *(f"{share:g} beside {1 - share:g}" for share in views_table.SHARES),
        *views_table.joined(np.zeros((1, 2)), np.zeros((1, 2))),
        *("the one beside", "a gate"),
    ]
