"""Training steps as `fit` runs them, one at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mic_tf.pipeline import batches
from mic_tf.settings import NetworkSettings, RunSettings
from mic_tf.training import strategy as strategies
from mic_tf.training import workfolder
from mic_tf.training.trainee import Trainee, compile_trainee

BATCH = 32
_STEPS_OF_SCHEDULE = 10_000


def run_settings(width: int = 0, model: str = "deep_cnn") -> RunSettings:
    """The defaults of `train`, with another network where wanted."""
    network = NetworkSettings(model=model)
    if width:
        network = NetworkSettings(model=model, width=width, dense_units=16)
    return RunSettings(network=network)


class Stepper:
    """A trainee under the strategy that `train` takes by default.

    Attributes:
      trainee: the model with its front-end.
    """

    def __init__(
        self,
        settings: RunSettings,
        num_families: int,
        dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    ):
        """Builds and compiles it, under the numeric policy of the settings.

        Args:
          settings: of the run.
          num_families: classes.
          dataset: endless training batches of one input pipeline.
        """
        self._placement = strategies.choose("auto")
        self._strategy = self._placement.strategy
        policy = settings.train.mixed_precision
        with workfolder.numeric_policy(policy), self._strategy.scope():
            self.trainee = Trainee(settings, num_families)
            compile_trainee(self.trainee, settings, _STEPS_OF_SCHEDULE)
        self._batches = self.batches(dataset)
        self._step = self._function(settings.train.jit)

    def batches(
        self, dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    ) -> Iterator[Any]:
        """Batches of another pipeline, in the same shapes, for the same step."""
        return iter(self._placement.distribute(dataset))

    def next_batch(self) -> Any:
        return next(self._batches)

    def step(self, batch: Any) -> float:
        """One training step, finished when this returns the mean loss of all so far.

        `trainee.reset_metrics()` begins anew.
        """
        return float(self._step(batch))

    def run(self, batch: Any, steps: int = 1) -> None:
        """Training steps one right after the other, as in `fit`.

        An accelerator is given the next before it has done the last; all are finished
        when this returns.
        """
        for _ in range(steps - 1):
            self.launch(batch)
        self.step(batch)

    def launch(self, batch: Any) -> None:
        """One training step; an accelerator may not have done it when this returns."""
        self._step(batch)

    def _function(self, jit: bool) -> Callable[[Any], tf.Tensor]:
        train_step = self.trainee.train_step
        if jit:
            train_step = tf.function(train_step, jit_compile=True)

        @tf.function
        def step(batch: Any) -> tf.Tensor:
            logs = self._strategy.run(train_step, args=(batch,))
            return self._strategy.experimental_local_results(logs["loss"])[0]

        return step


def same_batch(
    waveforms: np.ndarray, families: np.ndarray
) -> Callable[[tf.distribute.InputContext], tf.data.Dataset]:
    """A pipeline that gives the same batch again and again, from memory.

    Args:
      waveforms: int16 [batch, 64000].
      families: int32 [batch].
    """

    def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        size = context.get_per_replica_batch_size(len(waveforms))
        batch = (waveforms[:size], families[:size], np.ones(size, np.float32))
        dataset = tf.data.Dataset.from_tensors(batch).repeat()
        return dataset.with_options(batches.options())

    return dataset
