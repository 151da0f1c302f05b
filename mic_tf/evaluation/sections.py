"""The sections of a report that are drawn from `metrics.json` and the history alone."""

import os
from typing import Any

import numpy as np

from mic_tf.evaluation import bootstrap, charts, leakage
from mic_tf.evaluation.markup import Markup, element, joined, section, table

_HEADLINE = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
}
_NO_INTERVAL = (
    f"No interval: fewer than {bootstrap.FEWEST} instruments, or all of them alike, "
    "which says nothing of others."
)


def headline(result: dict[str, Any]) -> Markup:
    """The figures with their intervals, under the protocol in words."""
    spread = result["intervals"]
    figures = [
        element(
            "div",
            element("dt", title),
            element("dd", f"{result[name]:.3f}", class_="value"),
            element("dd", interval_words(spread[name]), class_="quiet"),
        )
        for name, title in _HEADLINE.items()
    ]
    about = [element("p", f"Intervals: {spread['method']}.", class_="quiet")]
    single = spread["single_instrument_families"]
    if single:
        about.append(element("p", single_words(spread)))
    present = len(result["families_present"])
    words = f"{result['protocol_words']} ({present} families present)"
    lines = [element("p", words, class_="protocol")]
    if "leakage" in result:
        lines.append(_leakage(result["leakage"]))
    further = [*unchecked_words(result), *reservations(result)]
    lines += [element("p", words) for words in further]
    lines += [element("p", words) for words in excluded_words(result)]
    return section(
        "Result", "result", *lines, element("dl", *figures, class_="figures"), *about
    )


def remarks(result: dict[str, Any]) -> list[str]:
    """What stands beside the figures on the screen: intervals, leakage, exclusions."""
    spread = result["intervals"]
    if spread["single_instrument_families"]:
        lines = [single_words(spread)]
    else:
        parts = [f"{t} {interval_words(spread[n])}" for n, t in _HEADLINE.items()]
        lines = [f"{', '.join(parts)} ({spread['method']})"]
    if "leakage" in result:
        lines.append(leakage.in_words(result["leakage"]))
    lines += [*unchecked_words(result), *reservations(result)]
    lines += excluded_words(result)
    if "comparison" in result:
        lines.append(comparison_words(result))
        lines.append(heard_words(result["comparison"]))
    return lines


def interval_words(interval: list[float] | None) -> str:
    """An interval as the report and the screen show it."""
    return (
        f"95 %: {interval[0]:.3f} to {interval[1]:.3f}" if interval else "no interval"
    )


def single_words(spread: dict[str, Any]) -> str:
    """Why there is no interval, and what there is without the families to blame."""
    single = spread["single_instrument_families"]
    line = (
        f"No interval over all families: {', '.join(single)} "
        f"{'has' if len(single) == 1 else 'have'} a single instrument in the test."
    )
    others = spread["without_them"]
    if others:
        parts = [
            f"{title} {others[name]['value']:.3f} "
            f"({interval_words(others[name]['interval'])})"
            for name, title in _HEADLINE.items()
        ]
        line += f" Over the other {others['families']}: {', '.join(parts)}."
    return line


def unchecked_words(result: dict[str, Any], *, places: bool = True) -> list[str]:
    """A line for each data set trained on in which no leakage was looked for.

    Args:
      result: what `metrics.json` says.
      places: whether to say why, which may name places of this machine.
    """
    return [
        f"leakage from {name} was not looked for" + (f": {reason}" if places else "")
        for name, reason in result.get("leakage_unchecked", {}).items()
    ]


def reservations(result: dict[str, Any]) -> list[str]:
    """A line for each reason to take the figures with care that lies in the model."""
    lines = []
    if "unfinished" in result:
        lines.append(f"training is not finished: {result['unfinished']}")
    fitted = result.get("fitted", [])
    if fitted:
        figures = "all figures" if "epoch" in fitted else "the calibration"
        what = {
            ("temperature",): "the model's temperature was fitted",
            ("epoch",): "the model's epoch was chosen",
        }.get(tuple(fitted), "temperature and epoch of the model were chosen")
        lines.append(
            f"{what} on these very notes: {figures} will be a little worse on others"
        )
    return lines


def excluded_words(result: dict[str, Any], *, places: bool = True) -> list[str]:
    """A line for each list of notes of the data set that are left out.

    Args:
      result: what `metrics.json` says.
      places: whether to say where the list lies on this machine.
    """
    said = {
        "excluded": "notes are left out of training and test",
        "untested": "notes of the data set are not tested",
    }
    return [
        f"{result[key]['notes']} {words} "
        f"({result[key]['file'] if places else os.path.basename(result[key]['file'])})"
        for key, words in said.items()
        if key in result
    ]


def _leakage(found: dict[str, Any]) -> Markup:
    words = leakage.in_words(found)
    parts = [element("p", words[0].upper() + words[1:] + ".")]
    if found["twins"]:
        rows = [(first, second) for first, second in found["twins"]]
        parts.append(
            element(
                "details",
                element("summary", "Near twins of test notes in training"),
                table(
                    f"Same sound within {found['threshold_db']} dB",
                    ("test note", "training note"),
                    rows,
                    text_columns=(1,),
                ),
            )
        )
    return joined(parts)


def comparison_words(result: dict[str, Any]) -> str:
    """Both accuracies and the test, in a sentence or two."""
    c = result["comparison"]
    first, second = c["accuracy"]
    return (
        f"{result['model']}: accuracy {first:.3f}. {c['other']}: {second:.3f}. "
        f"On the same {c['n']} notes, by a sign-flip test over their "
        f"{c['instruments']} instruments: p = {c['p']:.3g} (McNemar's exact test, as "
        f"if each note were of another instrument: {c['p_notes']:.3g})"
    )


