import json
import os
import resource

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf import files
from mic_tf.datasets import preparation
from mic_tf.errors import UserError
from mic_tf.pipeline import batches, draws, family_shards
from mic_tf.pipeline.balance import balance
from mic_tf.pipeline.draws import Draw
from tests.conftest import make_note, write_dataset
from tools.small_sets import rewrite

COUNTS = {"bass": 12, "guitar": 6, "vocal": 3}


@pytest.fixture
def builder(tmp_path, monkeypatch):
    monkeypatch.setattr(family_shards, "_NOTES_PER_FILE", 4)
    train = [make_note(f, i % 2, 40 + i) for f, n in COUNTS.items() for i in range(n)]
    valid = [make_note(f, 5, 50) for f in COUNTS]
    return write_dataset(tmp_path, {"train": train, "valid": valid}, shards=2)


def streamed(builder, count, seed=2, **changes):
    records = batches.open_records(builder)
    index = records.index
    selected = index.note_split == 0
    shards = family_shards.load(builder, index)
    target = balance(index.counts(selected), "streams", 1.0).target
    draw = Draw(**{"notes_per_epoch": count, "seed": seed, **changes})
    drawn = draws.drawn_from_families(shards, selected, target, draw)
    dataset = batches.training_batches(records, drawn, batch_size=1).take(count)
    return [(w.tobytes(), int(f[0])) for w, f, _ in dataset.as_numpy_iterator()]


def test_streams_deliver_the_target_shares_of_training_notes_only(builder):
    family_shards.write(builder)
    drawn = streamed(builder, 600)
    shares = np.bincount([family for _, family in drawn], minlength=11)[[0, 3, 10]]
    error = 3 * np.sqrt(600 * (1 / 3) * (2 / 3))
    assert (np.abs(shares - 200) < error).all()
    assert len(set(drawn)) == sum(COUNTS.values())


def test_each_family_goes_through_its_notes_before_one_comes_again(builder):
    family_shards.write(builder)
    for family, count in zip((0, 3, 10), COUNTS.values(), strict=True):
        notes = [note for note, f in streamed(builder, 100) if f == family]
        assert len(set(notes[:count])) == count


