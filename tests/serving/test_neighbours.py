"""Similar files: the nearest first, never the file itself."""

import csv
import dataclasses
import os

import numpy as np

from mic_tf.errors import UserError
from mic_tf.serving import neighbours, prediction
from mic_tf.serving.classifier import Answer, Classifier


def answer(*embedding: float) -> Answer:
    return Answer("bell", 1.0, {"bell": 1.0}, np.array(embedding, np.float32))


ANSWERS = [
    ("east.wav", answer(1, 0)),
    ("broken.wav", UserError("broken.wav: no audio in it")),
    ("loud east.wav", answer(100, 1)),
    ("north.wav", answer(0, 1)),
    ("nothing.wav", answer(0, 0)),
]


def test_the_nearest_by_angle_come_first():
    found = list(neighbours.neighbours(ANSWERS, 2))
    pairs = [(n.file, n.rank, n.neighbour) for n in found if n.file == "east.wav"]
    assert pairs == [("east.wav", 1, "loud east.wav"), ("east.wav", 2, "north.wav")]
    assert found[0].similarity > 0.999
    assert found[2] == neighbours.Neighbour("broken.wav", error="no audio in it")


def test_a_file_that_is_named_twice_is_one_neighbour_and_none_of_its_own(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    first, again, linked = ["east.wav", "./east.wav", str(tmp_path / "link" / "up.wav")]
    answers = [
        (first, answer(1, 0)),
        (linked, answer(0, 1)),
        (again, answer(1, 0)),
        (str(tmp_path / "up.wav"), answer(0, 1)),
    ]
    found = list(neighbours.neighbours(answers, 3))
    assert [n.file for n in found] == [path for path, _ in answers]
    assert [n.neighbour for n in found] == [linked, first, linked, first]
    (tmp_path / "up.wav").touch()
    os.link(tmp_path / "up.wav", tmp_path / "hard.wav")
    hard = str(tmp_path / "hard.wav")
    found = list(neighbours.neighbours([*answers, (hard, answer(0, 1))], 3))
    assert [n.neighbour for n in found] == [linked, first, linked, first, first]


def test_no_more_neighbours_than_other_files():
    found = list(neighbours.neighbours(ANSWERS, 10))
    assert len(found) == 4 * 3 + 1
    assert all(n.file != n.neighbour for n in found)
    assert list(neighbours.neighbours(ANSWERS[1:2], 3)) == [found[3]]


def test_why_a_file_has_no_neighbour_is_said():
    alone = neighbours.Neighbour("east.wav", error="no other file to compare it with")
    assert list(neighbours.neighbours(ANSWERS[:2], 3)) == [
        alone,
        neighbours.Neighbour("broken.wav", error="no audio in it"),
    ]
    still = [
        (name, dataclasses.replace(answer(1, 0), family="silence", silent=True))
        for name in ("still.wav", "quiet.wav")
    ]
    silent = [
        neighbours.Neighbour(name, error="silence, which is like nothing")
        for name, _ in still
    ]
    assert list(neighbours.neighbours(still, 3)) == silent
    found = list(neighbours.neighbours([*still, ANSWERS[0]], 3))
    assert found == [*silent, alone]


def test_they_are_written_as_lines(tiny_export, tmp_path):
    out = tmp_path / "out.csv"
    options = prediction.Options(layout="csv", out=str(out), neighbours=1)
    classifier = Classifier.load(tiny_export)
    classifier.classify_files = lambda paths, batch_size: iter(ANSWERS)
    assert prediction.predict_neighbours(classifier, ["x"] * 5, options) == 1
    with out.open() as file:
        found = list(csv.DictReader(file))
    assert found[0]["neighbour"] == "loud east.wav"
    assert [row["file"] for row in found] == [path for path, _ in ANSWERS]
