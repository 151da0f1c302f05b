import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.settings import AugmentSettings, RunSettings, TrainSettings
from mic_tf.training.trainee import Trainee, compile_trainee
from tests.training.test_trainer import SMALL

EVERYTHING = AugmentSettings(
    mixup_alpha=0.2,
    noise_snr_db=10.0,
    shift_seconds=0.2,
    drive_db=20.0,
    loop=0.5,
    tilt_db=6.0,
    band_pass_octaves=1.0,
    equalise_db=2.0,
    echo=0.3,
    floor_db=50.0,
    low_rate=0.5,
    crop_seconds=0.5,
    stretch=0.1,
    pitch_semitones=2.0,
    decay_db=3.0,
    roll_bands=2,
    time_masks=1,
    freq_masks=1,
)


def new_trainee(settings: RunSettings) -> Trainee:
    trainee = Trainee(settings, 11)
    compile_trainee(trainee, settings, total_steps=10)
    return trainee


@pytest.mark.slow
def test_whole_training_step_compiles_under_xla_with_static_shapes():
    settings = dataclasses.replace(
        SMALL, augment=EVERYTHING, train=TrainSettings(batch_size=4, jit=True)
    )
    trainee, without = new_trainee(settings), new_trainee(settings)
    without.set_weights(trainee.get_weights())
    random = np.random.default_rng(0)
    waveform = tf.constant(random.integers(-9000, 9000, [4, 64_000]), tf.int16)
    batch = (waveform, tf.constant([0, 3, 5, 7]), tf.ones([4]))

    @tf.function(jit_compile=True)
    def step(waveform, family, weight):
        return trainee.train_step((waveform, family, weight))

    # Left to themselves, ops take other algorithms by XLA than without it on a GPU, and
    # XLA makes other fractions of the same integers.
    ops = step.get_concrete_function(*batch).graph.get_operations()
    drawing = [op for op in ops if op.type.startswith("StatelessRandom")]
    algorithms = [op.inputs[3] for op in drawing if op.type.endswith("V2")]
    assert len(algorithms) > 10
    assert {int(tf.get_static_value(each)) for each in algorithms} == {
        tf.random.Algorithm.PHILOX.value
    }
    assert {op.outputs[0].dtype.is_integer for op in drawing} == {True}

    # Compiling fails where an op has no XLA kernel; a bounded dynamic size is
    # written <=N in HLO.
    program = step.experimental_get_compiler_ir(*batch)(stage="hlo")
    shapes = re.findall(r"(?:f32|s32|s64|s16|pred)\[([^\]]*)\]", program)
    assert len(shapes) > 100
    assert not [shape for shape in shapes if "<=" in shape or "?" in shape]
    of_xla = float(step(*batch)["loss"])
    assert of_xla == pytest.approx(float(without.train_step(batch)["loss"]), rel=1e-3)
