"""Runs a model over one part of a data set and writes what came out."""

import contextlib
import csv
import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf import settings as run_settings
from mic_tf.errors import UserError
from mic_tf.evaluation import metrics
from mic_tf.model import networks
from mic_tf.pipeline import batches, splits
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.splits import Partition
from mic_tf.settings import DataSettings
from mic_tf.training import workfolder
from mic_tf.training.starting import STARTED_FROM
from mic_tf.training.training_data import (
    changed_parts,
    divide_again,
    exclusions,
)

OTHER_DATA = "other_data"
TRAINED_ON = "trained_on"
TRAINED_ON_WORDS = "notes that it was trained on: says nothing about others"
OTHER_DATA_WORDS = "another data set than the one it was trained on"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
      name: of the work folder or the exported model.
      labels: names of the families, in the order of the probabilities.
      probabilities: from waveforms, int16 [batch, 64000], to float [batch, families].
      trained_on: `data` of the run's summary: data set, protocol, settings.
      embedding: from waveforms, int16 [batch, 64000], to float [batch, d]; None where
        the model does not say.
      facts: what else is known of it, shown in the report: settings, versions, summary.
    """

    name: str
    labels: tuple[str, ...]
    probabilities: Callable[[tf.Tensor], tf.Tensor]
    trained_on: dict[str, Any]
    embedding: Callable[[tf.Tensor], tf.Tensor] | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Answers:
    """A model's answers to notes of known family.

    Attributes:
      rows: of the note index, int64 [notes].
      truth: in the model's labels, int64 [notes].
      probabilities: float32 [notes, families].
    """

    rows: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray


def subject_of_run(run: workfolder.TrainedRun) -> Subject:
    """A trained run, ready to be evaluated."""

    @tf.function(reduce_retracing=True)
    def probabilities(waveform: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(run.model(waveform, training=False) / run.temperature)

    frontend, network = networks.split_model(run.model)

    @tf.function(reduce_retracing=True)
    def embedding(waveform: tf.Tensor) -> tf.Tensor:
        return network(frontend(waveform), training=False)[1]

    facts = {"settings": run_settings.to_dict(run.settings), **run.summary}
    return Subject(
        run.workdir, run.labels, probabilities, run.summary["data"], embedding, facts
    )


def partition_for(
    subject: Subject, records: Records, dataset: str, exclude: str = ""
) -> tuple[Partition, str]:
    """The division of a data set's notes, as this model may be tested on it.

    Args:
      subject: the model.
      records: the data set's records.
      dataset: its full name, as `soundfont_notes/1.0.0`.
      exclude: a file of note ids to leave out.

    Returns:
      The partition and the protocol in words. For the data set that the model was
      trained on it is the training's own division; for another, its own splits, of
      which it heard all notes or none. What the weights heard that it started from
      was heard too.

    Raises:
      UserError: the notes are not those that it was trained on, so that they cannot
        be divided again.
    """
    trained = subject.trained_on
    before = _heard_before(trained, records, dataset)
    if without_version(dataset) == without_version(trained["dataset"]):
        partition = divide_again(trained, records)
        changed = changed_parts(trained, partition, records)
        partition = dataclasses.replace(partition, heard=partition.heard | before)
        words = splits.words(partition, records.index)
        if changed:
            _check_own_splits(trained, dataset, changed)
            words += f"; other notes in {', '.join(changed)} than when it was trained"
    else:
        extras = map(without_version, trained.get("extra_datasets", []))
        all_heard = without_version(dataset) in extras
        partition = dataclasses.replace(
            splits.partition(records.index, DataSettings()),
            protocol=TRAINED_ON if all_heard else OTHER_DATA,
            heard=before | (records.index.usable & all_heard),
        )
        words = f"{OTHER_DATA_WORDS} ({trained['dataset']})"
        if all_heard:
            words = TRAINED_ON_WORDS
    # What is left out here was heard all the same.
    excluded = exclusions(exclude, records)
    return splits.untested(partition, records.index, excluded), words


def words_of_part(words: str, partition: Partition, split: str) -> str:
    """The protocol in words, where a part that is measured was itself heard.

    Args:
      words: as `partition_for` gives them.
      partition: the division.
      split: the part.
    """
    tested = partition.part(split)
    heard = int((tested & partition.heard).sum())
    if heard == tested.sum():
        return TRAINED_ON_WORDS
    if heard:
        return f"{words}; {heard} of these {int(tested.sum())} notes were trained on"
    return words


def _check_own_splits(
    trained: dict[str, Any], dataset: str, changed: Sequence[str]
) -> None:
    """Notes that came or went move others, but not from a data set's own splits."""
    data = trained["settings"]
    free = ("max_notes", "exclude")
    if data.get("protocol", "official") != "official" or any(map(data.get, free)):
        raise UserError(
            f"{dataset}: other notes in {', '.join(changed)} than when the model was "
            "trained, so what it heard is not known; give --data_dir with those (and "
            "the --exclude file as it was), or train again"
        )


