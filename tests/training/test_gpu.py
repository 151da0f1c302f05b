"""What a training step gives on a GPU. Left out where there is none, as in CI."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from tests import processes

LOSSES = """
import dataclasses, json, sys
import numpy as np
from mic_tf.model import randomness
from mic_tf.settings import RunSettings, TrainSettings
from tools.benchmarks.notes import tones
from tools.benchmarks.trainees import Stepper, same_batch

policy, jit = sys.argv[1], sys.argv[2] == "jit"
randomness.set_random_seed(1)  # Initial weights.
random = np.random.default_rng(0)
families = np.arange(66, dtype=np.int32) % 11
level = random.uniform(0.1, 1.0, [66, 1])
waveforms = (tones()[families] * level).astype(np.int16)
train = TrainSettings(batch_size=66, mixed_precision=policy, jit=jit, warmup=0.0)
stepper = Stepper(RunSettings(train=train), 11, same_batch(waveforms, families))
batch = stepper.next_batch()
losses = []
for _ in range(12):
    stepper.trainee.reset_metrics()
    losses.append(stepper.step(batch))
print(json.dumps(losses))
"""


def losses(device: str, policy: str, jit: str) -> list[float]:
    environment = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    environment["CUDA_VISIBLE_DEVICES"] = "0" if device == "gpu" else "-1"
    finished = processes.anew("-c", LOSSES, policy, jit, env=environment)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def of_cpu() -> list[float]:
    return losses("cpu", "float32", "")


@pytest.mark.skipif(
    not tf.config.list_physical_devices("GPU"), reason="there is no GPU here"
)
@pytest.mark.parametrize(
    ("policy", "jit", "apart"),
    [
        ("float32", "", 0.05),
        ("float32", "jit", 0.05),
        ("mixed_float16", "", 0.2),
        ("mixed_float16", "jit", 0.2),
        ("mixed_bfloat16", "", 0.2),
        ("mixed_bfloat16", "jit", 0.2),
    ],
)
def test_a_gpu_learns_as_a_cpu_does(policy, jit, apart, of_cpu):
    found = losses("gpu", policy, jit)
    assert found[-1] < found[0]
    assert np.abs(np.array(found) - of_cpu).max() < apart
