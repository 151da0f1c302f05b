"""Weights of a finished run that another one starts from: `train --init_from`.

They are in a work folder, or beside an exported model, in the folder `weights` that
`export --weights` writes: the settings and labels as `config.json` and one snapshot of
the network as it was trained, BatchNorm not folded, without the optimiser's state.
"""

import contextlib
import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mic_tf import bundled, files
from mic_tf import settings as run_settings
from mic_tf.errors import UserError
from mic_tf.model import networks
from mic_tf.settings import RunSettings
from mic_tf.training import snapshots, workfolder
from mic_tf.training.snapshots import Snapshot

WEIGHTS = "weights"
STARTED_FROM = "started_from"
"""What a run's description calls the data of earlier runs that its weights heard."""
UNRECORDED = "started_from_unrecorded"
"""The same, where an earlier program did not write that down: the name alone."""

STARTED_WEIGHTS = "started_from_weights"
"""The checksum of the weights that it started from."""

HEAD = "logits"
"""How the names of layers end whose outputs are families."""

_SECTIONS = ("frontend", "network")
_FREE = ("dropout", "skip_silence_db")
"""What may differ from the run that the weights are from."""

_OF_A_RUN = (workfolder.LABELS, workfolder.BEST, workfolder.CHECKPOINTS)
"""What is in a work folder, but not beside the weights of an export."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
      source: the folder, as the person gave it.
      settings: of the run that trained them.
      labels: names of its families, in the order of the logits.
      snapshot: the weights.
      data: what that run says of its data, see `TrainingData.description`.
      unfinished: how far its training came; empty if that is finished, or the weights
        are an export's.
    """

    source: str
    settings: RunSettings
    labels: tuple[str, ...]
    snapshot: Snapshot
    data: dict[str, Any]
    unfinished: str = ""

    @property
    def trainings(self) -> list[dict[str, Any]]:
        """What the weights have heard: their own run's data and those before it."""
        data = described(self.data, self.settings.train.init_from)
        own = {k: v for k, v in data.items() if k != STARTED_FROM}
        return [own, *data.get(STARTED_FROM, [])]


def described(data: dict[str, Any], init_from: str) -> dict[str, Any]:
    """A run's description, which says where it lacks what the weights heard before."""
    if not init_from or STARTED_FROM in data:
        return data
    return {UNRECORDED: init_from} | data


def write(run: workfolder.TrainedRun, folder: str) -> int:
    """Writes a run's weights for others to start from.

    Args:
      run: the trained run; its settings should name no place of this machine.
      folder: where to; what is there of an earlier export is replaced.

    Returns:
      The size in bytes.

    Raises:
      UserError: the folder cannot be written, or has something else in it.
    """
    check_free(folder)
    remove(folder)
    content = {
        "settings": run_settings.to_dict(run.settings),
        "labels": list(run.labels),
        "data": run.summary["data"],
        "versions": run.summary["versions"],
    }
    config = files.join(folder, workfolder.CONFIG)
    # First: by it the next export knows what one that was interrupted has left.
    files.write_json(config, content)
    checkpoint = tf.train.Checkpoint(model=run.model)
    snapshots.save(checkpoint, folder, 1, run.summary.get("selected", {}), keep=1)
    paths = [config, *snapshots.paths_of(folder)]
    return sum(tf.io.gfile.stat(path).length for path in paths)


def check_free(folder: str) -> None:
    """Refuses to write weights where something else is than those of an export.

    Raises:
      UserError: the folder has a run, or anything that no export wrote.
    """
    snapshots.check_name(folder)
    if not tf.io.gfile.isdir(folder) or _is_of_export(folder):
        return
    names = sorted(tf.io.gfile.listdir(folder))
    if names:
        raise UserError(
            f"{folder}: not of an export (it has {names[0].rstrip('/')}); move it, or "
            "give another --out"
        )


def remove(folder: str) -> None:
    """Takes away weights that an earlier export wrote, and their folder if it is empty.

    What else is in it stays, and so does all of a folder that no export wrote.
    """
    if not _is_of_export(folder):
        return
    snapshots.clear(folder)
    files.remove(files.join(folder, workfolder.CONFIG))
    # In an object store a folder without files is not there any more.
    with contextlib.suppress(tf.errors.NotFoundError):
        if not tf.io.gfile.listdir(folder):
            tf.io.gfile.rmtree(folder)


def _is_of_export(folder: str) -> bool:
    """Whether weights were written here by an export: a run's settings, but no run."""
    if any(files.exists(files.join(folder, name)) for name in _OF_A_RUN):
        return False
    try:
        return workfolder.read_config(folder) is not None
    except UserError:
        return False