def test_epochs_that_take_a_part_of_a_family_hear_all_of_it_in_time(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(family_shards, "_NOTES_PER_FILE", 8)
    notes = [make_note("bass", i, 40 + i) for i in range(64)]
    notes += [make_note("vocal", 0, 50)]
    builder = write_dataset(tmp_path, {"train": notes}, shards=2)
    family_shards.write(builder)
    # Half of an epoch's 65 notes are the one of vocal, so it takes half of bass.
    records = batches.open_records(builder)
    shards = family_shards.load(builder, records.index)
    target = balance(records.index.counts(np.ones(65, bool)), "streams", 1.0).target
    draw = Draw(notes_per_epoch=65, seed=0, shuffle_buffer=2)
    drawn = draws.drawn_from_families(shards, np.ones(65, bool), target, draw)
    rows = [int(row) for _, row in drawn.take(12 * 65).as_numpy_iterator()]
    assert len(set(rows[:65])) < 50
    assert len(set(rows)) == 65


def test_order_is_a_function_of_seed_and_place(builder):
    family_shards.write(builder)
    whole = streamed(builder, 60)
    assert streamed(builder, 60) == whole
    assert streamed(builder, 60, seed=3) != whole
    assert streamed(builder, 60, skip=25)[:35] == whole[25:]


def test_written_again_only_when_the_records_have_changed(builder):
    first = family_shards.write(builder)
    stamp = [os.stat(p).st_mtime_ns for p in first.paths]
    family_shards.write(builder)
    again = [os.stat(p).st_mtime_ns for p in first.paths]
    assert again == stamp

    def rename(example):
        example.features.feature["id"].bytes_list.value[0] += b"-again"

    rewrite(batches.open_records(builder), rename)
    with pytest.raises(UserError, match="made from other records"):
        family_shards.load(builder, batches.open_records(builder).index)
    changed = family_shards.write(builder)
    assert changed.paths == first.paths
    for path, before in zip(first.paths, stamp, strict=True):
        assert os.stat(path).st_mtime_ns > before
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            [name] = example.features.feature["id"].bytes_list.value
            assert name.endswith(b"-again")


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_file_that_is_not_as_it_was_written_is_named_and_written_anew(
    builder, damage
):
    path = family_shards.write(builder).paths[1]
    with open(path, "rb") as file:
        whole = file.read()
    if damage == "gone":
        os.remove(path)
    else:
        os.truncate(path, len(whole) // 2)
    words = "is missing" if damage == "gone" else f"{len(whole):,} expected"
    index = batches.open_records(builder).index
    with pytest.raises(UserError, match=f"{os.path.basename(path)} .*{words}; write"):
        family_shards.load(builder, index)
    family_shards.write(builder)
    with open(path, "rb") as file:
        assert file.read() == whole
    family_shards.load(builder, index)


def test_files_of_an_earlier_program_are_used_without_their_sizes(builder):
    written = family_shards.write(builder)
    manifest = os.path.join(os.path.dirname(written.paths[0]), "manifest.json")
    content = files.read_json(manifest)
    files.write_json(manifest, {k: v for k, v in content.items() if k != "bytes"})
    stamp = os.stat(written.paths[0]).st_mtime_ns
    assert family_shards.write(builder).paths == written.paths
    assert os.stat(written.paths[0]).st_mtime_ns == stamp


def test_a_family_may_have_a_slash_in_its_name(tmp_path):
    families = ("wood/flute", "wood_flute")
    notes = [
        make_note(f, i, 50 + i, families=families) for f in families for i in range(3)
    ]
    builder = write_dataset(tmp_path, {"train": notes}, families=families)
    written = family_shards.write(builder)
    index = batches.open_records(builder).index
    assert family_shards.load(builder, index).paths == written.paths
    for path, family, rows in zip(*vars(written).values(), strict=True):
        assert os.path.basename(os.path.dirname(path)) == family_shards.FOLDER
        records = tf.data.TFRecordDataset(path).as_numpy_iterator()
        found = [tf.train.Example.FromString(r).features.feature for r in records]
        ids = [feature["id"].bytes_list.value[0].decode() for feature in found]
        assert ids == index.ids[rows].tolist()
        assert ids[0].startswith(families[family])


@pytest.mark.parametrize("where", ["open", "close"])
def test_files_that_cannot_be_written_are_one_line(builder, monkeypatch, where):
    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    method = "__init__" if where == "open" else "__exit__"
    monkeypatch.setattr(tf.io.TFRecordWriter, method, full)
    with pytest.raises(UserError, match="family_shards: cannot be written: No space"):
        family_shards.write(builder)
    with pytest.raises(UserError, match=r"no .*family_shards"):
        family_shards.load(builder, batches.open_records(builder).index)


def test_two_processes_do_not_write_the_files_of_one_set(builder):
    written = family_shards.write(builder)
    os.remove(written.paths[0])
    refused = pytest.raises(UserError, match="another process is preparing it")
    with preparation.one_at_a_time(os.path.dirname(written.paths[0])), refused:
        family_shards.write(builder)
    assert not os.path.exists(written.paths[0])
    assert family_shards.write(builder).paths == written.paths


def test_more_files_may_be_open_than_by_default(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 8_000))
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for count in (10, 5_000, 9_000):
        files.allow_open(count)
    assert asked == [(4096, 8_000), (6_024, 8_000), (8_000, 8_000)]


def test_without_the_files_the_error_names_the_flag(builder):
    with pytest.raises(UserError, match="prepare .*--family_shards"):
        streamed(builder, 1)


@pytest.mark.parametrize("label", ["", "mine"])
def test_the_command_in_the_error_names_the_set_with_its_label(builder, label):
    info = builder.data_path / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "configName": label}))
    name = f"nsynth_jsonwav/{label}".rstrip("/")
    with pytest.raises(UserError, match=f"--dataset={name} --family_shards, and"):
        streamed(tfds.builder_from_directory(builder.data_path), 1)
