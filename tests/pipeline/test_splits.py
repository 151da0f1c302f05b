import dataclasses

import numpy as np
import pytest

from mic_tf import taxonomy
from mic_tf.errors import UserError
from mic_tf.pipeline import splits
from mic_tf.pipeline.index import NoteIndex
from mic_tf.settings import DataSettings


def synthetic_index(instruments_per_family=7, notes_per_instrument=20) -> NoteIndex:
    families = taxonomy.FAMILIES
    count = len(families) * instruments_per_family
    instrument = np.repeat(np.arange(count), notes_per_instrument)
    family = instrument // instruments_per_family
    notes = len(instrument)
    valid = notes // 10
    return NoteIndex(
        families=families,
        instruments=tuple(f"instrument_{i:03d}" for i in range(count)),
        sources=taxonomy.SOURCES,
        split_names=("train", "valid"),
        file_names=("a", "b"),
        file_sizes=np.array([1, 1]),
        file_notes=np.array([notes - valid, valid]),
        file_split=np.array([0, 1], np.int8),
        file_lost=np.array([0, 0]),
        ids=np.array([f"note-{i}" for i in range(notes)]),
        family=family.astype(np.int16),
        instrument=instrument.astype(np.int32),
        source=np.zeros(notes, np.int8),
        pitch=np.full(notes, 60, np.int16),
        velocity=np.full(notes, 100, np.int16),
    )


@pytest.mark.parametrize("protocol", ["official", "instrument", "random"])
def test_parts_do_not_overlap_and_leave_nothing_out(protocol):
    index = synthetic_index()
    parts = splits.partition(index, DataSettings(protocol=protocol)).parts
    assert np.array_equal(
        sum(p.astype(int) for p in parts.values()), np.ones(len(index))
    )


def test_no_instrument_stands_in_two_parts_of_the_instrument_protocol():
    index = synthetic_index()
    for fold in range(5):
        settings = DataSettings(protocol="instrument", fold=fold)
        parts = splits.partition(index, settings).parts
        seen = [set(index.instrument[part]) for part in parts.values()]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
        assert (index.counts(parts["test"]) > 0).all()


def test_test_folds_together_are_all_notes_once():
    index = synthetic_index()
    tests = [
        splits.partition(index, DataSettings(protocol="instrument", fold=f)).parts[
            "test"
        ]
        for f in range(5)
    ]
    assert np.array_equal(sum(t.astype(int) for t in tests), np.ones(len(index)))


def test_random_protocol_shares_instruments_and_keeps_its_proportions():
    index = synthetic_index(notes_per_instrument=100)
    parts = splits.partition(index, DataSettings(protocol="random")).parts
    assert set(index.instrument[parts["test"]]) <= set(index.instrument[parts["train"]])
    assert parts["train"].mean() == pytest.approx(0.8, abs=0.02)


def test_division_does_not_depend_on_the_order_of_the_notes():
    index = synthetic_index()
    order = np.random.default_rng(0).permutation(len(index))
    shuffled = dataclasses.replace(
        index,
        ids=index.ids[order],
        family=index.family[order],
        instrument=index.instrument[order],
    )
    for protocol in ("random", "instrument"):
        settings = DataSettings(protocol=protocol)
        first = splits.partition(index, settings).parts["test"]
        second = splits.partition(shuffled, settings).parts["test"]
        assert set(index.ids[first]) == set(shuffled.ids[second])


def test_max_notes_draws_exactly_that_many_in_the_datas_proportions():
    index = synthetic_index(notes_per_instrument=100)
    few = splits.partition(index, DataSettings(max_notes=2000)).parts["train"]
    assert few.sum() == 2000
    all_of_them = splits.partition(index, DataSettings()).parts["train"]
    shares = index.counts(few) / 2000
    expected = index.counts(all_of_them) / all_of_them.sum()
    assert np.abs(shares - expected).max() < 0.03


@pytest.mark.parametrize(
    ("most", "rows"),
    [(0, [1, 2, 4, 7, 8]), (9, [1, 2, 4, 7, 8]), (3, [1, 4, 8]), (1, [1])],
)
def test_some_notes_are_taken_evenly_from_those_selected(most, rows):
    selected = np.isin(np.arange(9), [1, 2, 4, 7, 8])
    assert np.flatnonzero(splits.evenly(selected, most)).tolist() == rows
    assert not splits.evenly(np.zeros(9, bool), most).any()


def test_pool_limits_what_is_divided_anew():
    index = synthetic_index()
    settings = DataSettings(protocol="random", pool="train")
    parts = splits.partition(index, settings).parts
    assert not any(part[index.note_split == 1].any() for part in parts.values())


