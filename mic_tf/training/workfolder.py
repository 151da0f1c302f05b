"""A work folder: what it holds, and how a finished run is opened again."""

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras
from absl import logging

import mic_tf
from mic_tf import files
from mic_tf import settings as run_settings
from mic_tf.errors import UserError
from mic_tf.model import networks
from mic_tf.settings import RunSettings
from mic_tf.training import snapshots

CONFIG = "config.json"
LABELS = "labels.txt"
HISTORY = "history.csv"
SUMMARY = "summary.json"
CALIBRATION = "calibration.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
LOGS = "logs"
EVALUATION = "eval"
EXPORT = "export"

OUTDATED = "of other weights or another temperature; evaluate again"

_FIGURES = (
    *("dataset", "split", "protocol", "n"),
    *("accuracy", "balanced_accuracy", "macro_f1", "ece"),
)
"""What every `metrics.json` has."""

_PARTS = {"settings": dict, "labels": list, "data": dict}
"""What every run's `config.json` has."""

_CHANNELS_LAST = "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT"
_PACKAGES = ("tensorflow", "tf_keras", "tensorflow-datasets", "numpy")


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run's model with its selected weights, and what is known of it.

    Attributes:
      workdir: the work folder.
      settings: the run's settings.
      labels: names of the families, in the order of the logits.
      model: Keras model from waveform to logits.
      temperature: what logits are divided by before the softmax.
      summary: data, protocol, versions and figures, as `summary.json` has them.
      checksum: of the selected weights, see `snapshots.Snapshot`.
    """

    workdir: str
    settings: RunSettings
    labels: tuple[str, ...]
    model: keras.Model
    temperature: float
    summary: dict[str, Any]
    checksum: str


def versions() -> dict[str, str]:
    """Versions of what a run depends on."""
    found = {"mic_tf": mic_tf.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def write_config(
    workdir: str, settings: RunSettings, labels: tuple[str, ...], data: dict[str, Any]
) -> None:
    """Writes `config.json` and `labels.txt` of a new run."""
    content = {
        "settings": run_settings.to_dict(settings),
        "labels": list(labels),
        "data": data,
        "versions": versions(),
    }
    files.write_text(files.join(workdir, LABELS), "\n".join(labels) + "\n")
    files.write_json(files.join(workdir, CONFIG), content)


def check_not_finished(workdir: str) -> None:
    """Refuses to begin in the folder of a finished run whose checkpoints are gone.

    Raises:
      UserError: its weights would be lost.
    """
    best = files.join(workdir, BEST)
    finished = files.exists(files.join(workdir, SUMMARY))
    if finished and files.exists(best) and tf.io.gfile.listdir(best):
        raise UserError(
            f"{workdir}: its training is finished, and {CHECKPOINTS}/ is gone; delete "
            f"{BEST}/ too to train anew, or give another --workdir"
        )


def remove_outcome(workdir: str) -> None:
    """Takes away what a training left of which nothing else is there any more.

    Its weights, summary, temperature and figures; what else lies under these names, as
    a run in a folder called `best`, stays.
    """
    summary, best = (files.join(workdir, name) for name in (SUMMARY, BEST))
    if not (snapshots.clear(best) or files.exists(summary)):
        return
    for path in (summary, files.join(workdir, CALIBRATION)):
        files.remove(path)
    for path in metrics_paths(workdir):
        files.remove(path)


def metrics_paths(workdir: str) -> list[str]:
    """The `metrics.json` of every evaluation in a work folder, by its name.

    Not by a pattern: `[` in the folder's name would be a part of it.
    """
    folder = files.join(workdir, EVALUATION)
    names = sorted(tf.io.gfile.listdir(folder)) if files.exists(folder) else []
    paths = [files.join(folder, name.rstrip("/"), "metrics.json") for name in names]
    return [path for path in paths if files.exists(path)]


def evaluations(workdir: str) -> list[dict[str, Any]]:
    """The `metrics.json` of every evaluation of the model that a work folder has.

    Figures of a model that it had before, as where its training went on, are passed
    over with a warning.

    Raises:
      UserError: a file is not what `evaluate` writes.
    """
    found, model = [], model_now(workdir)
    for path in metrics_paths(workdir):
        result = read_metrics(path)
        if is_of(model, result):
            found.append(result)
        else:
            logging.warning("%s: %s; left out", path, OUTDATED)
    return found


def read_metrics(path: str) -> dict[str, Any]:
    """A `metrics.json`.

    Raises:
      UserError: it is not what `evaluate` writes.
    """
    result = files.read_json(path)
    missing = set(_FIGURES) - set(result if isinstance(result, dict) else ())
    if missing:
        raise UserError(f"{path}: no {min(missing)}; evaluate it again")
    return result


def model_now(workdir: str) -> dict[str, Any]:
    """What figures of the model that a work folder has say of it, for `is_of`.

    Nothing of weights that are damaged or gone: nobody knows.
    """
    model: dict[str, Any] = {"temperature": _temperature(workdir) or 1.0}
    if files.exists(files.join(workdir, SUMMARY)):
        model["unfinished"] = None
    with contextlib.suppress(UserError):
        if best := snapshots.newest(files.join(workdir, BEST)):
            model["weights"] = best.checksum
    return model


def is_of(model: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether a `metrics.json` is of this model; earlier programs did not say it."""
    return all(result.get(key, value) == value for key, value in model.items())


