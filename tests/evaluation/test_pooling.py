"""Folds pooled: every note tested once, by one recipe, or a refusal."""

import dataclasses
import json

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.evaluation import bootstrap, evaluator, metrics, pooling, report
from mic_tf.pipeline.batches import Records
from mic_tf.settings import DataSettings, RunSettings, TrainSettings
from mic_tf.training import workfolder
from tests.evaluation.test_report import Outline

LABELS = ("bass", "flute", "organ")
NOTES_A_FOLD = 12


def fold_rows(fold: int) -> list[dict[str, str]]:
    """Twelve notes of two instruments of each family, none in another fold."""
    return [
        {
            "id": f"{LABELS[i % 3]}_acoustic_{2 * fold + i % 2:03d}-{40 + i}",
            "instrument": f"{LABELS[i % 3]}_acoustic_{2 * fold + i % 2:03d}",
            "source": "acoustic",
            "pitch": str(40 + i),
            "velocity": "100",
            "truth": LABELS[i % 3],
        }
        for i in range(NOTES_A_FOLD)
    ]


def write_fold(
    folder, fold: int, *, settings=None, rows=None, dataset="nsynth_jsonwav/1.0.0"
) -> str:
    """A work folder with the answers of one fold."""
    workdir = str(folder / f"fold{fold}")
    run = settings or RunSettings(data=DataSettings(protocol="instrument", folds=2))
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, fold=fold))
    data = {"dataset": dataset, "extra_datasets": [], "notes": {}}
    workfolder.write_config(workdir, run, LABELS, data)
    rows = fold_rows(fold) if rows is None else rows
    index = pooling._index_of(rows, LABELS)
    random = np.random.default_rng(fold)
    probabilities = random.dirichlet(np.ones(3), len(rows))
    truth = index.family.astype(np.int64)
    found = evaluator.Answers(np.arange(len(rows)), truth, probabilities)
    records = Records(index, (), audio_is_float=False)
    result = {
        "dataset": dataset,
        "split": "test",
        "protocol": "instrument",
        "protocol_words": "instrument split",
        **metrics.summary(probabilities, truth, LABELS),
    }
    result |= report.details(found, records, LABELS)
    name = evaluator.folder_name(dataset, "test")
    evaluator.write(f"{workdir}/eval/{name}", result, found, records)
    return workdir


def test_pooled_figures_are_those_of_all_answers(tmp_path):
    workdirs = [write_fold(tmp_path, fold) for fold in (1, 0)]
    pooled = pooling.pool(workdirs)
    answers = np.concatenate(
        [np.random.default_rng(f).dirichlet(np.ones(3), NOTES_A_FOLD) for f in (0, 1)]
    )
    truth = np.tile(np.arange(NOTES_A_FOLD) % 3, 2)
    expected = metrics.summary(answers, truth, LABELS)
    for name in ("n", "accuracy", "balanced_accuracy", "macro_f1", "confusion"):
        assert pooled.result[name] == expected[name]
    instrument = np.array([n % 3 + 3 * (n % 2) for n in range(12)])
    instrument = np.concatenate([instrument, 10 + instrument])
    intervals = bootstrap.intervals(truth, answers.argmax(1), instrument, LABELS)
    assert intervals["instruments"] == pooled.result["intervals"]["instruments"] == 12
    low, high = pooled.result["intervals"]["accuracy"]
    assert low < pooled.result["accuracy"] < high
    assert [fold["fold"] for fold in pooled.result["folds"]] == [0, 1]
    assert "all 2 folds pooled, each note tested once" in evaluator.table(pooled.result)


def test_files_are_written_and_agree(tmp_path):
    pooled = pooling.pool([write_fold(tmp_path, fold) for fold in (0, 1)])
    out = tmp_path / "pooled"
    pooling.write(str(out), pooled)
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["n"] == 2 * NOTES_A_FOLD
    assert len((out / "predictions.csv").read_text().splitlines()) == 25
    text = (out / "report.html").read_text()
    assert f"{stored['accuracy']:.3f}" in text
    assert {"folds", "confusion", "calibration"} <= {
        heading["id"] for heading in Outline(text).all("h2")
    }


def test_folds_that_were_trained_on_are_no_test(tmp_path):
    workdirs = [write_fold(tmp_path, fold) for fold in (0, 1)]
    path = tmp_path / "fold1/eval/nsynth_jsonwav-test/metrics.json"
    result = json.loads(path.read_text()) | {"protocol": "trained_on"}
    path.write_text(json.dumps(result))
    assert pooling.pool(workdirs).result["protocol"] == "trained_on"


def test_figures_come_after_the_page_that_shows_them(tmp_path):
    pooled = pooling.pool([write_fold(tmp_path, 1)])
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(UserError, match="report.html: cannot be written"):
        pooling.write(str(tmp_path / "out"), pooled)
    assert not (tmp_path / "out" / "metrics.json").exists()


def with_notes(workdir: str, **data) -> str:
    """The same fold of a data set of which something else was written down."""
    config = workfolder.read_config(workdir)
    workfolder.write_config(
        workdir,
        workfolder.load_settings(workdir),
        LABELS,
        {**config["data"], **data},
    )
    return workdir


