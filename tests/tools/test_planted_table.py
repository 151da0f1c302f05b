"""The program that plants faults and counts what the audit finds."""

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.evaluation.audit import KINDS
from mic_tf.evaluation.measures import STEP_DB
from tools import planted_table, twin_growth
from tools.planting import Planting, clean_note


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[str]:
    splits = planted_table.generated(2)
    folder = tmp_path_factory.mktemp("planted")
    return planted_table.table(splits, folder, count=2, seed=5)


def test_every_kind_of_the_audit_is_planted_and_counted(lines):
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    counts = {kind: tuple(map(int, row[:3])) for kind, *row in cells[2:]}
    assert set(counts) == set(KINDS)
    assert {planted for planted, _, _ in counts.values()} == {2, 3}
    assert all(found == planted for planted, found, _ in counts.values())
    assert all(invented == 0 for _, _, invented in counts.values())
    assert lines[-1].endswith(": the same findings")


def test_what_is_missed_and_what_is_invented_shows_in_the_row():
    def sets(*names: str) -> set[frozenset[str]]:
        return {frozenset({name}) for name in names}

    lines = planted_table.rows(
        {"pitch": sets("a", "b", "c")}, {"pitch": sets("d")}, {"pitch": sets(*"adef")}
    )
    row = next(line for line in lines if line.startswith("| pitch |"))
    assert row == "| pitch | 3 | 1 | 2 | 0.33 | 0.33 |"


def test_notes_with_a_finding_are_left_alone():
    families = ("organ", "reed")
    notes = [clean_note(f, i, p) for i in range(7) for f in families for p in (48, 60)]
    known = {"pitch": {frozenset({note["id"]}) for note in notes[:12]}}
    planting = Planting({"train": notes[:20], "valid": notes[20:]}, known, seed=0)
    before = {note["id"]: note for note in notes}
    planting.plant(1)
    after = {n["id"]: n for part in planting.splits.values() for n in part}
    for name in before.keys() & set().union(*set().union(*known.values())):
        assert np.array_equal(after[name]["audio"], before[name]["audio"])
        assert after[name]["pitch"] == before[name]["pitch"]


def test_too_few_notes_are_said_before_any_is_changed():
    notes = [clean_note(f, 0, p) for f in ("organ", "reed") for p in range(48, 54)]
    planting = Planting({"train": notes[:8], "valid": notes[8:]}, {}, seed=0)
    with pytest.raises(UserError, match="need 13 notes.*there are 12"):
        planting.plant(1)
    assert not planting.expected


@pytest.mark.parametrize(
    ("families", "splits"), [(("organ",), 2), (("organ", "reed"), 1)]
)
def test_one_family_or_one_split_is_not_enough(families, splits):
    notes = [clean_note(f, i, 60) for f in families for i in range(20)]
    parts = {f"part{i}": notes[i::splits] for i in range(splits)}
    with pytest.raises(UserError, match="two families and two splits"):
        Planting(parts, {}, seed=0).plant(1)


def test_made_up_copies_are_within_what_is_said_and_all_found():
    originals = twin_growth.generated_fingerprints()[:40]
    made = twin_growth.with_copies(originals, 200)
    apart = np.abs(made[:200].astype(int) - made[200:].astype(int)) * STEP_DB
    assert 0.2 < apart.max() <= 0.4 + STEP_DB
    cells = twin_growth.row(originals, 400).strip("| ").split(" | ")
    assert cells[0] == "400"
    assert float(cells[-1].rstrip("%")) > 97.0