def read_config(workdir: str) -> dict[str, Any] | None:
    """`config.json` of a work folder, or None where there is none.

    Raises:
      UserError: it is another program's.
    """
    path = files.join(workdir, CONFIG)
    if not files.exists(path):
        return None
    config = files.read_json(path)
    parts = config if isinstance(config, dict) else {}
    if not all(isinstance(parts.get(name), kind) for name, kind in _PARTS.items()):
        raise UserError(f"{path}: not of a run of mic_tf; another folder expected")
    return config


def check_same_settings(workdir: str, settings: RunSettings) -> bool:
    """Whether the folder has a run of these settings to go on with.

    Returns:
      False where the folder has no run yet.

    Raises:
      UserError: it has a run of other settings.
    """
    config = read_config(workdir)
    if config is None:
        return False
    old = _settings_of(workdir, config)
    different = run_settings.differences(old, settings)
    if different:
        raise UserError(
            f"{workdir}: has a run of other settings ({'; '.join(different)}); give "
            "those, or another --workdir"
        )
    return True


def check_same_data(workdir: str, data: dict[str, Any]) -> None:
    """Checks that a run goes on with the notes that it began with.

    Args:
      workdir: the work folder.
      data: description of the notes as they are now.

    Raises:
      UserError: they are others.
    """
    before = read_config(workdir)["data"]
    # Earlier programs did not write down all of it.
    for key in ("dataset", "extra_datasets", "notes", "train_notes_per_family"):
        if before.get(key, data[key]) != data[key]:
            raise UserError(
                f"{workdir}: began with other notes ({key}: {before[key]}, now "
                f"{data[key]}); give those, or another --workdir"
            )
    for key in ("note_digests", "extra_digests"):
        if before.get(key, data[key]) != data[key]:
            raise UserError(
                f"{workdir}: began with other notes (as many of each family, but not "
                "the same); give those, or another --workdir"
            )


def load_settings(workdir: str) -> RunSettings:
    """The settings of a work folder's run.

    Raises:
      UserError: it is no work folder.
    """
    return _settings_of(workdir, _required_config(workdir))


def _required_config(workdir: str) -> dict[str, Any]:
    config = read_config(workdir)
    if config is None:
        raise UserError(
            f"{workdir}: no {CONFIG}, so no work folder; train with --workdir first"
        )
    return config


def _settings_of(workdir: str, config: dict[str, Any]) -> RunSettings:
    path = files.join(workdir, CONFIG)
    return run_settings.run_from_dict(config["settings"], path)