def heard_words(compared: dict[str, Any]) -> str:
    """What the other run was trained on; a warning where that was of these notes."""
    if not compared["heard"]:
        return f"{compared['other']}: {compared['protocol_words']}"
    return (
        f"{compared['other']} heard {compared['heard']} of these {compared['n']} notes "
        "in training: its figure is no test"
    )


def comparison(result: dict[str, Any]) -> Markup:
    """Two models on the same notes; empty where only one was asked for."""
    if "comparison" not in result:
        return Markup("")
    c = result["comparison"]
    rows = [
        ("this one right", c["both"], c["only_first"]),
        ("this one wrong", c["only_second"], c["neither"]),
    ]
    warning = {"class_": "bad"} if c["heard"] else {}
    headers = ("notes", "other right", "other wrong")
    return section(
        "Comparison",
        "comparison",
        element("p", f"{comparison_words(result)}."),
        element("p", heard_words(c), **warning),
        table("Answers of both models", headers, rows),
    )


def confusion(result: dict[str, Any]) -> Markup:
    """Counts and row shares as a table, which a screen reader can walk through."""
    labels = result["labels"]
    counts = np.array(result["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def cell(row: int, column: int) -> Markup:
        count, share = int(counts[row, column]), shares[row, column]
        if not count:
            return Markup('<td class="zero">0</td>')
        hit = ' class="hit"' if row == column else ""
        style = f' style="--share:{share:.3f}"'
        return Markup(f"<td{hit}{style}>{count}<small>{share:.0%}</small></td>")

    present = np.flatnonzero(counts.sum(axis=1))
    rows = [
        (labels[i], *(cell(i, j) for j in range(len(labels))), int(counts[i].sum()))
        for i in present
    ]
    caption = "Rows are the truth, columns the answer: notes, and share of the row"
    headers = ("truth", *labels, "notes")
    return section(
        "Confusion matrix", "confusion", table(caption, headers, rows, class_="matrix")
    )


def families(result: dict[str, Any]) -> Markup:
    """Precision, recall and F1 of each family, with intervals."""
    spread = result["intervals"]["per_family"]

    def row(name: str, values: dict[str, float]) -> tuple:
        own = spread.get(name, {})
        shown = [_short_interval(own.get(key)) for key in ("recall", "f1")]
        return (
            name,
            values["n"],
            f"{values['precision']:.3f}",
            f"{values['recall']:.3f}",
            shown[0],
            f"{values['f1']:.3f}",
            shown[1],
        )

    rows = [row(k, v) for k, v in result["per_family"].items() if v["n"]]
    headers = ("family", "notes", "precision", "recall", "95 %", "F1", "95 %")
    absent = sorted(set(result["labels"]) - set(result["families_present"]))
    note = element("p", f"No notes: {', '.join(absent)}.") if absent else ""
    return section(
        "Families",
        "families",
        table("Figures of each family", headers, rows),
        element("p", _NO_INTERVAL, class_="quiet"),
        note,
    )


def _short_interval(interval: list[float] | None) -> str:
    return f"{interval[0]:.2f}-{interval[1]:.2f}" if interval else "no interval"


def parts(result: dict[str, Any]) -> Markup:
    """Accuracy by source, octave, velocity and instrument."""
    headers = ("notes", "instruments", "accuracy")
    tables = [
        table(
            f"By {title}",
            (title, *headers),
            [
                (e["name"], e["n"], e["instruments"], f"{e['accuracy']:.3f}")
                for e in result["breakdown"][title]
            ],
        )
        for title in ("source", "octave", "velocity")
    ]
    rows = [
        (e["name"], e["family"], e["n"], f"{e['accuracy']:.3f}")
        for e in result["breakdown"]["instrument"]
    ]
    worst = table(
        "By instrument, the worst first",
        ("instrument", "family", "notes", "accuracy"),
        rows,
        text_columns=(1,),
        tall=True,
    )
    columns = element("div", *tables, worst, class_="columns")
    return section("Where it is right", "parts", columns)


def calibration(result: dict[str, Any]) -> Markup:
    """Confidence against the share of right answers."""
    curve = result["calibration"]
    width = 1 / len(curve["n"])
    rows = [
        (f"{i * width:.2f}-{(i + 1) * width:.2f}", n, f"{sure:.3f}", f"{right:.3f}")
        for i, (n, sure, right) in enumerate(
            zip(curve["n"], curve["confidence"], curve["accuracy"], strict=True)
        )
        if n
    ]
    headers = ("confidence", "notes", "mean confidence", "share right")
    picture = charts.calibration(curve["confidence"], curve["accuracy"], curve["n"])
    words = f"Expected calibration error: {result['ece']:.3f} (15 bins)."
    side_by_side = element(
        "div", picture, table("The same in figures", headers, rows), class_="columns"
    )
    return section(
        "Does it know when it is wrong",
        "calibration",
        element("p", words),
        side_by_side,
    )


def curves(history: list[dict[str, str]]) -> Markup:
    """Loss and figures over the epochs; empty where there is no history."""
    if not history:
        return Markup("")
    epochs = [int(row["epoch"]) for row in history]
    pictures = []
    for name, title in (("loss", "loss"), *list(_HEADLINE.items())[::2]):
        curves = {
            words: [float(row[column]) for row in history]
            for words, column in (("training", name), ("validation", f"val_{name}"))
            if all(row.get(column) for row in history)
        }
        if curves:
            pictures.append(charts.learning_curve(epochs, curves, title))
    columns = element("div", *pictures, class_="columns")
    note = "Training figures are those of augmented notes, before the weights moved on."
    return section("Learning", "learning", element("p", note, class_="quiet"), columns)
