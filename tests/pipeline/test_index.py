import os

import numpy as np
import pytest
import tensorflow as tf
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
    monkeypatch.setattr(note_index, "build", lambda *_, **__: pytest.fail("read again"))
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
    os.remove(path)
    with pytest.raises(UserError, match="record file is missing"):
        note_index.load(builder)


def test_a_record_file_that_goes_missing_later_is_not_called_damaged(builder):
    paths = note_index.file_paths(builder, note_index.load(builder))
    assert note_index.damaged_file(paths) is None
    os.remove(paths[1])
    assert note_index.damaged_file(paths) == f"{paths[1]}: record file is missing"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing"])
def test_damage_is_left_out_and_counted_only_when_asked_for(builder, damage, caplog):
    whole = note_index.load(builder)
    path = note_index.file_paths(builder, whole)[0]
    _damage(path, damage)
    with pytest.raises(UserError, match=path):
        note_index.build(builder)
    rest = note_index.load(builder, skip_bad=True)
    assert set(rest.ids) < set(whole.ids)
    assert rest.file_lost.tolist()[1:] == [0] * (len(rest.file_lost) - 1)
    assert len(rest) + rest.file_lost.sum() == len(whole)
    assert any(path in message for message in caplog.messages)
    with pytest.raises(UserError, match=path):
        note_index.build(builder)


def _damage(path, kind):
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if kind == "truncated":
            file.truncate(size - 1000)
        elif kind == "flipped":
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 1]))
        else:
            file.truncate(0)
    if kind == "missing":
        os.remove(path)


def test_record_of_another_schema_is_named(builder):
    path = note_index.file_paths(builder, note_index.load(builder))[0]
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(UserError, match=f"{path}: damaged or of another schema"):
        note_index.load(builder)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9, -1])
def test_damaged_index_is_made_again(builder, kept):
    first = note_index.load(builder)
    path = builder.data_path / note_index.INDEX_FILE
    content = path.read_bytes()
    end = int(kept * len(content)) if isinstance(kept, float) else kept
    path.write_bytes(content[:end])
    assert np.array_equal(note_index.load(builder).family, first.family)
    assert path.read_bytes()[-100:] == content[-100:]


def test_no_flipped_byte_of_an_index_is_an_error_or_another_index(builder):
    first = note_index.load(builder)
    path = builder.data_path / note_index.INDEX_FILE
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        path.write_bytes(flipped)
        index = note_index._read(str(path))
        assert index is None or index.ids.tolist() == first.ids.tolist()


def _in_order():
    return tfds.ReadConfig(interleave_cycle_length=1)
