import copy
import csv
import dataclasses
import io
import json
import math
import shutil

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.evaluation import checks, division, evaluator, sections
from mic_tf.pipeline import batches
from mic_tf.training import trainer, workfolder
from tests.conftest import make_note, write_dataset
from tests.training.test_trainer import SMALL


@pytest.fixture(scope="module")
def run(small_dataset, tmp_path_factory):
    workdir = str(tmp_path_factory.mktemp("evaluated"))
    trainer.train(SMALL, workdir, small_dataset)
    return workfolder.load_run(workdir)


@pytest.fixture(scope="module")
def records(small_dataset):
    return batches.open_records(small_dataset)


def measured(run, records):
    subject = evaluator.subject_of_run(run)
    partition, words = division.partition_for(
        subject.trained_on, records, "nsynth_jsonwav/1.0.0"
    )
    split = evaluator.default_split(partition)
    found = evaluator.answers(subject, records, partition.part(split), batch_size=5)
    result = evaluator.figures(
        found,
        subject,
        dataset="nsynth_jsonwav/1.0.0",
        split=split,
        protocol=partition.protocol,
        protocol_words=words,
    )
    return found, result


def test_files_agree_with_each_other(run, records, tmp_path):
    found, result = measured(run, records)
    evaluator.write(str(tmp_path), result, found, records)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "predictions.csv").read_text())))
    assert stored["n"] == len(rows) == 12
    right = [row["truth"] == row["answer"] for row in rows]
    assert stored["accuracy"] == pytest.approx(np.mean(right))
    assert np.sum(stored["confusion"]) == 12
    assert stored["families_present"] == ["bass", "guitar", "organ", "vocal"]
    for row in rows:
        shares = [float(row[name]) for name in stored["labels"]]
        assert sum(shares) == pytest.approx(1.0, abs=1e-4)
        assert float(row["probability"]) == max(shares)
        assert row["id"].startswith(row["instrument"])
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_protocol_stands_beside_every_figure(run, records):
    _, result = measured(run, records)
    assert result["protocol"] == "official"
    assert "official split" in evaluator.table(result)
    assert "(official;" in evaluator.table(result)


def test_the_threshold_that_keeps_95_percent_is_stored_and_printed(
    run, records, tmp_path
):
    found, result = measured(run, records)
    evaluator.write(str(tmp_path), result, found, records)
    stored = json.loads((tmp_path / "metrics.json").read_text())
    threshold = stored["min_probability_keeping_95"]
    # Of 12 notes none may be lost: 11 are less than 95 %.
    assert threshold == pytest.approx(found.probabilities.max(axis=1).min())
    printed = math.floor(threshold * 1e4) / 1e4
    assert f"--min_probability={printed:.4f}" in evaluator.table(result)


def test_a_printed_threshold_loses_no_note(run, records):
    _, result = measured(run, records)
    printed = evaluator.table({**result, "min_probability_keeping_95": 0.70199})
    assert "--min_probability=0.7019\n" in printed


def test_a_model_that_answers_nan_is_not_measured(run, records):
    subject = evaluator.subject_of_run(run)

    def nan(waveform):
        return subject.probabilities(waveform) * [np.nan] * 11

    broken = dataclasses.replace(subject, probabilities=nan)
    with pytest.raises(UserError, match="answers NaN to 7 of 7 notes: its training"):
        evaluator.answers(broken, records, np.arange(len(records.index)) < 7)


