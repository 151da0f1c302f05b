"""What happens around the steps of `fit`: saving, logs, progress, stopping."""

import contextlib
import csv
import io
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.pipeline.batches import Place
from mic_tf.training import snapshots, workfolder
from mic_tf.training.agreement import Agreement
from mic_tf.training.strategy import Placement
from mic_tf.training.trainee import Trainee

_KEPT_CHECKPOINTS = 2
_LOOKS, _SECONDS_BETWEEN_LOOKS = 14, 5.0
"""For a new file: a machine may know for a minute that a shared disk lacks it (NFS)."""
_CALLS_BETWEEN_LOOKS = 32


class Preempted(Exception):
    """The run was asked to stop and has saved its state."""


class Saver(keras.callbacks.Callback):
    """Saves the state of a run, and the weights that are best so far.

    Args:
      trainee: what is trained.
      workdir: the work folder.
      steps_per_epoch: steps of a whole epoch.
      checkpoint_every: save every so many steps too; 0: only at ends of epochs.
      select: `best` or `last`, see `TrainSettings.select`.
      early_stopping: epochs without a better figure after which to stop; 0: never.
      placement: how the run is spread; only the chief writes, all workers take part.

    Attributes:
      place: how far the run has come.
      stop_requested: whether this process was asked to stop; all then stop together.
      best: figures of the best epoch so far, or None.
    """

    _supports_tf_logs = True

    def __init__(
        self,
        trainee: Trainee,
        workdir: str,
        *,
        steps_per_epoch: int,
        checkpoint_every: int = 0,
        select: str = "best",
        early_stopping: int = 0,
        placement: Placement,
    ):
        super().__init__()
        self._agreement = Agreement(placement)
        self._record = {"epoch": 0, "score": -1.0}
        self._trainee = trainee
        self._checkpoints = files.join(workdir, workfolder.CHECKPOINTS)
        self._best_folder = files.join(workdir, workfolder.BEST)
        self._steps_per_epoch = steps_per_epoch
        self._every = checkpoint_every
        self._select = select
        self._early_stopping = early_stopping
        self._is_chief = placement.is_chief
        self._state = tf.train.Checkpoint(
            classifier=trainee.classifier,
            optimizer=trainee.optimizer,
            metrics=trainee.metrics,
        )
        self._weights = tf.train.Checkpoint(model=trainee.classifier)
        self._restored_metrics: list[np.ndarray] | None = None
        self._steps_before = 0
        self._epoch_began = time.monotonic()
        self.place = Place()
        self.begun_seconds = 0.0
        self.best: dict[str, Any] | None = None
        self.stopped_early = False
        self.stop_requested = False

    def restore(self) -> bool:
        """Goes back to the newest whole checkpoint; False where there is none."""
        snapshot = snapshots.newest(
            self._checkpoints,
            "; delete checkpoints/ and best/ of the work folder to start from the "
            "beginning",
        )
        if snapshot is None:
            return False
        self._state.read(snapshot.prefix).assert_consumed()
        facts = snapshot.facts
        self.place = Place(facts["epoch"], facts["step"])
        # Earlier programs did not write them down.
        self.begun_seconds = facts.get("begun_seconds", 0.0)
        self.best = facts["best"]
        self.stopped_early = facts["stopped_early"]
        self._record = facts["record"]
        if self._select == "best":
            self._take_over_best()
        return True

    def check_together(self, checksum: str = "", *, fault: bool = False) -> None:
        """Refuses to begin where another worker begins elsewhere; all workers call it.

        Args:
          checksum: of the weights that this worker starts from, if it does.
          fault: this one cannot begin, and says why itself; only tells the others.

        Raises:
          UserError: they do; each raises it.
        """
        epoch, step = (-1, 0) if fault else (self.place.epoch, self.place.step)
        if self._agreement.all_begin_alike(epoch, step, checksum):
            return
        self.end()
        if not fault:
            raise UserError(
                f"{self._checkpoints}: epoch {epoch}, step {step} here, and not on "
                "every worker; a --workdir that all of them see expected, and the same "
                "--init_from"
            )

    def check_seen(self, workdir: str) -> None:
        """Refuses a work folder that some worker does not see; all workers call it.

        Such a run would start, and not go on after a stop.

        Raises:
          UserError: there is one; each worker raises it.
        """
        # The chief has written it before it comes here.
        self._agreement.wait_for_all()
        for look in range(_LOOKS):
            if look:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            if self._agreement.all_agree(workfolder.read_config(workdir) is not None):
                return
        self.end()
        raise UserError(
            f"--workdir={workdir}: not seen by every worker; a folder that all of them "
            "see expected"
        )

    def _take_over_best(self) -> None:
        """Takes the figures of weights that were saved after the last checkpoint."""
        saved = None
        # None of them whole: as good as none.
        with contextlib.suppress(UserError):
            saved = snapshots.newest(self._best_folder)
        known = self.best["epoch"] if self.best else 0
        if saved and saved.number > known:
            self.best = saved.facts

    def on_train_begin(self, logs: dict | None = None) -> None:
        # Of a begun epoch; Keras sets them to nothing. All workers read them together.
        if self.place.step:
            variables = [v for m in self._trainee.metrics for v in m.variables]
            self._restored_metrics = [v.numpy() for v in variables]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._steps_before = self.place.step
        self._epoch_began = time.monotonic()
        if self._restored_metrics is not None:
            variables = [v for m in self._trainee.metrics for v in m.variables]
            for variable, value in zip(variables, self._restored_metrics, strict=True):
                variable.assign(value)
            self._restored_metrics = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        before, step = self.place.step, self._steps_before + batch + 1
        if step >= self._steps_per_epoch:
            return
        self.place = Place(self.place.epoch, step)
        due = self._every and step // self._every > before // self._every
        stopping = self._agreement.decide(self.stop_requested)
        if due or stopping:
            self._check_finite(logs, self.place.epoch)
            self._save()
        if stopping:
            self._stop()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        score = figures.get("val_macro_f1", 0.0)
        self._check_finite(logs, epoch)
        if score > self._record["score"]:
            self._record = {"epoch": epoch + 1, "score": score}
        better = self.best is None or score > self.best["score"]
        if better or self._select == "last":
            self.best = {"epoch": epoch + 1, "score": score, **figures}
            snapshots.save(
                self._weights,
                self._best_folder,
                epoch + 1,
                self.best,
                keep=1,
                is_chief=self._is_chief,
            )
        waited = epoch + 1 - self._record["epoch"]
        if self._early_stopping and waited >= self._early_stopping:
            logging.info("no better macro-F1 for %d epochs: stopping", waited)
            self.stopped_early = True
            self.model.stop_training = True
        self.place = Place(epoch + 1, 0)
        self.begun_seconds = 0.0
        self._save()
        if self._agreement.decide(self.stop_requested, now=True):
            self._stop()

    def epoch_seconds(self) -> float:
        """What the epoch has taken so far, in earlier processes too.

        Callbacks before this one may ask for it at the end of the epoch.
        """
        return self.begun_seconds + time.monotonic() - self._epoch_began

    def end(self) -> None:
        """Comes behind all that workers do together, so that each has it."""
        self._agreement.end()

    def _check_finite(self, logs: dict | None, epoch: int) -> None:
        """Refuses to save figures or weights that are not finite."""
        figures = {name: float(value) for name, value in (logs or {}).items()}
        wrong = [f"{name} is {v}" for name, v in figures.items() if not np.isfinite(v)]
        wrong += [
            f"weights of {weight.name.split(':')[0]} are not finite"
            for weight in self._trainee.classifier.weights
            if not np.isfinite(weight.numpy()).all()
        ]
        if wrong:
            raise UserError(
                f"{wrong[0]} in epoch {epoch + 1}: the training diverged; the last "
                "whole checkpoint stands; try a lower --learning_rate in another "
                "--workdir"
            )

    def _stop(self) -> NoReturn:
        self._agreement.wait_for_all()
        self.end()
        logging.info("stopped; the state is saved, start again to go on")
        raise Preempted

    def _save(self) -> None:
        begun_seconds = self.epoch_seconds() if self.place.step else 0.0
        facts = {
            "epoch": self.place.epoch,
            "step": self.place.step,
            "begun_seconds": round(begun_seconds, 1),
            "best": self.best,
            "stopped_early": self.stopped_early,
            "record": self._record,
        }
        snapshots.save(
            self._state,
            self._checkpoints,
            self.place.epoch * self._steps_per_epoch + self.place.step,
            facts,
            keep=_KEPT_CHECKPOINTS,
            is_chief=self._is_chief,
        )


