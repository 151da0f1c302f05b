"""Rows as text: columns, errors, names that would break a line."""

import csv
import io
import json

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.serving import neighbours, rows, timeline
from mic_tf.serving.classifier import Answer
from mic_tf.serving.doubt import Doubt

LABELS = ("bell", "drum")
ANSWER = Answer("drum", 0.75, {"bell": 0.25, "drum": 0.75}, np.zeros(2))
FOUND = [
    rows.row_of("a.wav", ANSWER),
    rows.row_of('odd, "name".wav', UserError('odd, "name".wav: no audio in it')),
    rows.row_of("b.wav", ANSWER, Doubt(0.8)),
]


def text_of(layout: rows.Layout, found=FOUND) -> str:
    return layout.head + "".join(map(layout.line, found)) + layout.tail


def test_csv_has_a_column_for_each_family_and_one_for_the_error():
    layout = rows.layout("csv", LABELS, [])
    table = list(csv.reader(io.StringIO(text_of(layout))))
    assert table == [
        ["file", "family", "probability", "bell", "drum", "error"],
        ["a.wav", "drum", "0.750000", "0.250000", "0.750000", ""],
        ['odd, "name".wav', "", "", "", "", "no audio in it"],
        ["b.wav", "unsure", "0.750000", "0.250000", "0.750000", ""],
    ]


def test_json_is_one_list_with_an_object_a_line():
    text = text_of(rows.layout("json", LABELS, []))
    first, second, third = json.loads(text)
    assert first == {
        "file": "a.wav",
        "family": "drum",
        "probability": 0.75,
        "probabilities": {"bell": 0.25, "drum": 0.75},
        "error": "",
        "channels": 1,
        "familiarity": None,
    }
    assert (second["family"], second["probability"]) == ("", None)
    assert second["error"] == "no audio in it"
    assert second["channels"] is None
    assert third["family"] == "unsure"
    assert len(text.splitlines()) == 5


def test_json_without_rows_is_an_empty_list():
    assert json.loads(text_of(rows.layout("json", LABELS, []), [])) == []


def test_the_table_is_aligned_and_shows_the_next_best():
    layout = rows.layout("table", LABELS, [row.file for row in FOUND])
    head, first, second, third = text_of(layout).splitlines()
    assert first.split() == ["a.wav", "drum", "75.0%", "bell", "25.0%"]
    assert second.endswith("error: no audio in it")
    assert third.split() == ["b.wav", "unsure", "75.0%", "drum", "75.0%"]
    column = head.index("family")
    assert first.index("drum") == second.index("error") == third.index("unsure")
    assert first.index("drum") == column


ODD_NAMES = ("two\nlines.wav", "two\rlines.wav", "two\u2028lines.wav", "\udcff.wav")


@pytest.mark.parametrize("file", ODD_NAMES)
@pytest.mark.parametrize("name", rows.FORMATS)
def test_a_name_does_not_break_the_result(name, file):
    layout = rows.layout(name, LABELS, [file])
    row = rows.row_of(file, ANSWER)
    content = text_of(layout, [row, row]).encode("utf-8", "surrogateescape")
    if name == "csv":
        # As a reader opens it: newline="" and whatever bytes a name has.
        text = content.decode("utf-8", "surrogateescape")
        assert [r[0] for r in csv.reader(io.StringIO(text, newline=""))][1:] == [
            file
        ] * 2
    elif name == "json":
        assert [found["file"] for found in json.loads(content)] == [file] * 2
    else:
        assert len(content.decode().splitlines()) == 3


@pytest.mark.parametrize("file", ODD_NAMES)
@pytest.mark.parametrize("name", ["csv", "json"])
def test_whole_rows_are_read_of_a_text_that_breaks_off_anywhere(name, file):
    found = [rows.row_of(f"{n}{file}", ANSWER) for n in range(3)]
    found[1] = rows.row_of(found[1].file, UserError("no audio in it"))
    text = text_of(rows.layout(name, LABELS, []), found)
    files = [row.file for row in found]
    numbers = []
    for end in range(len(text) + 1):
        read = rows.layout(name, LABELS, []).rows_of(text[:end])
        assert [row.file for row in read] == files[: len(read)]
        numbers.append(len(read))
    assert numbers == sorted(numbers) and numbers[-1] == 3


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: json.dumps(json.loads(text), indent=2),
        lambda text: json.dumps(json.loads(text)),
    ],
)
def test_json_that_another_program_wrote_anew_is_read(changed):
    layout = rows.layout("json", LABELS, [])
    text = changed(text_of(layout))
    assert layout.rows_of(text) == list(FOUND)


SEGMENT = timeline.Segment("a.wav", 0.0, 4.0, "drum", 0.75)
NEIGHBOUR = neighbours.Neighbour("a.wav", 1, "b.wav", 0.5)


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": 1}', "[1, 2]", '[{"name": "a.wav"}]', "{}", "0", "null", "{", "text"),
        '[\n{"name": "a.wav"}',
        '[\n{"name": "a.wav"},\n{"file": "a.w',
        '[{"file": "a.wav", "family": "drum"}, {"file": "b.wav"',
        '[\n  {\n    "file": "a.wav",\n    "family',
        text_of(rows.layout("csv", LABELS, [])),
        text_of(rows.layout("csv", LABELS, []))[:-5],
        text_of(rows.Json(), [SEGMENT, SEGMENT]),
        text_of(rows.Json(), [SEGMENT, SEGMENT])[:-10],
        text_of(rows.Json(), [NEIGHBOUR])[:-3],
    ],
)
def test_json_of_something_else_is_refused(text):
    layout = rows.layout("json", LABELS, [])
    with pytest.raises(UserError, match="other content than answers"):
        layout.rows_of(text)


def test_json_that_breaks_off_before_its_first_row_has_none():
    layout = rows.layout("json", LABELS, [])
    for text in ("", "\n", "[", "[\n", "[]", "[\n\n]\n", '[\n{"file": "a'):
        assert layout.rows_of(text) == []


def test_csv_of_something_else_is_refused_without_a_whole_line_too():
    layout = rows.layout("csv", LABELS, [])
    for text in (json.dumps([{"file": "a.wav"}]), "file,start,end,", "text", "[\n"):
        with pytest.raises(UserError, match="other columns than file,family,"):
            layout.rows_of(text)


def test_families_named_as_other_columns_are_read_by_their_place():
    shares = {"error": 0.0, "file": 0.5, "family": 0.3, "probability": 0.2}
    labels = tuple(shares)
    found = rows.Row("a.wav", "file", 0.5, shares)
    failed = rows.Row("b.wav", error="no audio in it")
    text = text_of(rows.layout("csv", labels, []), [found, failed])
    assert rows.layout("csv", labels, []).rows_of(text) == [found, failed]


def test_a_row_that_was_changed_by_hand_is_not_read():
    layout = rows.layout("csv", LABELS, [])
    text = text_of(layout, [FOUND[0], FOUND[2]])
    changed = text.replace("a.wav,drum,0.750000", 'a.wav,drum,"0,75"', 1)
    assert [row.file for row in layout.rows_of(changed)] == ["b.wav"]
    with pytest.raises(UserError, match="not CSV"):
        layout.rows_of(text.replace("a.wav", "a\r.wav"))
