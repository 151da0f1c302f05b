"""`report.html`: what a model is worth, on what it was measured, where it is wrong."""

import json
from typing import Any

from mic_tf import files
from mic_tf.evaluation import bootstrap, metrics, mistakes, robustness_report, sections
from mic_tf.evaluation.breakdown import breakdown
from mic_tf.evaluation.evaluator import Answers, Subject
from mic_tf.evaluation.heard import Training
from mic_tf.evaluation.markup import Markup, element, page, section, table
from mic_tf.pipeline.batches import Records

FILE_NAME = "report.html"


def details(found: Answers, records: Records, labels: tuple[str, ...]) -> dict:
    """What `metrics.json` says beyond the figures: intervals, calibration, parts."""
    answer = found.probabilities.argmax(axis=1)
    instrument = records.index.instrument[found.rows]
    curve = metrics.calibration_curve(found.probabilities, found.truth)
    return {
        "intervals": bootstrap.intervals(found.truth, answer, instrument, labels),
        "calibration": {name: values.tolist() for name, values in curve.items()},
        "breakdown": breakdown(records.index, found.rows, answer == found.truth),
    }


def write(
    folder: str,
    result: dict[str, Any],
    found: Answers,
    records: Records,
    subject: Subject,
    training: Training,
    history: list[dict[str, str]],
) -> None:
    """Writes `report.html`, and `curves.png` where there is a history.

    Args:
      folder: where to.
      result: what `metrics.json` has, with `details`.
      found: the answers.
      records: the data set.
      subject: the model.
      training: what was trained on.
      history: rows of `history.csv`; empty for an export.
    """
    from mic_tf.evaluation import pictures

    if history:
        content = pictures.curves_png(history)
        files.write_bytes(files.join(folder, "curves.png"), content)
    title = f"{subject.name} on {result['dataset']} {result['split']}"
    main = [
        sections.headline(result),
        sections.comparison(result),
        sections.confusion(result),
        sections.families(result),
        sections.parts(result),
        sections.calibration(result),
        robustness_report.section_of(result),
        sections.curves(history),
        _mistakes(result, found, records, subject, training),
        _trained(subject),
    ]
    head = element(
        "header",
        element("h1", title),
        element("p", f"{result['n']:,} notes", class_="quiet"),
    )
    text = page(title, head, element("main", *main, id="main"), _footer(subject))
    files.write_text(files.join(folder, FILE_NAME), text)


def _mistakes(
    result: dict[str, Any],
    found: Answers,
    records: Records,
    subject: Subject,
    training: Training,
) -> Markup:
    labels = tuple(result["labels"])
    wrong = mistakes.most_confident(
        found.rows, found.truth, found.probabilities, labels
    )
    if not wrong:
        return section("Mistakes", "mistakes", element("p", "There are none."))
    words = f"The {len(wrong)} wrong answers of highest confidence."
    if training.heard and subject.embedding is not None:
        wrong, heard = mistakes.with_nearest(
            wrong, records, training.heard, subject.embedding
        )
        words += (
            f" Beside each the nearest of {heard:,} training notes, by the cosine of "
            f"the model's embeddings. {mistakes.nearest_families(wrong)}"
        )
    if training.missing:
        words += (
            f" No note of {', '.join(training.missing)} stands beside them, though it "
            "was trained on: it is not at hand."
        )
    about = element("p", words)
    return section("Mistakes", "mistakes", about, mistakes.cards(wrong, records))


def _trained(subject: Subject) -> Markup:
    facts = subject.facts
    rows = [
        (f"{part}.{name}", json.dumps(value))
        for part, values in facts.get("settings", {}).items()
        for name, value in values.items()
    ]
    data = {k: v for k, v in subject.trained_on.items() if k != "settings"}
    known = {"data": data} | {
        k: v for k, v in facts.items() if k not in ("settings", "data")
    }
    text = json.dumps(known, indent=2, ensure_ascii=False)
    settings = table(
        "Settings", ("setting", "value"), rows, text_columns=(1,), tall=True
    )
    columns = element(
        "div", settings, element("pre", text, tabindex=0), class_="columns"
    )
    return section("What was trained", "trained", columns)


def _footer(subject: Subject) -> Markup:
    versions = subject.facts.get("versions", {})
    words = ", ".join(f"{name} {version}" for name, version in versions.items())
    return element(
        "footer", f"mic_tf report; trained with {words or 'unknown versions'}"
    )