def test_what_was_fitted_on_the_measured_notes_is_said(run, records):
    subject = evaluator.subject_of_run(
        dataclasses.replace(run, summary=copy.deepcopy(run.summary))
    )
    found = evaluator.Answers(np.arange(2), np.array([0, 1]), np.eye(11)[:2])

    def remarks(split, protocol="official"):
        result = evaluator.figures(
            found,
            subject,
            dataset="nsynth_jsonwav/1.0.0",
            split=split,
            protocol=protocol,
            protocol_words="",
        )
        return sections.reservations(result)

    subject.facts["temperature"] = 0.7
    (line,) = remarks("valid")
    assert line.startswith("temperature and epoch of the model were chosen on these")
    assert remarks("test") == remarks("valid", "other_data") == []
    subject.trained_on["hold_out_valid"] = False
    (line,) = remarks("valid")
    assert line.startswith("the model's temperature was fitted on these very notes")
    chosen = "temperature and epoch of the model were chosen on these"
    subject.facts["settings"]["train"]["early_stopping"] = 3
    assert remarks("valid")[0].startswith(chosen)
    subject.facts["settings"]["train"]["early_stopping"] = 0
    for key in ("chosen_on_valid", "hold_out_valid"):
        earlier = {"dataset": "nsynth_jsonwav/1.0.0", key: True}
        subject.trained_on["started_from"] = [earlier]
        assert remarks("valid")[0].startswith(chosen)
    earlier["dataset"] = "soundfont_notes/2.0.0"
    assert remarks("valid")[0].startswith("the model's temperature was fitted")
    subject.facts["temperature"] = 1.0
    assert remarks("valid") == []


def test_an_unfinished_run_is_called_so(run, records, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(run.workdir, folder)
    (folder / "summary.json").unlink()
    unfinished = workfolder.load_run(str(folder))
    assert "its training is not finished (2 of 2 epochs)" in caplog.text
    _, result = measured(unfinished, records)
    assert sections.reservations(result) == ["training is not finished: 2 of 2 epochs"]
    _, result = measured(run, records)
    assert sections.reservations(result) == []
    for path in (folder / "checkpoints").glob("*.index"):
        path.write_bytes(path.read_bytes() + b"x")
    caplog.clear()
    assert workfolder.load_run(str(folder)).summary["unfinished"] == "some of 2 epochs"


def test_another_data_set_is_called_so(run, tmp_path):
    notes = {"test": [make_note("organ", 0, 60), make_note("flute", 0, 60)]}
    builder = write_dataset(tmp_path, notes, name="soundfont_notes", shards=1)
    other = batches.open_records(builder)
    subject = evaluator.subject_of_run(run)
    partition, words = division.partition_for(
        subject.trained_on, other, "soundfont_notes/1.0.0"
    )
    assert partition.protocol == "other_data"
    assert "nsynth_jsonwav/1.0.0" in words


def test_families_are_matched_by_name(run, tmp_path):
    families = ("organ", "vocal")
    notes = [make_note(f, 0, 60, families=families) for f in families]
    builder = write_dataset(
        tmp_path, {"test": notes}, name="sample_folder", shards=1, families=families
    )
    records = batches.open_records(builder)
    found = evaluator.answers(
        evaluator.subject_of_run(run), records, np.ones(2, bool), batch_size=2
    )
    assert [run.labels[t] for t in found.truth] == list(families)


def test_family_that_the_model_does_not_know_is_named(run, tmp_path):
    note = make_note("kazoo", 0, 60, families=("kazoo",))
    builder = write_dataset(
        tmp_path, {"test": [note]}, name="sample_folder", shards=1, families=("kazoo",)
    )
    records = batches.open_records(builder)
    with pytest.raises(
        UserError, match="does not know the family 'kazoo'; it knows bass"
    ):
        evaluator.answers(evaluator.subject_of_run(run), records, np.ones(1, bool))


def test_what_cannot_be_compared_is_said_before_anything_is_measured(run, tmp_path):
    note = make_note("kazoo", 0, 60, families=("kazoo",))
    builder = write_dataset(
        tmp_path, {"test": [note]}, name="sample_folder", shards=1, families=("kazoo",)
    )
    other = evaluator.subject_of_run(run)
    message = f"^--compare={run.workdir}: does not know the family 'kazoo'"
    with pytest.raises(UserError, match=message):
        checks.check_comparable(
            other, batches.open_records(builder), np.ones(1, bool), "sample_folder"
        )


def test_calibration_is_stored_and_used(run, records):
    temperature = evaluator.calibrate(run, records)
    again = workfolder.load_run(run.workdir)
    assert again.temperature == temperature != 1.0
    one = dataclasses.replace(again, temperature=1.0)
    waveform = np.ones([1, 64_000], np.int16)
    cooled = evaluator.subject_of_run(again).probabilities(waveform)
    assert not np.allclose(
        cooled, evaluator.subject_of_run(one).probabilities(waveform)
    )