def test_folds_of_a_set_that_was_made_anew_in_between_are_refused(tmp_path):
    folds = [write_fold(tmp_path, fold) for fold in (0, 1)]
    for workdir, notes in zip(folds, (36, 36), strict=True):
        with_notes(workdir, notes={"train": notes - 12, "test": 12})
    pooling.pool(folds)
    with_notes(folds[1], notes={"train": 25, "test": 12})
    with pytest.raises(UserError, match="had 36 and 37 notes; the same expected"):
        pooling.pool(folds)


def test_as_many_other_notes_are_seen_by_what_validates_and_tests(tmp_path):
    run = RunSettings(data=DataSettings(protocol="instrument", folds=3))
    folds = [write_fold(tmp_path, fold, settings=run) for fold in (0, 1, 2)]
    for i, workdir in enumerate(folds):
        following = (i + 1) % 3
        digests = {"test": f"fold {i}", "valid": f"fold {following}"}
        with_notes(workdir, note_digests=digests)
    pooling.pool(folds)
    with_notes(folds[2], note_digests={"test": "fold 2", "valid": "of another set"})
    with pytest.raises(UserError, match="so their data sets had other notes"):
        pooling.pool(folds)


def test_a_row_that_is_cut_off_is_named(tmp_path):
    workdir = write_fold(tmp_path, 1)
    path = tmp_path / "fold1/eval/nsynth_jsonwav-test/predictions.csv"
    path.write_text(path.read_text()[:-12])
    with pytest.raises(UserError, match="damaged at organ_acoustic_003-51"):
        pooling.pool([workdir])


def test_a_fold_that_was_trained_on_after_its_test_is_refused(tmp_path):
    workdir = write_fold(tmp_path, 1)
    path = tmp_path / "fold1/eval/nsynth_jsonwav-test/metrics.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "weights": "0badcafe", "temperature": 0.5}))
    with pytest.raises(UserError, match="of other weights or another temperature"):
        pooling.pool([workdir])


def test_a_part_of_the_folds_is_called_so(tmp_path):
    pooled = pooling.pool([write_fold(tmp_path, 1)])
    words = "folds 1 of 2 pooled: not all notes were tested"
    assert words in pooled.result["protocol_words"]


def test_what_is_said_of_one_fold_is_said_of_all(tmp_path):
    workdirs = [write_fold(tmp_path, fold) for fold in (0, 1)]
    path = tmp_path / "fold1/eval/nsynth_jsonwav-test/metrics.json"
    result = json.loads(path.read_text())
    result |= {"protocol_words": "instruments were heard", "unfinished": "1 of 9"}
    result |= {"leakage_unchecked": {"other/1.0.0": "it is not prepared"}}
    result |= {"excluded": {"file": "ids.txt", "notes": 198}}
    path.write_text(json.dumps(result))
    pooled = pooling.pool(workdirs).result
    assert pooled["protocol_words"].startswith(
        "fold 0: instrument split; fold 1: instruments were heard; all 2 folds pooled"
    )
    assert pooled["unfinished"] == "fold 1: 1 of 9"
    said = " ".join(pooled["remarks"])
    assert "leakage from other/1.0.0 was not looked for: it is not prepared" in said
    assert "198 notes are left out of training and test (ids.txt)" in said


def recipe(**data) -> RunSettings:
    values = {"protocol": "instrument", "folds": 2, **data}
    return RunSettings(data=DataSettings(**values))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"settings": recipe(balance="none")}, 'balance: "rejection" -> "none"'),
        ({"settings": recipe(split_seed=3)}, "split_seed: 0 -> 3"),
        ({"dataset": "soundfont_notes/1.0.0"}, "dataset: nsynth_jsonwav/1.0.0 ->"),
        ({"rows": fold_rows(0)}, "both were tested on id bass_acoustic_000-40"),
        (
            {"rows": [{**row, "id": f"{row['id']}-b"} for row in fold_rows(0)]},
            "both were tested on instrument bass_acoustic_000",
        ),
        ({"settings": recipe(protocol="random")}, "of the random protocol"),
    ],
)
def test_runs_that_are_no_folds_of_one_recipe_are_refused(tmp_path, other, message):
    workdirs = [write_fold(tmp_path, 0), write_fold(tmp_path, 1, **other)]
    with pytest.raises(UserError, match=message):
        pooling.pool(workdirs)


def test_a_family_named_as_a_column_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "LABELS", (*LABELS[:2], "source"))
    workdirs = [write_fold(tmp_path, fold) for fold in (0, 1)]
    with pytest.raises(UserError, match="family source and another column"):
        pooling.pool(workdirs)


def test_each_fold_may_start_from_weights_of_its_own(tmp_path):
    workdirs = []
    for fold in (0, 1):
        run = recipe()
        train = TrainSettings(init_from=f"stage1/{fold}")
        run = dataclasses.replace(run, train=train)
        workdirs.append(write_fold(tmp_path, fold, settings=run))
    assert pooling.pool(workdirs).result["n"] == 2 * NOTES_A_FOLD


def test_a_fold_that_was_not_tested_says_how(tmp_path):
    run = RunSettings(data=DataSettings(protocol="instrument"))
    data = {"dataset": "nsynth_jsonwav/1.0.0"}
    workfolder.write_config(str(tmp_path / "new"), run, LABELS, data)
    with pytest.raises(UserError, match="evaluate --workdir=.*new --split=test"):
        pooling.pool([str(tmp_path / "new")])
