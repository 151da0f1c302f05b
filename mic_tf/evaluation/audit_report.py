"""Runs an audit and writes it: `audit.json`, `audit.html`, `exclude.txt`."""

import dataclasses
import time
from typing import Any

import numpy as np

from mic_tf import files
from mic_tf.evaluation import audit, measures, pictures, sounds
from mic_tf.evaluation.audit import KINDS, Finding
from mic_tf.evaluation.markup import Markup, element, page, section, sound, table
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.index import NoteIndex

EXCLUDE_FILE = "exclude.txt"
_EXAMPLES = 4
_LISTED = 200


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit of a data set.

    Attributes:
      dataset: its full name.
      notes: read in each split.
      findings: all of them.
      excluded: reasons by note id.
      seconds: that reading and deciding took.
    """

    dataset: str
    notes: dict[str, int]
    findings: list[Finding]
    excluded: dict[str, str]
    seconds: float

    def of_kind(self, kind: str) -> list[Finding]:
        """Findings of a kind, those across splits first."""
        own = [finding for finding in self.findings if finding.kind == kind]
        return sorted(own, key=lambda finding: not finding.across_splits)

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Kind, findings, notes in them, findings across splits, of what there is."""
        rows = []
        for kind in KINDS:
            own = self.of_kind(kind)
            if own:
                across = sum(finding.across_splits for finding in own)
                notes = len({row for finding in own for row in finding.rows})
                rows.append((kind, len(own), notes, across))
        return rows


def run(records: Records, selected: np.ndarray, dataset: str) -> Audit:
    """Reads the selected notes once and finds what is wrong with them.

    Args:
      records: the data set.
      selected: bool [notes].
      dataset: its full name.
    """
    started = time.monotonic()
    measured = measures.measure(records, selected)
    findings = audit.find(records.index, measured)
    splits = records.index.note_split[selected]
    names = records.index.split_names
    return Audit(
        dataset,
        {name: int((splits == i).sum()) for i, name in enumerate(names)},
        findings,
        audit.exclusions(records.index, findings),
        time.monotonic() - started,
    )


def write(folder: str, result: Audit, records: Records) -> None:
    """Writes the three files."""
    files.make_folder(folder)
    files.write_json(files.join(folder, "audit.json"), as_dict(result, records.index))
    lines = [f"{note}\t{reason}\n" for note, reason in result.excluded.items()]
    files.write_text(files.join(folder, EXCLUDE_FILE), "".join(lines))
    files.write_text(files.join(folder, "audit.html"), _page(result, records))


def as_dict(result: Audit, index: NoteIndex) -> dict[str, Any]:
    """What `audit.json` says."""
    splits = index.note_split

    def described(finding: Finding) -> dict[str, Any]:
        return {
            "kind": finding.kind,
            "detail": finding.detail,
            "notes": [str(index.ids[row]) for row in finding.rows],
            "splits": [index.split_names[splits[row]] for row in finding.rows],
            "excluded": [str(index.ids[row]) for row in finding.leave_out],
        }

    return {
        "dataset": result.dataset,
        "notes": result.notes,
        "seconds": round(result.seconds, 1),
        "thresholds": audit.THRESHOLDS,
        "counts": {
            kind: {"findings": n, "notes": notes, "across_splits": across}
            for kind, n, notes, across in result.counts()
        },
        "excluded": len(result.excluded),
        "findings": [described(finding) for finding in result.findings],
    }


def lines(result: Audit) -> str:
    """The counts for the screen."""
    total = sum(result.notes.values())
    text = [
        f"{result.dataset}: {total:,} notes in {result.seconds:.0f} s "
        f"({total / max(result.seconds, 1e-9):.0f} notes/s)"
    ]
    for kind, n, notes, across in result.counts():
        where = f", {across:,} across splits" if across else ""
        text.append(f"{kind:<26}{n:>7,} ({notes:,} notes{where}): {KINDS[kind]}")
    if not result.findings:
        text.append("nothing found")
    text.append(f"{EXCLUDE_FILE}: {len(result.excluded):,} notes")
    return "\n".join(text)


def _page(result: Audit, records: Records) -> str:
    title = f"Audit of {result.dataset}"
    counts = result.counts()
    examples = {kind: result.of_kind(kind)[:_EXAMPLES] for kind, *_ in counts}
    rows = {
        row
        for findings in examples.values()
        for finding in findings
        for row in _heard(finding, records.index)
    }
    notes = sounds.read_notes(records, rows)
    read = ", ".join(f"{name} {n:,}" for name, n in result.notes.items())
    head = element(
        "header",
        element("h1", title),
        element("p", f"Notes read: {read}", class_="quiet"),
    )
    summary = table(
        "What was found",
        ("kind", "findings", "notes", "across splits", "meaning"),
        [(*row, KINDS[row[0]]) for row in counts],
        text_columns=(4,),
    )
    left_out = element(
        "p",
        f"{EXCLUDE_FILE} names {len(result.excluded):,} notes: what cannot be learnt "
        "from, copies but one, notes whose label is in doubt, and twins across splits "
        "except in the test part.",
    )
    main = [
        section("Findings", "findings", summary, left_out),
        *(_kind(kind, result, examples[kind], notes, records) for kind, *_ in counts),
        section("Thresholds", "thresholds", _thresholds()),
    ]
    foot = element("footer", f"mic_tf audit; {result.seconds:.0f} s")
    return page(title, head, element("main", *main, id="main"), foot)


def _kind(
    kind: str,
    result: Audit,
    examples: list[Finding],
    notes: dict[int, np.ndarray],
    records: Records,
) -> Markup:
    index = records.index
    findings = result.of_kind(kind)
    shown = findings[:_LISTED]
    rows = [
        (
            ", ".join(str(index.ids[row]) for row in finding.rows[:8])
            + (" …" if len(finding.rows) > 8 else ""),
            ", ".join(dict.fromkeys(_split(index, row) for row in finding.rows)),
            finding.detail,
            len(finding.leave_out),
        )
        for finding in shown
    ]
    more = len(findings) - len(shown)
    caption = f"{len(findings):,} findings" + (f", {more:,} not listed" if more else "")
    headers = ("notes", "splits", "what", "excluded")
    listed = table(caption, headers, rows, text_columns=(1, 2), tall=True)
    cards = [_example(finding, notes, index) for finding in examples]
    gallery = element("ul", *cards, class_="cards")
    about = element("p", KINDS[kind][0].upper() + KINDS[kind][1:] + ".")
    return section(kind.replace("_", " "), kind, about, listed, gallery)


def _example(
    finding: Finding, notes: dict[int, np.ndarray], index: NoteIndex
) -> Markup:
    figures = []
    for row in _heard(finding, index):
        name = str(index.ids[row])
        caption = f"{name} ({_split(index, row)})"
        picture = pictures.log_mel_png(notes[row])
        figures.append(sound(notes[row], picture, name, caption))
    pair = element("div", *figures, class_="pair")
    return element("li", element("h3", finding.detail), pair)


def _heard(finding: Finding, index: NoteIndex) -> list[int]:
    """Two of a finding's notes, of two splits where it has them."""
    first = finding.rows[0]
    others = sorted(
        finding.rows[1:], key=lambda row: _split(index, row) == _split(index, first)
    )
    return [first, *others[:1]]


def _split(index: NoteIndex, row: int) -> str:
    return index.split_names[index.note_split[row]]


def _thresholds() -> Markup:
    rows = [(name.replace("_", " "), value) for name, value in audit.THRESHOLDS.items()]
    return table("What decisions depend on", ("threshold", "value"), rows)