def _heard_before(
    trained: dict[str, Any], records: Records, dataset: str
) -> np.ndarray:
    """Notes that the weights heard from which a run started, bool [notes]."""
    heard = np.zeros(len(records.index), bool)
    for earlier in trained.get(STARTED_FROM, []):
        extras = map(without_version, earlier["extra_datasets"])
        if without_version(dataset) in extras:
            heard |= records.index.usable
        elif without_version(dataset) == without_version(earlier["dataset"]):
            # What cannot be divided again, `heard.in_training` says.
            with contextlib.suppress(UserError):
                heard |= divide_again(earlier, records).heard
    return heard


def folder_name(dataset: str, split: str) -> str:
    """The evaluation's folder for a part of a data set of this full name."""
    return f"{without_version(dataset).replace('/', '_')}-{split}"


def without_version(full_name: str) -> str:
    """A data set's full name, as `soundfont_notes/1.0.0`, without its version."""
    return full_name.rsplit("/", maxsplit=1)[0]


def default_split(partition: Partition) -> str:
    """`test` where there is one, else `valid`, else the first that has notes."""
    present = [name for name, part in partition.parts.items() if part.any()]
    for name in ("test", "valid"):
        if name in present:
            return name
    raise UserError(
        f"no test or valid notes under the {partition.protocol} protocol; name a part "
        f"with --split ({', '.join(present) or 'there are none'})"
    )


def answers(
    subject: Subject, records: Records, selected: np.ndarray, batch_size: int = 32
) -> Answers:
    """Runs the model over the selected notes, with a progress bar.

    Raises:
      UserError: notes of a family that the model does not know, faulty records, or
        answers that are no numbers.
    """
    translation = _translation(subject, records, selected)
    rows, truths, probabilities = [], [], []
    dataset = batches.evaluation_batches(records, selected, batch_size=batch_size)
    total = int(selected.sum())
    with (
        batches.faults_named(records),
        tqdm(total=total, unit="note", desc="evaluate", disable=None) as bar,
    ):
        for waveform, family, weight, row in dataset:
            real = weight.numpy() > 0
            rows.append(row.numpy()[real])
            truths.append(translation[family.numpy()[real]])
            probabilities.append(subject.probabilities(waveform).numpy()[real])
            bar.update(int(real.sum()))
    found = Answers(
        np.concatenate(rows), np.concatenate(truths), np.concatenate(probabilities)
    )
    finite = np.isfinite(found.probabilities).all(axis=1)
    if not finite.all():
        raise UserError(
            f"{subject.name}: answers NaN to {(~finite).sum()} of {total} notes: its "
            "training diverged; train again with a lower --learning_rate"
        )
    return found


def figures(
    found: Answers,
    subject: Subject,
    *,
    dataset: str,
    split: str,
    protocol: str,
    protocol_words: str,
) -> dict[str, Any]:
    """Everything that `metrics.json` says."""
    fitted = _fitted_on(subject, split, protocol)
    return {
        "dataset": dataset,
        "split": split,
        "protocol": protocol,
        "protocol_words": protocol_words,
        **({"fitted": fitted} if fitted else {}),
        **{k: v for k, v in subject.facts.items() if k == "unfinished"},
        "model": subject.name,
        "trained_on": subject.trained_on["dataset"],
        **metrics.summary(found.probabilities, found.truth, subject.labels),
    }


def _fitted_on(subject: Subject, split: str, protocol: str) -> list[str]:
    """What of a model was fitted on the notes that are measured."""
    if split != "valid" or protocol in (OTHER_DATA, TRAINED_ON):
        return []
    chosen = ["epoch"] if subject.trained_on.get("hold_out_valid") else []
    return ["temperature", *chosen]


