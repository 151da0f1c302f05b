"""One run, from settings and a prepared data set to a work folder."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
import tf_keras as keras
from absl import logging

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.model import frontend, networks, randomness, recording
from mic_tf.pipeline import batches, draws
from mic_tf.pipeline.batches import Place, Records
from mic_tf.settings import RunSettings
from mic_tf.tracing import as_written
from mic_tf.training import lock, snapshots, starting, training_data, workfolder
from mic_tf.training import strategy as strategies
from mic_tf.training.callbacks import (
    HistoryFile,
    Progress,
    Saver,
    StopWhenDiverged,
    read_history,
)
from mic_tf.training.strategy import Placement
from mic_tf.training.tensorboard import Pictures
from mic_tf.training.trainee import Trainee, compile_trainee


def train(
    settings: RunSettings,
    workdir: str,
    builder: tfds.core.DatasetBuilder,
    extra_builders: Sequence[tfds.core.DatasetBuilder] = (),
    afterwards: Callable[[Records], None] | None = None,
) -> dict[str, Any]:
    """Trains to the end, from where the work folder stands.

    Args:
      settings: of the run.
      workdir: the work folder; made if missing.
      builder: the prepared data set.
      extra_builders: further prepared sets, all of whose notes are trained on.
      afterwards: what the chief does with the opened records of `builder` when
        training is over.

    Returns:
      The run's summary, as `summary.json` has it.

    Raises:
      UserError: a mistake in settings, data or work folder.
      Preempted: SIGTERM arrived; the state is saved.
    """
    snapshots.check_name(workdir)
    placement = strategies.choose(settings.train.strategy, settings.train.tpu)
    _check(settings, placement)
    held = lock.only_one(workdir) if placement.is_chief else contextlib.nullcontext()
    with held:
        builders = (builder, *extra_builders)
        return _train(settings, workdir, builders, placement, afterwards)


def _train(
    settings: RunSettings,
    workdir: str,
    builders: Sequence[tfds.core.DatasetBuilder],
    placement: Placement,
    afterwards: Callable[[Records], None] | None,
) -> dict[str, Any]:
    resuming = workfolder.check_same_settings(workdir, settings)
    _set_up_chance(settings)
    data = training_data.describe_data(settings, builders[0], builders[1:])
    if resuming:
        workfolder.check_same_data(workdir, data.description)
    labels = data.records.index.families
    steps = math.ceil(data.train_notes / settings.train.batch_size)
    with (
        workfolder.numeric_policy(settings.train.mixed_precision),
        placement.strategy.scope(),
    ):
        trainee = Trainee(settings, len(labels))
        compile_trainee(trainee, settings, steps * settings.train.epochs)
        saver = Saver(
            trainee,
            workdir,
            steps_per_epoch=steps,
            checkpoint_every=settings.train.checkpoint_every,
            select=settings.train.select,
            early_stopping=settings.train.early_stopping,
            placement=placement,
        )
        try:
            restored = _restored(saver, workdir, resuming)
            origin = None
            if settings.train.init_from and not restored:
                origin = starting.find(settings.train.init_from)
        except UserError:
            saver.check_together(fault=True)
            raise
        saver.check_together(origin.snapshot.checksum if origin else "")
        if origin:
            starting.start(trainee.classifier, settings, labels, origin)
            data.description[starting.STARTED_FROM] = origin.trainings
            data.description[starting.STARTED_WEIGHTS] = origin.snapshot.checksum
        if restored:
            logging.info(
                "%s: going on after epoch %d, step %d of %d",
                workdir,
                saver.place.epoch,
                saver.place.step,
                steps,
            )
    run = _Run(settings, workdir, data, placement, trainee, saver, steps)
    # Written when nothing that a person can get wrong is left to do.
    # Again where nothing was saved yet: the weights it starts from may be others now.
    if placement.is_chief and not restored:
        workfolder.remove_outcome(workdir)
    if placement.is_chief and not (resuming and restored):
        workfolder.write_config(workdir, settings, labels, data.description)
    saver.check_seen(workdir)
    started = time.monotonic()
    with _stop_on_sigterm(saver), _faults_named(data, settings):
        run.fit()
        summary = run.finish(time.monotonic() - started)
    if afterwards is not None and placement.is_chief:
        afterwards(data.main)
    # Others wait: a chief that is taken away before can only go on with them.
    saver.end()
    return summary


def _restored(saver: Saver, workdir: str, resuming: bool) -> bool:
    """Goes back to where the work folder stands; whether there was anything."""
    restored = saver.restore()
    if not restored:
        workfolder.check_not_finished(workdir)
    if restored and not resuming:
        raise UserError(
            f"{workdir}: has checkpoints but no {workfolder.CONFIG}, which says "
            "what they were trained on; put it back, or give another --workdir"
        )
    return restored


class _Run:
    """The parts of one training, put together."""

    def __init__(
        self,
        settings: RunSettings,
        workdir: str,
        data: training_data.TrainingData,
        placement: Placement,
        trainee: Trainee,
        saver: Saver,
        steps_per_epoch: int,
    ):
        self._settings = settings
        self._workdir = workdir
        self._data = data
        self._placement = placement
        self._trainee = trainee
        self._saver = saver
        self._steps = steps_per_epoch
        self._validation = self._validation_batches()
        self._seconds_before = _seconds_before(
            workdir, saver.place.epoch, saver.begun_seconds
        )

    def fit(self) -> None:
        """Trains what is left: the rest of a begun epoch, then the whole ones."""
        if self._saver.stopped_early:
            return
        epochs = self._settings.train.epochs
        callbacks = self._callbacks()
        place = self._saver.place
        if place.step:
            self._fit_from(place, place.epoch + 1, callbacks)
            place = Place(place.epoch + 1, 0)
        if place.epoch < epochs and not self._saver.stopped_early:
            self._fit_from(place, epochs, callbacks)

    def finish(self, seconds: float) -> dict[str, Any]:
        """Writes `summary.json`; seconds are of this process, and of those before."""
        summary = {
            "epochs": self._saver.place.epoch,
            "steps_per_epoch": self._steps,
            "selected": self._saver.best,
            "train_seconds": round(self._seconds_before + seconds, 1),
            "parameters": self._trainee.classifier.count_params(),
            "replicas": self._placement.strategy.num_replicas_in_sync,
        }
        if self._placement.is_chief:
            path = files.join(self._workdir, workfolder.SUMMARY)
            files.write_json(path, summary)
        return summary

    def _fit_from(self, place: Place, end_epoch: int, callbacks: list) -> None:
        for callback in callbacks:
            if isinstance(callback, Progress):
                callback.start_at(place.step)
        self._trainee.fit(
            self._training_batches(place),
            initial_epoch=place.epoch,
            epochs=end_epoch,
            steps_per_epoch=self._steps - place.step,
            validation_data=self._validation,
            validation_steps=self._validation_steps,
            callbacks=callbacks,
            verbose=0,
        )

    def _training_batches(self, place: Place) -> Any:
        train, data = self._settings.train, self._data

        @as_written
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            per_pipeline = train.batch_size // context.num_input_pipelines
            draw = draws.Draw(
                notes_per_epoch=self._steps * per_pipeline,
                seed=train.seed,
                start_epoch=place.epoch,
                skip=place.step * per_pipeline,
                shuffle_buffer=self._settings.data.shuffle_buffer,
                pipeline=(context.input_pipeline_id, context.num_input_pipelines),
            )
            dataset = batches.training_batches(
                data.records,
                self._drawn(draw),
                batch_size=context.get_per_replica_batch_size(train.batch_size),
                class_weight=data.balance.class_weight,
            )
            dataset = batches.on_service(dataset, self._settings.data.data_service)
            # Else several workers ask one another before each step whether it ends,
            # and none knows the size of its batch.
            endless = tf.data.experimental.assert_cardinality
            return dataset.apply(endless(tf.data.INFINITE_CARDINALITY))

        return self._placement.distribute(of_worker)

    def _drawn(self, draw: draws.Draw) -> tf.data.Dataset:
        """Balanced notes, not yet parsed."""
        data = self._data
        if data.shards is not None:
            selected = data.partition.parts["train"]
            return draws.drawn_from_families(
                data.shards, selected, data.balance.target, draw
            )
        return draws.drawn_from_sides(data.records, data.sides, draw)

    def _validation_batches(self) -> Any:
        """Validation batches and their number; none where there is nothing to see."""
        parts = self._data.partition.parts
        self._validation_steps = None
        if self._settings.train.select == "last" and not (
            "valid" in parts and parts["valid"].any()
        ):
            if self._settings.train.early_stopping:
                raise UserError(
                    f"--early_stopping={self._settings.train.early_stopping}: no "
                    "validation notes here that it could look at; leave it out"
                )
            return None
        if "valid" not in parts or not parts["valid"].any():
            protocol = self._data.partition.protocol
            others = {
                "official": ", or --protocol=instrument or random",
                "instrument": ", or more than two --folds of enough instruments",
            }
            raise UserError(
                f"{self._data.description['dataset']}: no validation notes under the "
                f"{protocol} protocol; use --select=last{others.get(protocol, '')}"
            )
        batch_size = self._settings.train.batch_size
        self._validation_steps = math.ceil(int(parts["valid"].sum()) / batch_size)
        records, selected = self._data.records, parts["valid"]

        @as_written
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            dataset = batches.evaluation_batches(
                records,
                selected,
                batch_size=context.get_per_replica_batch_size(batch_size),
                fill_to=batch_size,
                pipeline=(context.input_pipeline_id, context.num_input_pipelines),
            )
            dataset = dataset.map(
                lambda waveform, family, weight, _: (waveform, family, weight)
            )
            # Without end: the end of one that is over waits for TensorFlow's own
            # tuning thread, about as long as validation took.
            return dataset.repeat()

        return self._placement.distribute(of_worker)

    def _callbacks(self) -> list[keras.callbacks.Callback]:
        train = self._settings.train
        callbacks: list[keras.callbacks.Callback] = [StopWhenDiverged()]
        if self._placement.is_chief:
            logs = files.join(self._workdir, workfolder.LOGS)
            profile = (
                tuple(int(n) for n in train.profile.split(","))
                if (train.profile)
                else 0
            )
            callbacks += [
                HistoryFile(
                    self._workdir,
                    self._saver.place.epoch,
                    self._saver.epoch_seconds,
                ),
                keras.callbacks.TensorBoard(
                    logs, write_graph=False, profile_batch=profile
                ),
                Progress(train.epochs, self._steps, train.batch_size),
            ]
            # The chief alone would run what several workers must run together.
            if self._placement.workers == 1:
                callbacks.append(self._pictures(logs))
        return [*callbacks, self._saver]

    def _pictures(self, logs: str) -> Pictures:
        train = self._data.partition.parts["train"]
        return Pictures(logs, self._trainee, self._data.records, train, self._settings)


def _seconds_before(workdir: str, epochs: int, begun_seconds: float) -> float:
    """What earlier processes took: to the end of a run, or for what they did of it."""
    if not epochs:
        return begun_seconds
    path = files.join(workdir, workfolder.SUMMARY)
    whole = files.read_json(path) if files.exists(path) else {}
    rows = [row for row in read_history(workdir) if int(row["epoch"]) <= epochs]
    done = sum(float(row["seconds"]) for row in rows)
    return max(whole.get("train_seconds", 0.0), done + begun_seconds)


def _check(settings: RunSettings, placement: Placement) -> None:
    train = settings.train
    service = settings.data.data_service
    if service:
        batches.check_service(service)
    if service and train.deterministic:
        raise UserError(
            "--data_service with --deterministic: its batches come in any order; drop "
            "one of the two"
        )
    if train.profile:
        parts = train.profile.split(",")
        digits = len(parts) == 2 and all(p.strip().isdigit() for p in parts)
        if not digits or int(parts[0]) > int(parts[1]):
            raise UserError(f"--profile={train.profile}: FROM,TO expected, as 10,20")
    replicas = placement.strategy.num_replicas_in_sync
    if train.batch_size % replicas:
        raise UserError(
            f"--batch_size={train.batch_size}: a multiple of the number of replicas, "
            f"{replicas}, expected"
        )
    on_tpu = isinstance(placement.strategy, tf.distribute.TPUStrategy)
    on_cpu = not on_tpu and not tf.config.list_logical_devices("GPU")
    if train.jit and on_cpu and replicas > 1:
        raise UserError(
            "--jit: XLA's collectives do not run on several CPU replicas; use one "
            "replica, or drop --jit"
        )
    if train.jit and on_tpu:
        raise UserError("--jit: a TPU compiles by XLA as it is; leave it out")
    if train.mixed_precision == "mixed_float16" and on_tpu:
        raise UserError(
            "--mixed_precision=mixed_float16: a TPU has mixed_bfloat16; give that"
        )
    if train.batch_size == 1 and settings.network.model != "small_cnn":
        raise UserError(
            f"--batch_size=1: {settings.network.model} normalises over the notes of a "
            "batch, and learns nothing from one; 2 or more expected"
        )
    networks.check_size(settings)
    bounds = settings.frontend
    frontend.check_bounds(bounds.n_fft, bounds.fmin, bounds.fmax)
    deaf = frontend.empty_bands(bounds)
    if deaf:
        logging.warning(
            "--n_mels=%d: %d of these bands lie between two bins and hear nothing; "
            "fewer, or an --n_fft above %d, expected",
            *(bounds.n_mels, deaf, bounds.n_fft),
        )
    recording.check_bounds(settings.augment, bounds.fmax)


def _set_up_chance(settings: RunSettings) -> None:
    # tf.data cannot shuffle with a tensor as seed when the global seed is 0.
    randomness.set_random_seed(settings.train.seed + 1)
    if settings.train.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def _faults_named(
    data: training_data.TrainingData, settings: RunSettings
) -> Iterator[None]:
    """Turns errors of data, logs and memory into ones that name them."""
    then = "; the last whole checkpoint stands"
    shards = data.shards.paths if data.shards else ()
    with batches.faults_named(data.records, then, shards):
        try:
            yield
        except tf.errors.OpError as error:
            if "events file" in str(error):
                reason = files.reason(error)
                raise UserError(f"logs cannot be written: {reason}") from error
            if _is_of_memory(error):
                raise UserError(
                    f"--batch_size={settings.train.batch_size}: takes more memory than "
                    "there is; try a smaller one in another --workdir"
                ) from error
            raise


def _is_of_memory(error: tf.errors.OpError) -> bool:
    """Whether memory is what ran out; a disk is the same error."""
    words = ("OOM", "memory")
    exhausted = isinstance(error, tf.errors.ResourceExhaustedError)
    return exhausted and any(word in str(error) for word in words)


@contextlib.contextmanager
def _stop_on_sigterm(saver: Saver) -> Iterator[None]:
    """SIGTERM asks the saver to save and stop after the step that is running."""

    def ask(signum: int, frame: Any) -> None:
        del signum, frame
        logging.warning("SIGTERM: saving after this step")
        saver.stop_requested = True

    try:
        previous = signal.signal(signal.SIGTERM, ask)
    except ValueError:
        # Not in the main thread: whoever runs us there handles signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
