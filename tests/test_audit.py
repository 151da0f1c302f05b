import json
import subprocess

import pytest

from mic_tf import audit
from mic_tf.errors import UserError
from mic_tf.pipeline import batches
from tests import processes
from tests.conftest import write_dataset
from tests.evaluation import planted
from tests.evaluation.test_report import Outline


def call(*arguments: str) -> subprocess.CompletedProcess:
    return processes.run("-m", "mic_tf.audit", *arguments)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    splits, expected = planted.faulty_splits()
    write_dataset(folder / "data", splits)
    done = call(
        "--dataset=nsynth_jsonwav", f"--data_dir={folder}/data", f"--out={folder}/out"
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", expected, done.stdout


def test_files_agree_with_each_other(audited):
    folder, expected, screen = audited
    stored = json.loads((folder / "audit.json").read_text())
    assert set(stored["counts"]) == set(expected)
    for kind, count in stored["counts"].items():
        own = [f for f in stored["findings"] if f["kind"] == kind]
        assert count["findings"] == len(own) == len(expected[kind])
        assert kind in screen
    assert stored["thresholds"]["twin_db"] == 1.0
    lines = (folder / "exclude.txt").read_text().splitlines()
    ids = {line.split("\t")[0] for line in lines}
    named = {note for f in stored["findings"] for note in f["excluded"]}
    assert ids == named
    assert len(lines) == len(ids) == stored["excluded"]
    assert all(len(line.split("\t")) == 2 for line in lines)


def test_page_shows_and_plays_an_example_of_every_kind(audited):
    folder, expected, _ = audited
    outline = Outline((folder / "audit.html").read_text())
    sections = {s["aria-labelledby"] for s in outline.all("section")}
    assert set(expected) <= sections
    assert len(outline.all("audio")) == len(outline.all("img")) >= len(expected)


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_read(
    audited, tmp_path
):
    folder, *_ = audited
    file = tmp_path / "file"
    file.touch()
    data_dir = f"--data_dir={folder.parent}/data"
    done = call("--dataset=nsynth_jsonwav", data_dir, f"--out={file}")
    assert done.returncode == 2
    assert f"error: {file}: " in done.stderr
    assert done.stdout == ""


def test_unknown_split_is_a_mistake_that_names_the_known_ones(small_dataset):
    index = batches.open_records(small_dataset).index
    message = "no split 'dev'; the data set has train, valid, test"
    with pytest.raises(UserError, match=message):
        audit.selected_notes(index, "train,dev", 0)


def test_splits_and_number_of_notes_are_what_was_asked_for(small_dataset):
    index = batches.open_records(small_dataset).index
    selected = audit.selected_notes(index, "valid,test", 0)
    assert selected.sum() == 24
    names = {index.split_names[i] for i in index.note_split[selected]}
    assert names == {"valid", "test"}
    assert audit.selected_notes(index, "", 7).sum() == 7