class StopWhenDiverged(keras.callbacks.Callback):
    """Ends an epoch whose loss is not finite any more, and with it the training.

    Once in 32 calls it looks at the loss, which waits for the step; a GPU or TPU would
    else get no step in advance. All workers look at the same ones. What is saved
    `Saver` looks at itself.
    """

    _supports_tf_logs = True

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._calls += 1
        if self._calls % _CALLS_BETWEEN_LOOKS:
            return
        if not np.isfinite(float((logs or {}).get("loss", 0.0))):
            logging.warning("the loss is not finite after batch %d", batch + 1)
            self.model.stop_training = True


class HistoryFile(keras.callbacks.Callback):
    """`history.csv`: one row an epoch, rewritten whole each time.

    Args:
      workdir: the work folder.
      epochs_done: rows of later epochs, written before a crash, are dropped.
      epoch_seconds: gives what the epoch has taken, when it ends.
    """

    def __init__(
        self, workdir: str, epochs_done: int, epoch_seconds: Callable[[], float]
    ):
        super().__init__()
        self._path = files.join(workdir, workfolder.HISTORY)
        self._rows = [
            row for row in read_history(workdir) if int(row["epoch"]) <= epochs_done
        ]
        self._epoch_seconds = epoch_seconds

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        figures = {name: f"{float(v):.6f}" for name, v in (logs or {}).items()}
        seconds = f"{self._epoch_seconds():.1f}"
        row = {"epoch": str(epoch + 1), **figures, "seconds": seconds}
        self._rows.append(row)
        columns = list(dict.fromkeys(name for r in self._rows for name in r))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        files.write_text(self._path, text.getvalue())