def find(source: str) -> Origin:
    """The weights in a work folder, an export or the bundled model.

    Args:
      source: a work folder, a folder of `export --weights`, the `weights` in it, or
        `pretrained`.

    Raises:
      UserError: there are none.
    """
    folder = bundled.resolved(source).rstrip("/")
    snapshots.check_name(folder)
    inside = files.join(folder, WEIGHTS)
    if files.exists(files.join(inside, workfolder.CONFIG)):
        folder = inside
    config = workfolder.read_config(folder)
    if config is None:
        exported = files.exists(files.join(folder, "contract.json"))
        raise UserError(
            f"--init_from={source}: an export without weights; export it again with "
            "--weights"
            if exported
            else f"--init_from={source}: no {workfolder.CONFIG}, so no work folder, "
            f"and no {WEIGHTS}/ of an export"
        )
    best = snapshots.newest(files.join(folder, workfolder.BEST))
    snapshot = best or snapshots.newest(folder)
    if snapshot is None:
        raise UserError(f"--init_from={source}: no weights in it yet")
    settings = workfolder.load_settings(folder)
    labels = tuple(config["labels"])
    unfinished = workfolder.unfinished(folder, config) if best else ""
    return Origin(source, settings, labels, snapshot, config["data"], unfinished)


def take_over(
    settings: RunSettings, workdir: str, given: Collection[str]
) -> RunSettings:
    """The settings of a run, with front-end and network of the weights it starts from.

    Args:
      settings: as the flags say them.
      workdir: of the run; one that has begun keeps what it took over then.
      given: names of the settings that the person gave; these stay.

    Returns:
      The settings of the run; the same where it starts from nothing.

    Raises:
      UserError: there are no weights, or a setting that was given differs from theirs.
    """
    source = settings.train.init_from
    if not source:
        return settings
    begun = workfolder.read_config(workdir)
    if begun and begun["settings"]["train"]["init_from"] == source:
        theirs = workfolder.load_settings(workdir)
    else:
        theirs = find(source).settings
    parts, taken = {}, []
    for section in _SECTIONS:
        own, other = getattr(settings, section), getattr(theirs, section)
        changes = {
            field.name: getattr(other, field.name)
            for field in dataclasses.fields(own)
            if field.name not in given
            and getattr(own, field.name) != getattr(other, field.name)
        }
        parts[section] = dataclasses.replace(own, **changes)
        taken += [f"{name} {value}" for name, value in changes.items()]
    if taken:
        logging.info("taken over from %s: %s", source, ", ".join(taken))
    settings = dataclasses.replace(settings, **parts)
    _check_same_network(settings, theirs, source)
    return settings


def _check_same_network(
    settings: RunSettings, theirs: RunSettings, source: str
) -> None:
    for section in _SECTIONS:
        own, other = getattr(settings, section), getattr(theirs, section)
        for field in dataclasses.fields(own):
            name = field.name
            asked, made = getattr(own, name), getattr(other, name)
            if asked != made and name not in _FREE:
                raise UserError(
                    f"--{name}={asked}: the weights of --init_from={source} are of "
                    f"{name} {made}; leave --{name} out"
                )


def start(
    model: keras.Model, settings: RunSettings, labels: tuple[str, ...], origin: Origin
) -> None:
    """Copies the weights of another run into a model, layer by layer.

    Of the logits only those of families that both know are copied; the others keep
    their initial weights.

    Args:
      model: to be changed.
      settings: that it was built with.
      labels: names of its families.
      origin: the weights.

    Raises:
      UserError: they are of another network or front-end.
    """
    _check_same_network(settings, origin.settings, origin.source)
    if origin.unfinished:
        workfolder.warn_unfinished(origin.source, origin.unfinished)
    other = workfolder.restored_model(origin.settings, origin.labels, origin.snapshot)
    known = [name for name in labels if name in origin.labels]
    copied = 0
    for layer in model.layers:
        weights = other.get_layer(layer.name).get_weights() if layer.weights else []
        if layer.name.endswith((HEAD, networks.MEAN_OF_MEMBERS)):
            weights = _head(layer.get_weights(), weights, labels, origin.labels)
        if weights:
            layer.set_weights(weights)
            copied += 1
    new = [name for name in labels if name not in known]
    logging.info(
        "start from %s, epoch %s: %d layers; logits known: %s; new: %s",
        origin.source,
        origin.snapshot.facts.get("epoch", "not known"),
        copied,
        ", ".join(known) or "none",
        ", ".join(new) or "none",
    )


def _head(
    fresh: list[np.ndarray],
    trained: list[np.ndarray],
    labels: tuple[str, ...],
    trained_labels: tuple[str, ...],
) -> list[np.ndarray]:
    """Weights whose last axis is the families, with what is known of them."""
    for place, name in enumerate(labels):
        if name in trained_labels:
            for own, other in zip(fresh, trained, strict=True):
                own[..., place] = other[..., trained_labels.index(name)]
    return fresh


def portable(run: workfolder.TrainedRun) -> workfolder.TrainedRun:
    """The same run, with settings that name no place of this machine."""

    def last_part(path: str) -> str:
        return path.rstrip("/").rsplit("/", maxsplit=1)[-1]

    settings: Any = run.settings
    data_dir = type(settings.data)().data_dir
    settings = dataclasses.replace(
        settings,
        data=dataclasses.replace(settings.data, data_dir=data_dir),
        train=dataclasses.replace(
            settings.train, init_from=last_part(settings.train.init_from)
        ),
    )
    return dataclasses.replace(run, settings=settings)
