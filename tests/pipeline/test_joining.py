import dataclasses

import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.pipeline import batches, joining
from mic_tf.pipeline.splits import Partition
from tests.conftest import make_note, write_dataset


@pytest.fixture(scope="module")
def main(small_dataset):
    return batches.open_records(small_dataset)


@pytest.fixture(scope="module")
def extra(tmp_path_factory):
    notes = [make_note(f, 90 + i, 50 + i) for f in ("bass", "reed") for i in range(8)]
    folder = tmp_path_factory.mktemp("extra")
    return batches.open_records(
        write_dataset(folder, {"train": notes}, name="soundfont_notes")
    )


def test_joined_records_are_those_of_both_sets_with_their_own_families(main, extra):
    records = joining.join(main, [extra])
    everything = np.ones(len(records.index), bool)
    dataset = batches.evaluation_batches(records, everything, batch_size=4)
    rows, families = [], []
    for _, family, weight, row in dataset.as_numpy_iterator():
        rows += row[weight > 0].tolist()
        families += family[weight > 0].tolist()
    assert rows == list(range(len(main.index) + len(extra.index)))
    assert families == [*main.index.family, *extra.index.family]


def test_instruments_of_the_extra_set_are_told_apart_from_the_main_ones(main, extra):
    index = joining.join(main, [extra]).index
    names = np.array(index.instruments)[index.instrument]
    own = [np.array(i.instruments)[i.instrument] for i in (main.index, extra.index)]
    assert names.tolist() == np.concatenate(own).tolist()
    mains = set(index.instrument[: len(main.index)].tolist())
    assert mains.isdisjoint(index.instrument[len(main.index) :].tolist())


def test_extra_notes_are_only_ever_trained_on(main, extra):
    parts = {name: main.index.note_split == i for i, name in enumerate(("train", "v"))}
    extended = joining.extend(
        Partition("official", parts, parts["train"]), [extra.index]
    )
    assert extended.heard[len(main.index) :].all()
    extended = extended.parts
    assert extended["train"][len(main.index) :].all()
    assert not extended["v"][len(main.index) :].any()
    assert (extended["v"][: len(main.index)] == parts["v"]).all()


def test_sets_of_other_families_are_refused(main, extra):
    families = (*extra.index.families[:-1], "kazoo")
    index = dataclasses.replace(extra.index, families=families)
    with pytest.raises(UserError, match="kazoo"):
        joining.join(main, [dataclasses.replace(extra, index=index)])