def read_history(workdir: str) -> list[dict[str, str]]:
    """Rows of `history.csv`; empty where there is none."""
    path = files.join(workdir, workfolder.HISTORY)
    if not files.exists(path):
        return []
    return list(csv.DictReader(io.StringIO(files.read_text(path))))


class Progress(keras.callbacks.Callback):
    """A bar with notes/s while an epoch runs, and a line when it is done.

    Args:
      epochs: of the whole run.
      steps_per_epoch: steps of a whole epoch.
      batch_size: global batch size.
    """

    _supports_tf_logs = True
    _REFRESH_SECONDS = 0.5

    def __init__(self, epochs: int, steps_per_epoch: int, batch_size: int):
        super().__init__()
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._batch_size = batch_size
        self._bar: tqdm | None = None
        self._started = self._shown = 0.0
        self._first_step = 0

    def start_at(self, step: int) -> None:
        """The steps of the first epoch that were done before."""
        self._first_step = step

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._started = time.monotonic()
        self._bar = tqdm(
            total=self._steps * self._batch_size,
            initial=self._first_step * self._batch_size,
            desc=f"epoch {epoch + 1}/{self._epochs}",
            unit="note",
            leave=False,
            mininterval=self._REFRESH_SECONDS,
            disable=None,
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.monotonic()
        seen = (self._first_step + batch + 1) * self._batch_size
        if now - self._shown >= self._REFRESH_SECONDS:
            self._shown = now
            figures = {k: f"{float(v):.3f}" for k, v in (logs or {}).items()}
            self._bar.set_postfix(figures, refresh=False)
            self._bar.update(seen - self._bar.n)

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self._bar is not None:
            self._bar.set_description("validation", refresh=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.monotonic() - self._started
        notes = (self._steps - self._first_step) * self._batch_size
        self._first_step = 0
        self._close()
        figures = " ".join(f"{k} {float(v):.4f}" for k, v in (logs or {}).items())
        logging.info(
            "epoch %d/%d: %s, %.0f notes/s, %.0f s",
            epoch + 1,
            self._epochs,
            figures,
            notes / seconds,
            seconds,
        )

    def on_train_end(self, logs: dict | None = None) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