def write(
    folder: str, result: dict[str, Any], found: Answers, records: Records
) -> None:
    """Writes `metrics.json`, `predictions.csv` and `confusion.png`."""
    from mic_tf.evaluation import pictures

    labels = tuple(result["labels"])
    files.make_folder(folder)
    text = predictions_csv(found, records, labels)
    files.write_text(files.join(folder, "predictions.csv"), text)
    title = (
        f"{result['dataset']} {result['split']}: accuracy {result['accuracy']:.3f}, "
        f"n = {result['n']}\n{result['protocol_words']}"
    )
    picture = pictures.confusion_png(np.array(result["confusion"]), labels, title)
    files.write_bytes(files.join(folder, "confusion.png"), picture)
    files.write_json(files.join(folder, "metrics.json"), result)


def predictions_csv(found: Answers, records: Records, labels: tuple[str, ...]) -> str:
    """One row a note: what it is, the answer, every family's probability."""
    index = records.index
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["id", "instrument", "source", "pitch", "velocity"]
    writer.writerow([*header, "truth", "answer", "probability", *labels])
    for row, truth, probabilities in zip(
        found.rows, found.truth, found.probabilities, strict=True
    ):
        answer = int(probabilities.argmax())
        writer.writerow(
            [
                index.ids[row],
                index.instruments[index.instrument[row]],
                index.sources[index.source[row]],
                index.pitch[row],
                index.velocity[row],
                labels[truth],
                labels[answer],
                f"{probabilities[answer]:.6f}",
                *(f"{p:.6f}" for p in probabilities),
            ]
        )
    return text.getvalue()


def table(result: dict[str, Any]) -> str:
    """The figures as lines for the screen."""
    lines = [
        f"{result['dataset']} {result['split']}: {result['n']} notes",
        f"{result['protocol_words']}",
        f"accuracy {result['accuracy']:.4f}, balanced accuracy "
        f"{result['balanced_accuracy']:.4f}, macro-F1 {result['macro_f1']:.4f} "
        f"({result['protocol']}; {len(result['families_present'])} families)",
        "95 % of the notes still get a family with "
        f"--min_probability={_rounded_down(result['min_probability_keeping_95'])}",
        *result.get("remarks", []),
        "",
        f"{'family':<16}{'notes':>7}{'precision':>11}{'recall':>9}{'F1':>9}",
    ]
    for name, row in result["per_family"].items():
        if row["n"]:
            lines.append(
                f"{name:<16}{row['n']:>7}{row['precision']:>11.3f}"
                f"{row['recall']:>9.3f}{row['f1']:>9.3f}"
            )
    absent = sorted(set(result["labels"]) - set(result["families_present"]))
    if absent:
        lines.append(f"no notes: {', '.join(absent)}")
    return "\n".join(lines)


def _rounded_down(threshold: float) -> str:
    """Four digits that no note falls below whose probability is the threshold."""
    return f"{math.floor(threshold * 1e4) / 1e4:.4f}"


def calibrate(run: workfolder.TrainedRun, records: Records) -> float | None:
    """Fits the temperature on the validation notes and stores it in the work folder.

    Returns:
      The temperature, or None where the run keeps no validation notes.
    """
    valid = divide_again(run.summary["data"], records).parts.get("valid")
    if valid is None or not valid.any():
        return None
    raw = dataclasses.replace(run, temperature=1.0)
    found = answers(subject_of_run(raw), records, valid)
    logits = np.log(np.maximum(found.probabilities, 1e-30))
    temperature = metrics.best_temperature(logits, found.truth)
    scaled = metrics.softmax(logits / temperature)
    content = {
        "temperature": temperature,
        "ece_before": metrics.expected_calibration_error(
            found.probabilities, found.truth
        ),
        "ece_after": metrics.expected_calibration_error(scaled, found.truth),
        "notes": len(found.truth),
    }
    files.write_json(files.join(run.workdir, workfolder.CALIBRATION), content)
    logging.info(
        "temperature %.3f: calibration error %.3f -> %.3f on %d validation notes",
        temperature,
        content["ece_before"],
        content["ece_after"],
        content["notes"],
    )
    return temperature


def _translation(
    subject: Subject, records: Records, selected: np.ndarray
) -> np.ndarray:
    """The data set's families as the model's, int64 [families]; -1: not asked for."""
    present = records.index.counts(selected) > 0
    translation = np.full(len(records.index.families), -1)
    for i, name in enumerate(records.index.families):
        if name in subject.labels:
            translation[i] = subject.labels.index(name)
        elif present[i]:
            raise UserError(
                f"family {name!r}: the model knows {', '.join(subject.labels)}"
            )
    return translation
