"""Several trained networks as one run: their answers or their weights averaged."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import logging

from mic_tf import files
from mic_tf import settings as run_settings
from mic_tf.errors import UserError
from mic_tf.model import networks
from mic_tf.settings import RunSettings
from mic_tf.training import lock, snapshots, starting, workfolder
from mic_tf.training.workfolder import TrainedRun

Calibrate = Callable[[TrainedRun], Any]

_ROLES = ("members", "averaged")
"""What a run's summary calls the runs it was made of."""


def combine(
    workdirs: Sequence[str],
    shares: Sequence[float],
    target: str,
    calibrate: Calibrate = lambda run: None,
) -> None:
    """Writes a work folder whose network is those of several runs side by side.

    The answer is the mean of the members' log-probabilities (Hinton 2002, "Training
    Products of Experts"), before their temperatures; of a family that a member never
    heard, the mean over the others. The new folder takes data and
    protocol from the first run, which has to have heard all that the others heard.

    Args:
      workdirs: work folders of finished runs with the same families, front-end and
        network.
      shares: weight of each run; they add up to 1.
      target: the new work folder.
      calibrate: writes a run's temperature into its folder; without it there is none.

    Raises:
      UserError: the runs do not fit together, or the folder has a run already.
    """
    runs = _opened(workdirs, shares, target)
    settings = _with_members(runs[0].settings, shares)
    with workfolder.numeric_policy("float32"):
        model = networks.build_model(settings, len(runs[0].labels))
    for number, run in enumerate(runs):
        _copy(run.model, model, networks.member_prefix(number))
    mean = model.get_layer(networks.MEAN_OF_MEMBERS)
    mean.set_weights([family_shares(runs, shares)])
    with lock.only_one(target):
        _write(runs, settings, model, target, "members", calibrate)
    logging.info("%s: %d networks side by side", target, len(runs))


def average(
    workdirs: Sequence[str],
    shares: Sequence[float],
    target: str,
    calibrate: Calibrate = lambda run: None,
) -> None:
    """Writes a work folder whose network has the mean of several runs' weights.

    One network, as large as each of theirs (Wortsman et al. 2022, "Model soups"; with
    the run that they began from, "Robust fine-tuning"). Only runs that began from the
    same weights can be averaged: networks trained apart have their channels in another
    order. The new folder takes its settings, data and protocol from the first run,
    which has to have heard all that the others heard.

    Args:
      workdirs: work folders of finished runs, each trained with the same `--init_from`;
        that folder may be among them.
      shares: weight of each run; they add up to 1.
      target: the new work folder.
      calibrate: writes a run's temperature into its folder; without it there is none.

    Raises:
      UserError: the runs do not fit together, or the folder has a run already.
    """
    runs = _opened(workdirs, shares, target)
    _check_common_start(runs)
    model = runs[0].model
    parts = [run.model.get_weights() for run in runs]
    model.set_weights(
        [
            sum(share * part for share, part in zip(shares, arrays, strict=True))
            for arrays in zip(*parts, strict=True)
        ]
    )
    with lock.only_one(target):
        _write(runs, runs[0].settings, model, target, "averaged", calibrate)
    logging.info("%s: the mean weights of %d networks", target, len(runs))


def _opened(
    workdirs: Sequence[str], shares: Sequence[float], target: str
) -> list[TrainedRun]:
    """The runs, checked to fit together."""
    if len(workdirs) < 2 or len(workdirs) != len(shares):
        raise UserError(
            f"--workdirs: {len(workdirs)} work folders for {len(shares)} --shares; two "
            "or more of each expected"
        )
    if not run_settings.are_shares(shares):
        raise UserError(
            f"--shares={','.join(f'{share:g}' for share in shares)}: positive numbers "
            "that add up to 1 expected, as 0.6,0.4"
        )
    snapshots.check_name(target)
    if workfolder.read_config(target) is not None:
        raise UserError(f"--workdir={target}: has a run already; give another folder")
    runs = [workfolder.load_run(workdir) for workdir in workdirs]
    for run in runs:
        if "unfinished" in run.summary:
            raise UserError(
                f"{run.workdir}: its training is not finished "
                f"({run.summary['unfinished']}); finish it first"
            )
    for other in runs[1:]:
        _check_fit(runs[0], other)
    return runs


