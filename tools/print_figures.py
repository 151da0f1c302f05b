"""Prints the figures of an evaluation, each beside the name of its protocol.

Usage:
  python tools/print_figures.py WORKDIR/eval/soundfont_notes-test/metrics.json
"""

import json
import sys

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1")


def lines(metrics: dict) -> list[str]:
    """The figures as rows of a table under a line that says what was measured."""
    families = len(metrics["families_present"])
    head = (
        f"{metrics['dataset']}, {metrics['split']}: {metrics['n']} notes of "
        f"{families} families, {metrics['protocol']} protocol"
    )
    rows = [f"{name.replace('_', ' '):<20}{metrics[name]:.4f}" for name in FIGURES]
    return [head, *rows]


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            print("\n".join(lines(json.load(file))))