def load_run(workdir: str, *, calibrating: bool = False) -> TrainedRun:
    """Opens a work folder with the weights that were selected.

    Args:
      workdir: the work folder.
      calibrating: whether the temperature is about to be fitted; else it is said of a
        finished run where it was not.

    Raises:
      UserError: it is no work folder, or has no weights yet.
    """
    snapshots.check_name(workdir)
    config = _required_config(workdir)
    settings = _settings_of(workdir, config)
    labels = tuple(config["labels"])
    best, model = _selected(workdir, settings, labels)
    temperature = _temperature(workdir)
    if temperature is None and not calibrating:
        _warn_of_no_temperature(workdir, config)
    return TrainedRun(
        workdir,
        settings,
        labels,
        model,
        temperature or 1.0,
        _summary(workdir, config, best),
        best.checksum,
    )


def _temperature(workdir: str) -> float | None:
    """What was fitted; None where nothing was."""
    path = files.join(workdir, CALIBRATION)
    return float(files.read_json(path)["temperature"]) if files.exists(path) else None


def _selected(
    workdir: str, settings: RunSettings, labels: tuple[str, ...]
) -> tuple[snapshots.Snapshot, keras.Model]:
    """The selected weights; those that a training saves meanwhile take their place."""
    folder = files.join(workdir, BEST)
    best = snapshots.newest(folder)
    while best is not None:
        try:
            return best, restored_model(settings, labels, best)
        except tf.errors.NotFoundError:
            before, best = best, snapshots.newest(folder)
            if best == before:
                raise
    raise UserError(f"{workdir}: no finished epoch yet, so no weights in {BEST}/")


def restored_model(
    settings: RunSettings, labels: tuple[str, ...], snapshot: snapshots.Snapshot
) -> keras.Model:
    """A network in float32 with the weights of a snapshot, which may be float64."""
    # tf.train.load_checkpoint takes a prefix on ram:// for a folder.
    reader = tf.compat.v1.train.NewCheckpointReader(snapshot.prefix)
    wide = tf.float64 in reader.get_variable_to_dtype_map().values()
    with numeric_policy("float64" if wide else "float32"):
        model = networks.build_model(settings, len(labels))
    status = tf.train.Checkpoint(model=model).read(snapshot.prefix)
    status.assert_existing_objects_matched().expect_partial()
    if not wide:
        return model
    with numeric_policy("float32"):
        rounded = networks.build_model(settings, len(labels))
    rounded.set_weights(model.get_weights())
    return rounded


def _summary(
    workdir: str, config: dict[str, Any], best: snapshots.Snapshot
) -> dict[str, Any]:
    words = unfinished(workdir, config)
    if words:
        warn_unfinished(workdir, words)
        progress = {"unfinished": words}
    else:
        progress = files.read_json(files.join(workdir, SUMMARY))
    return {
        "data": config["data"],
        "versions": config["versions"],
        "selected": best.facts,
        **progress,
    }


def unfinished(workdir: str, config: dict[str, Any]) -> str:
    """How far a run came that has written no summary; nothing where it has."""
    if files.exists(files.join(workdir, SUMMARY)):
        return ""
    epochs = config["settings"]["train"]["epochs"]
    newest = None
    # None of them whole: no reason not to use the weights that were selected.
    with contextlib.suppress(UserError):
        newest = snapshots.newest(files.join(workdir, CHECKPOINTS))
    return f"{newest.facts['epoch'] if newest else 'some'} of {epochs} epochs"


def warn_unfinished(name: str, words: str) -> None:
    """Says on the screen what `unfinished` gave for the run of this name."""
    logging.warning("%s: its training is not finished (%s)", name, words)


def _warn_of_no_temperature(workdir: str, config: dict[str, Any]) -> None:
    """Says of a finished run that it has none, though it has notes to fit it on."""
    finished = files.exists(files.join(workdir, SUMMARY))
    if finished and config["data"].get("notes", {}).get("valid"):
        logging.warning(
            "%s: its temperature was not fitted; start its training again, which "
            "then does only that",
            workdir,
        )


@contextlib.contextmanager
def numeric_policy(name: str) -> Iterator[None]:
    """Builds Keras layers under this numeric policy.

    In 16 bit, BatchNorm on a GPU takes cuDNN's kernels for channels last from then on,
    if the environment does not say otherwise: before and behind others TensorFlow
    transposes.
    """
    if name.startswith("mixed_"):
        os.environ.setdefault(_CHANNELS_LAST, "1")
    previous = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(previous)