def family_shares(runs: Sequence[TrainedRun], shares: Sequence[float]) -> np.ndarray:
    """The weight of each run for each family, float64 [runs, families].

    A run that never heard a family has no say in it: its share goes to the others, by
    their shares. Where none heard it, all keep theirs.
    """
    weights = np.array([shares] * len(runs[0].labels), np.float64).T
    for row, run in zip(weights, runs, strict=True):
        counts = run.summary["data"]["train_notes_per_family"]
        row[[not counts[name] for name in run.labels]] = 0.0
    orphans = ~weights.any(axis=0)
    weights[:, orphans] = np.array(shares)[:, np.newaxis]
    return weights / weights.sum(axis=0)


def _with_members(first: RunSettings, shares: Sequence[float]) -> RunSettings:
    members = ",".join(f"{share:g}" for share in shares)
    network = dataclasses.replace(first.network, members=members)
    return dataclasses.replace(first, network=network)


def _check_fit(first: TrainedRun, other: TrainedRun) -> None:
    """Checks that two runs can stand side by side, and be measured as the first."""
    for what, mine, its in (
        ("families", first.labels, other.labels),
        ("front-end", first.settings.frontend, other.settings.frontend),
        (
            "network",
            dataclasses.replace(first.settings.network, dropout=0.0),
            dataclasses.replace(other.settings.network, dropout=0.0),
        ),
    ):
        if mine != its:
            raise UserError(
                f"{other.workdir}: its {what} are not those of {first.workdir} "
                f"({its}; {mine} expected)"
            )
    if first.settings.network.members:
        raise UserError(f"{first.workdir}: is made of several runs already")
    heard, its = (run.settings.data for run in (first, other))
    if not set(its.dataset_names) <= set(heard.dataset_names):
        raise UserError(
            f"{other.workdir}: heard data sets that {first.workdir} did not; name it "
            "first"
        )
    if not _same_training_notes(first, other) and (
        heard.max_notes and not 0 < its.max_notes <= heard.max_notes
    ):
        raise UserError(
            f"{other.workdir}: heard notes that {first.workdir} did not "
            f"(--max_notes={its.max_notes}; {heard.max_notes}); name it first"
        )
    divided = ("dataset", "protocol", "pool", "folds", "fold", "split_seed", "exclude")
    for name in divided:
        if getattr(heard, name) != getattr(its, name):
            raise UserError(
                f"{other.workdir}: divides its notes differently (--{name}="
                f"{getattr(its, name)}; {getattr(heard, name)} expected)"
            )
    _check_same_tests(first, other)
    # NSynth's own splits keep their validation notes whatever --select says.
    if heard.protocol != "official" and _holds_out(first) != _holds_out(other):
        raise UserError(
            f"{other.workdir}: one run trained on its validation notes and the other "
            "did not; the same --select expected"
        )


def _same_training_notes(first: TrainedRun, other: TrainedRun) -> bool:
    """Whether both are known to have heard the very same notes of the main set."""
    mine, its = (run.summary["data"].get("note_digests") for run in (first, other))
    return bool(mine and its) and mine.get("train") == its.get("train")


def _check_same_tests(first: TrainedRun, other: TrainedRun) -> None:
    """Checks that a data set was not prepared anew between two runs."""
    mine, its = (run.summary["data"].get("note_digests") for run in (first, other))
    for name in set(mine or ()) & set(its or ()) - {"train"}:
        if mine[name] != its[name]:
            raise UserError(
                f"{other.workdir}: other notes in {name} than in {first.workdir}; runs "
                "on the same data expected"
            )


class _Start(NamedTuple):
    """Weights that a run began from: a folder, and the checksum of what was in it."""

    source: str
    checksum: str

    def is_same(self, other: "_Start") -> bool:
        """By the weights, where both say them; earlier programs kept the folder."""
        if self.checksum and other.checksum:
            return self.checksum == other.checksum
        return self.is_same_place(other)

    def is_same_place(self, other: "_Start") -> bool:
        return _place(self.source) == _place(other.source)


