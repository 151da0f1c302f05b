"""The result as JSON and as a Markdown table."""

import pathlib
from collections.abc import Sequence
from typing import Any

from mic_tf import files
from tools.benchmarks import machine as machines
from tools.benchmarks.measuring import Row

_HEAD = ("what", "figure", "spread", "to reach", "", "behind it")


def result(
    rows: Sequence[Row], machine: dict[str, Any], command: str, facts: dict[str, Any]
) -> dict[str, Any]:
    """All that was measured, as JSON values.

    Args:
      rows: of all sections.
      machine: as `machine.describe` gives it.
      command: how the program was called.
      facts: notes measured on, seconds of each section and so on.
    """
    return {
        "command": command,
        "machine": machine,
        **facts,
        "rows": [row.as_dict() for row in rows],
    }


def write(path: pathlib.Path, content: dict[str, Any]) -> pathlib.Path:
    """Writes the JSON file and the table beside it; returns the table's path.

    Raises:
      UserError: one of the two cannot be written.
    """
    table = path.with_suffix(".md")
    files.write_json(str(path), content)
    files.write_text(str(table), markdown(content))
    return table


def markdown(content: dict[str, Any]) -> str:
    """A heading with command and machine, and one table for each section."""
    lines = [f"`{content['command']}`", "", machines.words(content["machine"]), ""]
    lines += [f"Notes: {content['notes']}.", ""] if content.get("notes") else []
    section = None
    for row in content["rows"]:
        if row["section"] != section:
            section = row["section"]
            seconds = content["seconds"].get(section)
            took = f" ({seconds:.0f} s)" if seconds is not None else ""
            lines += ["", f"**{section}**{took}", "", _line(_HEAD)]
            lines.append(_line(["---"] * len(_HEAD)))
        lines.append(_line(cells(row)))
    return "\n".join(lines) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """What a table shows of a row."""
    value = row["value"]
    figure = "not measured" if value is None else f"{number(value)} {row['unit']}"
    spread = ""
    if row["low"] is not None and row["rounds"] > 1:
        spread = (
            f"{number(row['low'])} to {number(row['high'])}, {row['rounds']} rounds"
        )
    verdict = "" if value is None else row["verdict"]
    return [row["name"], figure, spread, row["aim"] or "", verdict, row["note"]]


def number(value: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _line(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entry.replace('|', '/') for entry in entries)} |"
