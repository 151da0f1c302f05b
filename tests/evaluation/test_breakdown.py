import types

import numpy as np

from mic_tf.evaluation.breakdown import breakdown

INDEX = types.SimpleNamespace(
    families=("bass", "flute"),
    instruments=("bass_0", "flute_0", "flute_1"),
    sources=("acoustic", "synthetic"),
    family=np.array([0, 0, 1, 1, 1]),
    instrument=np.array([0, 0, 1, 2, 2]),
    source=np.array([0, 0, 0, 1, 1]),
    pitch=np.array([59, 60, 60, -1, 72]),
    velocity=np.array([25, 127, 127, -1, 127]),
)


def parts(title, rows=(0, 1, 2, 3, 4), right=(1, 0, 1, 0, 1)):
    found = breakdown(INDEX, np.array(rows), np.array(right, bool))
    return [(e["name"], e["n"], e["accuracy"]) for e in found[title]]


def test_octaves_are_those_of_middle_c_and_unknown_ones_say_so():
    expected = [("unknown", 1, 0.0), ("3", 1, 1.0), ("4", 2, 0.5), ("5", 1, 1.0)]
    assert parts("octave") == expected


def test_sources_and_velocities_have_their_own_accuracy():
    assert parts("source") == [("acoustic", 3, 2 / 3), ("synthetic", 2, 0.5)]
    assert parts("velocity")[0] == ("unknown", 1, 0.0)


def test_instruments_come_worst_first_with_their_family():
    right = (0, 0, 1, 0, 1)
    found = breakdown(INDEX, np.arange(5), np.array(right, bool))["instrument"]
    assert [e["name"] for e in found] == ["bass_0", "flute_1", "flute_0"]
    assert [e["family"] for e in found] == ["bass", "flute", "flute"]


def test_only_the_answered_notes_count():
    assert parts("source", rows=(3, 4), right=(1, 1)) == [("synthetic", 2, 1.0)]