def _check_common_start(runs: Sequence[TrainedRun]) -> None:
    """Checks that all runs went on from the same weights, or are those."""
    known = [_starts(run) for run in runs]
    began = [starts[0] for starts in known if len(starts) > 1]
    for start in began:
        if all(any(map(start.is_same, starts)) for starts in known):
            return
    start = next(iter(began), None)
    for run, starts in zip(runs, known, strict=True):
        if start and any(map(start.is_same, starts)):
            continue
        found = f"began from {run.settings.train.init_from or 'nothing'}"
        if start:
            found += f", another from {start.source}"
            if any(map(start.is_same_place, starts)):
                found += ", and the weights in that folder were others"
        raise UserError(
            f"{run.workdir}: {found}; only runs that began from the same weights "
            "(train --init_from), and that run itself, can be averaged"
        )


def _starts(run: TrainedRun) -> list[_Start]:
    """What a run began from, if it did, and itself, from which others may have."""
    source = run.settings.train.init_from
    checksum = run.summary["data"].get(starting.STARTED_WEIGHTS, "")
    best = snapshots.newest(files.join(run.workdir, workfolder.BEST))
    itself = _Start(run.workdir, best.checksum if best else "")
    return [_Start(source, checksum), itself] if source else [itself]


def _place(path: str) -> str:
    return path.rstrip("/") if files.is_remote(path) else os.path.abspath(path)


def _holds_out(run: TrainedRun) -> bool:
    return run.summary["data"]["hold_out_valid"]


def _said_of_any(runs: Sequence[TrainedRun]) -> dict[str, Any]:
    """What a description says of the new run if it is true of one of its parts."""
    said: dict[str, Any] = {}
    for run in runs:
        data = run.summary["data"]
        if _holds_out(run) or run.settings.train.early_stopping:
            said["chosen_on_valid"] = True
        data = starting.described(data, run.settings.train.init_from)
        if starting.UNRECORDED in data:
            said[starting.UNRECORDED] = data[starting.UNRECORDED]
    return said


def _copy(source: keras.Model, target: keras.Model, prefix: str) -> None:
    for layer in source.layers:
        if layer.weights:
            target.get_layer(prefix + layer.name).set_weights(layer.get_weights())


def _write(
    runs: Sequence[TrainedRun],
    settings: RunSettings,
    model: keras.Model,
    target: str,
    role: str,
    calibrate: Calibrate,
) -> None:
    """Writes the new run; `role` is what the summary calls the runs it is made of.

    `config.json`, without which there is no run, comes last.
    """
    parts = [
        {
            "workdir": run.workdir.rsplit("/", maxsplit=1)[-1],
            "settings": run.summary["data"]["settings"],
            "selected": run.summary["selected"],
            "train_seconds": run.summary.get("train_seconds"),
            **{name: run.summary[name] for name in _ROLES if name in run.summary},
        }
        for run in runs
    ]
    seconds = sum(run.summary.get("train_seconds", 0.0) for run in runs)
    summary: dict[str, Any] = {
        "epochs": sum(run.summary.get("epochs", 0) for run in runs),
        "train_seconds": round(seconds, 1),
        "parameters": model.count_params(),
        role: parts,
    }
    facts = {"epoch": summary["epochs"]}
    folder = files.join(target, workfolder.BEST)
    snapshots.save(tf.train.Checkpoint(model=model), folder, 1, facts, keep=1)
    files.write_json(files.join(target, workfolder.SUMMARY), summary)
    data = dict(runs[0].summary["data"])
    before: list[dict[str, Any]] = []
    for run in runs:
        heard = run.summary["data"].get(starting.STARTED_FROM, [])
        before += [each for each in heard if each not in before]
    if before:
        data[starting.STARTED_FROM] = before
    data |= _said_of_any(runs)
    files.remove(files.join(target, workfolder.CALIBRATION))
    summary |= {"data": data}
    labels = runs[0].labels
    saved = snapshots.newest(folder)
    calibrate(TrainedRun(target, settings, labels, model, 1.0, summary, saved.checksum))
    workfolder.write_config(target, settings, labels, data)
