import numpy as np
import pytest
import tensorflow_datasets as tfds

from mic_tf.errors import UserError
from mic_tf.pipeline import index as note_index
from tests.conftest import make_note, write_dataset


@pytest.fixture
def builder(tmp_path):
    notes = [make_note("organ", i % 2, 50 + i) for i in range(5)]
    valid = [make_note("brass", 0, 60)]
    return write_dataset(tmp_path, {"train": notes, "valid": valid}, shards=2)


def test_index_has_the_labels_of_every_record_in_file_order(builder):
    index = note_index.build(builder)

    read = [
        note["id"].decode()
        for split in ("train", "valid")
        for note in tfds.as_numpy(
            builder.as_dataset(split=split, read_config=_in_order())
        )
    ]
    assert index.ids.tolist() == read
    assert index.counts_by_split()["train"]["organ"] == 5
    assert index.counts_by_split()["valid"]["brass"] == 1
    assert index.pitch.tolist() == [int(i.split("-")[1]) for i in read]


def test_stored_index_is_used_until_the_files_change(builder, monkeypatch):
    first = note_index.load(builder)
    monkeypatch.setattr(note_index, "build", lambda _: pytest.fail("read again"))
    again = note_index.load(builder)
    assert again.ids.tolist() == first.ids.tolist()
    assert again.families == first.families

    path = note_index.file_paths(builder, first)[0]
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(pytest.fail.Exception, match="read again"):
        note_index.load(builder)


def test_damaged_record_file_is_named(builder):
    path = note_index.file_paths(builder, note_index.load(builder))[1]
    with open(path, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match=path):
        note_index.build(builder)


def test_missing_record_file_is_named(builder, tmp_path):
    path = note_index.file_paths(builder, note_index.load(builder))[0]
    import os

    os.remove(path)
    with pytest.raises(UserError, match="record file is missing"):
        note_index.load(builder)


def test_damaged_index_is_made_again(builder):
    first = note_index.load(builder)
    path = builder.data_path / note_index.INDEX_FILE
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(note_index.load(builder).family, first.family)


def _in_order():
    return tfds.ReadConfig(interleave_cycle_length=1)
