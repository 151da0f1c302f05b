"""Training with a change that was tried and is no part of the package."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.model import randomness, recording
from mic_tf.training import callbacks
from tests import processes
from tools import train_prototype

NOTES = 64


def changed_by(function, decibels: np.ndarray) -> np.ndarray:
    hertz = np.linspace(50.0, 7000.0, decibels.shape[2], dtype=np.float32)
    with randomness.step_randomness(7, tf.constant(1, tf.int64)):
        return function(tf.constant(decibels), 0.0, hertz).numpy()


def test_holes_are_what_lies_far_below_a_band_nearby_in_half_of_the_notes():
    # One loud band; beside it -10 to -59 dB; far from it all is as loud as another.
    decibels = np.full([NOTES, 3, 64], -59.0, np.float32)
    decibels[:, :, 20] = 0.0
    decibels[:, :, 13:20] = np.linspace(-59.0, -10.0, 7)
    changed = changed_by(train_prototype.with_holes(recording.limit_band), decibels)
    gone = changed != decibels
    assert (changed[gone] == -160.0).all()
    assert 0.3 < gone.any(axis=(1, 2)).mean() < 0.7
    # Less than 20 dB below nothing goes, more than 50 all goes, where anything does.
    of_holed = gone[gone.any(axis=(1, 2))]
    assert not of_holed[:, :, 19:21].any() and of_holed[:, :, 21:29].all()
    assert not of_holed[:, :, 29:].any()


def test_a_teacher_has_four_fifths_of_the_targets_and_sees_the_note_as_it_was():
    seen = []

    def answer(waveform):
        seen.append(waveform.numpy())
        return tf.constant([[0.0, 0.0, -100.0]])

    def augment(waveform, target, settings):
        return 2.0 * waveform, target

    changed = train_prototype.distilled(augment, answer)
    waveform, target = changed(tf.ones([1, 8]), tf.constant([[0.0, 0.0, 1.0]]), None)
    np.testing.assert_allclose(target, [[0.4, 0.4, 0.2]], atol=1e-6)
    assert (waveform.numpy() == 2.0).all() and (seen[0] == 1.0).all()


def test_its_flags_are_those_of_train_and_one_more():
    def flags_of(*arguments: str) -> set[str]:
        said = processes.run(*arguments, "--helpshort").stdout
        return set(re.findall(r"^ +--(?:\[no\])?(\w+):", said, re.MULTILINE))

    of_train = flags_of("-m", "mic_tf.train")
    assert "init_from" in of_train
    assert flags_of("tools/train_prototype.py") == of_train | {"prototype"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prototype=holes"], "--prototype=holes: only with --low_rate"),
        (["--prototype=distil"], "--prototype=distil: --init_from=DIR expected"),
        (
            ["--prototype=distil", "--init_from=a", "--balance=class_weight"],
            "--prototype=distil: not with --balance=class_weight",
        ),
        (["--prototype=other"], "should be one of"),
        ([], "--workdir: missing"),
    ],
)
def test_what_cannot_be_tried_is_said(arguments, said):
    finished = processes.run("tools/train_prototype.py", *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr and "Traceback" not in finished.stderr


@pytest.mark.slow
def test_what_is_tried_trains_otherwise_and_nothing_as_train_does(
    small_dataset, tmp_path
):
    data_dir = pathlib.Path(small_dataset.data_dir).parents[1]

    def loss(name: str, *arguments: str, program=("tools/train_prototype.py",)) -> str:
        finished = processes.run(
            *program,
            *(f"--workdir={tmp_path / name}", f"--data_dir={data_dir}"),
            *("--dataset=nsynth_jsonwav", "--epochs=1", "--batch_size=12"),
            *("--deterministic", "--width=4", "--depth=2", "--dense_units=16"),
            *("--n_mels=32", "--hop_length=2000", "--low_rate=1", "--record_again=1"),
            *arguments,
        )
        assert finished.returncode == 0, finished.stderr
        return callbacks.read_history(str(tmp_path / name))[0]["loss"]

    nothing = loss("nothing")
    assert loss("train", program=("-m", "mic_tf.train")) == nothing
    assert loss("holes", "--prototype=holes") != nothing
    start = f"--init_from={tmp_path / 'nothing'}"
    assert loss("distil", "--prototype=distil", start) != loss("further", start)
