import json
import shutil

import pytest

from mic_tf import taxonomy
from mic_tf.errors import UserError
from mic_tf.evaluation import runs_table
from mic_tf.settings import RunSettings
from mic_tf.training import workfolder
from tests import processes
from tests.evaluation.test_report import Outline

RESULT = {
    "dataset": "soundfont_notes/1.0.0",
    "split": "test",
    "protocol": "random",
    "n": 1234,
    "accuracy": 0.97,
    "balanced_accuracy": 0.96,
    "macro_f1": 0.95,
    "ece": 0.02,
    "intervals": {"accuracy": [0.9, 0.99], "macro_f1": None},
    "leakage": {"instrument_share": 1.0},
    "excluded": {"file": "exclude.txt", "notes": 7},
}


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "phase1"
    data = {"dataset": "soundfont_notes/1.0.0", "notes": {"train": 3000}}
    workfolder.write_config(str(folder), RunSettings(), taxonomy.FAMILIES, data)
    for split in ("test", "valid"):
        target = folder / "eval" / f"soundfont_notes-{split}"
        target.mkdir(parents=True)
        content = json.dumps({**RESULT, "split": split})
        (target / "metrics.json").write_text(content)
    return folder


def test_each_evaluation_has_a_row_with_its_protocol(workdir):
    rows = runs_table.rows([str(workdir)])
    assert [row[2] for row in rows] == [
        "soundfont_notes/1.0.0 test",
        "soundfont_notes/1.0.0 valid",
    ]
    for row in rows:
        assert row[3] == "random"
        assert "0.970 (0.900-0.990)" in row
        assert "0.950" in row
        assert "100%" in row
        assert row[-1].endswith("7 notes left out")


def test_notes_that_were_trained_on_are_all_heard(workdir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(workdir, folder)
    for path in folder.glob("eval/*/metrics.json"):
        result = json.loads(path.read_text()) | {"protocol": "trained_on"}
        result.pop("leakage", None)
        path.write_text(json.dumps(result))
    assert all("100%" in row for row in runs_table.rows([str(folder)]))


def test_what_was_not_looked_at_may_have_been_heard_too(workdir):
    for share, words in ((0.0, "at least 0%"), (0.25, "at least 25%"), (1.0, "100%")):
        for path in workdir.glob("eval/*/metrics.json"):
            leakage = {"leakage": {"instrument_share": share}}
            unchecked = {"leakage_unchecked": {"nsynth_jsonwav/1.0.0": "not there"}}
            path.write_text(json.dumps({**RESULT, **leakage, **unchecked}))
        assert all(words in row for row in runs_table.rows([str(workdir)]))


def written(workdir, **changes) -> None:
    for path in workdir.glob("eval/*/metrics.json"):
        path.write_text(json.dumps({**RESULT, **changes}))


def test_near_twins_in_training_and_the_fold_stand_in_the_row(workdir):
    written(workdir, leakage={"instrument_share": 0.0, "twin_share": 0.25})
    assert all("0%, near twins of 25.0%" in row for row in rows_of(workdir))
    written(workdir, protocol="instrument")
    assert all("instrument, fold 0 of 5" in row for row in rows_of(workdir))


def rows_of(workdir) -> list[tuple[str, ...]]:
    return runs_table.rows([str(workdir)])


def test_figures_from_before_the_end_of_the_training_are_left_out(workdir, caplog):
    test = workdir / "eval" / "soundfont_notes-test" / "metrics.json"
    test.write_text(json.dumps({**RESULT, "unfinished": "1 of 12 epochs"}))
    assert len(rows_of(workdir)) == 2
    (workdir / "summary.json").write_text("{}")
    assert [row[2] for row in rows_of(workdir)] == ["soundfont_notes/1.0.0 valid"]
    assert f"{test}: of other weights or another temperature" in caplog.text
    (workdir / "eval" / "soundfont_notes-valid" / "metrics.json").unlink()
    with pytest.raises(UserError, match="not evaluated yet"):
        rows_of(workdir)


@pytest.mark.parametrize("content", ["[]", '{"n": 12}'])
def test_another_programs_figures_are_one_line(workdir, content):
    path = workdir / "eval" / "soundfont_notes-test" / "metrics.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"{path}: no accuracy; evaluate it again"):
        rows_of(workdir)


def test_folders_of_one_name_are_told_apart(workdir, tmp_path):
    folders = [tmp_path / name / "0" for name in ("a", "b")]
    for folder in folders:
        shutil.copytree(workdir, folder)
    names = [row[0] for row in runs_table.rows([*map(str, folders)])]
    assert names == ["a/0", "a/0", "b/0", "b/0"]
    names = [row[0] for row in runs_table.rows([str(folders[0])] * 2)]
    assert set(names) == {"0"}
    names = {row[0] for row in runs_table.rows([str(folders[0]), str(workdir)])}
    assert names == {"0", "phase1"}


def test_a_folder_with_brackets_in_its_name_is_found(workdir, tmp_path):
    folder = tmp_path / "lr[0.1]"
    shutil.copytree(workdir, folder)
    assert len(runs_table.rows([str(folder)])) == 2


def test_a_folder_that_was_not_evaluated_says_how(tmp_path):
    data = {"dataset": "d", "notes": {}}
    workfolder.write_config(str(tmp_path), RunSettings(), taxonomy.FAMILIES, data)
    with pytest.raises(UserError, match="python -m mic_tf.evaluate --workdir"):
        runs_table.rows([str(tmp_path)])


def test_command_prints_the_table_and_writes_the_page(workdir):
    page = workdir / "table.html"
    flags = (f"--workdirs={workdir}", f"--out={page}")
    done = processes.run("-m", "mic_tf.report", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == runs_table.markdown(runs_table.rows([str(workdir)]))
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    outline = Outline(page.read_text())
    assert len(outline.all("tr")) == 3


def test_pooling_without_a_place_for_it_is_one_line(workdir):
    done = processes.anew("-m", "mic_tf.report", "--pool", f"--workdirs={workdir}")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: --pool: needs --out, the folder for the result"
    )
