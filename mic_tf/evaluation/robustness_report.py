"""Accuracy after effects, on the screen and in the report."""

from typing import Any

from mic_tf.evaluation import charts
from mic_tf.evaluation.markup import Markup, element, section, table


def lines(found: dict[str, Any]) -> list[str]:
    """The table as lines for the screen."""
    width = max(len(row["name"]) for row in found["rows"])
    head = f"{'effect':<{width}}{'accuracy':>10}{'loss, points':>14}"
    shown = [
        f"{row['name']:<{width}}{row['accuracy']:>10.3f}{row['loss']:>14.1f}"
        for row in found["rows"]
    ]
    return [head, f"{'none':<{width}}{found['clean']:>10.3f}", *shown, words(found)]


def words(found: dict[str, Any]) -> str:
    """Mean and worst loss in a sentence."""
    return (
        f"mean loss {found['mean_loss']:.1f} points over {len(found['rows'])} effects, "
        f"worst {found['worst_loss']:.1f} ({found['worst']})"
    )


def section_of(result: dict[str, Any]) -> Markup:
    """The report's section; empty where no effects were measured."""
    if "effects" not in result:
        return Markup("")
    found = result["effects"]
    rows = [
        (
            row["name"],
            f"{row['loss']:.1f}",
            f"{row['accuracy']:.3f}",
            f"{row['balanced_accuracy']:.3f}",
            row["words"],
        )
        for row in found["rows"]
    ]
    headers = ("effect", "loss, points", "accuracy", "balanced", "what it does")
    caption = f"The same {result['n']:,} notes; without an effect {found['clean']:.3f}"
    names = [row["name"] for row in found["rows"]]
    losses = [row["loss"] for row in found["rows"]]
    picture = charts.bars(names, losses, "accuracy lost, points")
    shown = table(caption, headers, rows, text_columns=(4,))
    summary = words(found)
    return section(
        "After effects",
        "effects",
        element("p", f"{summary[0].upper()}{summary[1:]}."),
        element("div", shown, picture, class_="columns"),
    )