def test_without_a_validation_part_its_notes_are_trained_on():
    index = synthetic_index()
    settings = DataSettings(protocol="instrument")
    kept = splits.partition(index, settings).parts
    joined = splits.partition(index, settings, hold_out_valid=False).parts
    assert "valid" not in joined
    assert np.array_equal(joined["train"], kept["train"] | kept["valid"])
    assert np.array_equal(joined["test"], kept["test"])


def test_excluded_notes_are_in_no_part():
    index = synthetic_index()
    partition = splits.partition(index, DataSettings())
    without = splits.excluding(partition, index, {"note-3", "note-5"})
    assert partition.parts["train"].sum() - without.parts["train"].sum() == 2
    assert np.array_equal(without.heard, without.parts["train"])


def test_notes_left_out_of_the_test_stay_heard():
    index = synthetic_index()
    partition = splits.partition(index, DataSettings())
    without = splits.untested(partition, index, {"note-3", "note-5"})
    assert partition.parts["train"].sum() - without.parts["train"].sum() == 2
    assert np.array_equal(without.heard, partition.parts["train"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (DataSettings(protocol="instrument", fold=5), "fold 5"),
        (DataSettings(protocol="random", pool="train,tests"), "tests"),
    ],
)
def test_impossible_divisions_are_user_errors(settings, message):
    with pytest.raises(UserError, match=message):
        splits.partition(synthetic_index(), settings)


def test_missing_part_names_those_there_are():
    partition = splits.partition(synthetic_index(), DataSettings())
    with pytest.raises(UserError, match="there are train, valid"):
        partition.part("test")


def test_windows_of_one_recording_stay_together_in_the_random_protocol():
    index = synthetic_index()
    windows = np.array(
        [f"take-{i // 10}.wav#{4 * (i % 10)}" for i in range(len(index))]
    )
    index = dataclasses.replace(index, ids=windows)
    parts = splits.partition(index, DataSettings(protocol="random")).parts
    takes = [{w.split("#")[0] for w in windows[part]} for part in parts.values()]
    assert not (takes[0] & takes[1] or takes[0] & takes[2] or takes[1] & takes[2])
    assert all(takes)


def test_words_of_the_official_protocol_say_when_instruments_overlap():
    index = synthetic_index()
    partition = splits.partition(index, DataSettings())
    assert "1 of 8 instruments" in splits.words(partition, index)
    clean = dataclasses.replace(
        index, instrument=np.where(index.note_split == 1, 0, 1 + index.instrument)
    )
    partition = splits.partition(clean, DataSettings())
    assert splits.words(partition, clean) == splits.PROTOCOL_WORDS["official"]


@pytest.mark.parametrize("protocol", ["official", "instrument"])
@pytest.mark.parametrize("named", [False, True])
def test_words_say_that_single_files_are_no_instruments(protocol, named):
    index = synthetic_index(notes_per_instrument=1)
    names = tuple(f"a.b/{i}" for i in range(len(index)))
    ids = [f"{name}/take.wav" if named else f"in/{name}.wav" for name in names]
    windows = [f"{name}{window}" for name in ids for window in ("#0", "#0.0000625")]
    doubled = {
        name: np.repeat(getattr(index, name), 2)
        for name in ("family", "source", "pitch", "velocity")
    }
    index = dataclasses.replace(
        index,
        **doubled,
        ids=np.array(windows),
        instruments=names,
        instrument=np.repeat(np.arange(len(names)), 2),
        file_notes=index.file_notes * 2,
    )
    partition = splits.partition(index, DataSettings(protocol=protocol))
    words = splits.words(partition, index)
    if named:
        assert words == splits.PROTOCOL_WORDS[protocol]
    else:
        parts = partition.parts.items()
        tested = sum(part.sum() for name, part in parts if name != "train") // 2
        assert f": {tested} of {tested} instruments outside training are a single" in (
            words
        )


def test_words_of_the_instrument_protocol_say_what_was_heard_before():
    index = synthetic_index()
    partition = splits.partition(index, DataSettings(protocol="instrument"))
    assert splits.words(partition, index) == splits.PROTOCOL_WORDS["instrument"]
    tested = np.unique(index.instrument[partition.part("test")])
    before = index.instrument == tested[0]
    heard = dataclasses.replace(partition, heard=partition.heard | before)
    outside = partition.part("test") | partition.parts["valid"]
    others = len(np.unique(index.instrument[outside]))
    assert splits.words(heard, index).startswith(
        f"instrument split: 1 of {others} instruments outside training were heard"
    )


def test_a_digest_is_of_the_notes_and_not_of_their_order():
    index = synthetic_index()
    first = np.arange(len(index)) < 9
    turned = np.random.default_rng(0).permutation(len(index))
    again = dataclasses.replace(index, ids=index.ids[turned])
    assert splits.digest(index, first) == splits.digest(again, first[turned])
    assert splits.digest(index, first) != splits.digest(index, np.roll(first, 1))
