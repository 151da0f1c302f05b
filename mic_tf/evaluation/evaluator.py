"""Runs a model over one part of a data set and writes what came out."""

import csv
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tqdm.auto import tqdm

from mic_tf import files
from mic_tf import settings as run_settings
from mic_tf.datasets.names import without_version
from mic_tf.errors import UserError
from mic_tf.evaluation import division, metrics
from mic_tf.model import networks
from mic_tf.pipeline import batches
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.splits import Partition
from mic_tf.tracing import as_written
from mic_tf.training import starting, workfolder
from mic_tf.training.training_data import divide_again

_OF_THE_MODEL = ("unfinished", "weights", "temperature")
"""Of a model's facts, those that say which one was measured."""


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
    @as_written
    def probabilities(waveform: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(run.model(waveform, training=False) / run.temperature)

    frontend, network = networks.split_model(run.model)

    @tf.function(reduce_retracing=True)
    @as_written
    def embedding(waveform: tf.Tensor) -> tf.Tensor:
        return network(frontend(waveform), training=False)[1]

    facts = {
        "settings": run_settings.to_dict(run.settings),
        **run.summary,
        "temperature": run.temperature,
        "weights": run.checksum,
    }
    trained_on = starting.described(run.summary["data"], run.settings.train.init_from)
    return Subject(run.workdir, run.labels, probabilities, trained_on, embedding, facts)


def folder_name(dataset: str, split: str) -> str:
    """The evaluation's folder for a part of a data set of this full name."""
    return f"{without_version(dataset).replace('/', '_')}-{split}"


def default_split(partition: Partition) -> str:
    """`test` where there is one, else `valid`.

    Raises:
      UserError: neither has notes.
    """
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
    translation = translated(subject, records, selected)
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
        **{k: v for k, v in subject.facts.items() if k in _OF_THE_MODEL},
        "model": subject.name,
        "trained_on": subject.trained_on["dataset"],
        **metrics.summary(found.probabilities, found.truth, subject.labels),
    }


def _fitted_on(subject: Subject, split: str, protocol: str) -> list[str]:
    """What of a model was fitted on the notes that are measured."""
    if split != "valid" or protocol in (division.OTHER_DATA, division.TRAINED_ON):
        return []
    data = subject.trained_on
    fitted = ["temperature"] if subject.facts.get("temperature", 1.0) != 1.0 else []
    same = [
        earlier
        for earlier in data.get(starting.STARTED_FROM, [])
        if division.is_same_set(earlier["dataset"], data["dataset"])
    ]
    chosen = any(
        each.get("hold_out_valid") or each.get("chosen_on_valid")
        for each in (data, *same)
    )
    train = subject.facts.get("settings", {}).get("train", {})
    if chosen or train.get("early_stopping"):
        fitted.append("epoch")
    return fitted


def write(
    folder: str, result: dict[str, Any], found: Answers, records: Records
) -> None:
    """Writes `predictions.csv`, `confusion.png` and, last, `metrics.json`."""
    from mic_tf.evaluation import pictures

    labels = tuple(result["labels"])
    files.make_folder(folder)
    files.remove(files.join(folder, "metrics.json"))  # Of other answers.
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
                f"{probabilities[answer]:.9g}",
                *(f"{p:.9g}" for p in probabilities),
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
        f"--min_probability={metrics.rounded_down(result['min_probability_keeping_95'])}",
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


def translated(subject: Subject, records: Records, selected: np.ndarray) -> np.ndarray:
    """The data set's families as the model's, int64 [families]; -1: not asked for.

    Raises:
      UserError: notes of a family that the model does not know.
    """
    present = records.index.counts(selected) > 0
    translation = np.full(len(records.index.families), -1)
    for i, name in enumerate(records.index.families):
        if name in subject.labels:
            translation[i] = subject.labels.index(name)
        elif present[i]:
            raise UserError(
                f"{subject.name}: does not know the family {name!r}; it knows "
                f"{', '.join(subject.labels)}"
            )
    return translation
