"""The table of effects: the same notes, each changed as it says."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.evaluation import effects, evaluator, robustness, robustness_report
from mic_tf.evaluation.evaluator import Subject
from mic_tf.pipeline import batches
from tests.conftest import make_note, write_dataset
from tests.evaluation.test_report import Outline

OWN = [e for e in effects.EFFECTS if e.name.startswith(("noise", "first", "mixture"))]
"""Effects that need no library."""

QUIETER = effects.Effect("half", "half as loud", lambda take: take.waveform / 2)


@pytest.fixture(scope="module")
def records(small_dataset):
    return batches.open_records(small_dataset)


def by_level(records, threshold: float) -> Subject:
    """A model that says bass to what is louder than a threshold, else vocal."""
    labels = records.index.families

    def probabilities(waveform: tf.Tensor) -> tf.Tensor:
        peak = tf.reduce_max(tf.abs(tf.cast(waveform, tf.float32)), axis=1)
        answer = tf.where(peak > threshold, labels.index("bass"), labels.index("vocal"))
        return tf.one_hot(answer, len(labels))

    return Subject("loudness", labels, probabilities, {})


def test_loss_is_accuracy_before_minus_after(records):
    selected = np.isin(
        records.index.family,
        [records.index.families.index(name) for name in ("bass", "vocal")],
    )
    subject = by_level(records, 8_000)
    clean = evaluator.answers(subject, records, selected)
    found = robustness.measure(
        subject, records, clean, batch_size=5, chosen=[QUIETER, OWN[2]]
    )
    bass = np.mean(clean.truth == subject.labels.index("bass"))
    assert 0 < bass < 1
    assert found["clean"] == pytest.approx(bass)
    half, first = found["rows"]
    assert half["accuracy"] == pytest.approx(1 - bass)
    assert half["loss"] == pytest.approx(100 * (2 * bass - 1))
    assert half["n"] == first["n"] == selected.sum()
    assert first["loss"] == pytest.approx(0.0)
    assert found["mean_loss"] == pytest.approx(half["loss"] / 2)
    assert (found["worst"], found["worst_loss"]) == ("half", half["loss"])


def test_every_note_is_changed_with_its_own_seed_and_companion(records):
    selected = records.index.note_split == records.index.split_names.index("valid")
    heard = []

    def listen(waveform: tf.Tensor) -> tf.Tensor:
        heard.append(waveform.numpy())
        return tf.one_hot(tf.zeros(len(waveform), tf.int32), 11)

    subject = dataclasses.replace(by_level(records, 0), probabilities=listen)
    clean = evaluator.answers(subject, records, selected, batch_size=12)
    [plain] = heard
    heard.clear()
    robustness.measure(subject, records, clean, batch_size=12, chosen=OWN)
    once = [sounds.copy() for sounds in heard]
    heard.clear()
    robustness.measure(subject, records, clean, batch_size=12, chosen=OWN)
    assert len(once) == len(OWN)
    for effect, first, second in zip(OWN, once, heard, strict=True):
        assert np.array_equal(first, second), effect.name
        assert (first != plain).any(axis=1).all(), effect.name


def test_a_companion_is_audible_of_another_family_and_always_the_same(records):
    selected = records.index.note_split == records.index.split_names.index("train")
    others = robustness.companions(records, selected)
    assert selected[others.rows].all()
    assert np.array_equal(others.family, records.index.family[others.rows])
    chosen = [
        others.of(str(note), int(family))
        for note, family in zip(
            records.index.ids[selected], records.index.family[selected], strict=True
        )
    ]
    assert (others.family[chosen] != records.index.family[selected]).all()
    assert len(set(chosen)) > 10
    again = robustness.companions(records, selected)
    assert np.array_equal(others.rows, again.rows)


def test_silent_notes_are_no_companions_and_one_family_has_no_mixtures(tmp_path):
    silent = {**make_note("organ", 1, 50), "audio": np.zeros(64_000, np.int16)}
    notes = [make_note("bass", i, 40 + i) for i in range(3)] + [silent]
    records = batches.open_records(write_dataset(tmp_path, {"test": notes}, shards=1))
    subject = by_level(records, 0)
    clean = evaluator.answers(subject, records, np.ones(4, bool), batch_size=2)
    others = robustness.companions(records, np.ones(4, bool))
    assert {records.index.families[f] for f in others.family} == {"bass"}
    found = robustness.measure(subject, records, clean, batch_size=2, chosen=OWN)
    names = [row["name"] for row in found["rows"]]
    assert names == ["noise 20 dB", "noise 10 dB", "first second"]


def test_the_report_has_a_table_and_bars_with_every_figure(records):
    selected = records.index.note_split == records.index.split_names.index("valid")
    subject = by_level(records, 8_000)
    clean = evaluator.answers(subject, records, selected)
    found = robustness.measure(subject, records, clean, chosen=[QUIETER, *OWN])
    section = robustness_report.section_of({"effects": found, "n": 12})
    outline = Outline(section)
    assert len(outline.all("tr")) == 1 + len(found["rows"])
    assert len([r for r in outline.all("rect") if r["class"] == "loss"]) == 6
    [picture] = outline.all("svg")
    for row in found["rows"]:
        assert f"{row['name']} {row['loss']:.1f}" in picture["aria-label"]
        assert f"{row['accuracy']:.3f}" in section
    shown = "\n".join(robustness_report.lines(found))
    assert f"worst {found['worst_loss']:.1f} ({found['worst']})" in shown
    assert robustness_report.section_of({"n": 12}) == ""
