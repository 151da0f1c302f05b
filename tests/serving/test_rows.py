"""Rows as text: columns, errors, names that would break a line."""

import csv
import io
import json

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.serving import rows
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


@pytest.mark.parametrize("name", rows.FORMATS)
def test_a_line_break_in_a_name_does_not_break_the_result(name):
    layout = rows.layout(name, LABELS, ["two\nlines.wav"])
    row = rows.row_of("two\nlines.wav", ANSWER)
    text = text_of(layout, [row])
    if name == "csv":
        assert list(csv.reader(io.StringIO(text)))[1][0] == "two\nlines.wav"
    elif name == "json":
        assert json.loads(text)[0]["file"] == "two\nlines.wav"
    else:
        assert len(text.splitlines()) == 2
