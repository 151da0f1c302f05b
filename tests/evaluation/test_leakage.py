import numpy as np
import pytest

from mic_tf.evaluation import leakage
from mic_tf.evaluation.heard import Heard
from tests.evaluation import planted


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    splits, _ = planted.faulty_splits()
    return planted.open_planted(tmp_path_factory.mktemp("leaking"), splits)


def parts(records):
    index = records.index
    train = index.note_split == index.split_names.index("train")
    return train, ~train


def heard(records, notes):
    return [Heard("", records, notes)]


def test_shares_are_those_that_were_planted(records):
    train, valid = parts(records)
    found = leakage.leakage(records, valid, heard(records, train))
    n = valid.sum()
    # One stray note of a training instrument; one copy, one quieter copy.
    assert found["instrument_share"] == pytest.approx(1 / n)
    assert found["instruments"] == ["organ_acoustic_000"]
    assert found["twin_share"] == pytest.approx(2 / n)
    copy, quieter = sorted(found["twins"])
    assert copy[0] == "flute_acoustic_051-052-100"
    assert quieter[0].startswith("organ_acoustic_053")


def test_the_work_is_bounded_and_says_so(records):
    train, valid = parts(records)
    found = leakage.leakage(records, valid, heard(records, train), most_notes=10)
    assert found["tested_heard"] == found["train_heard"] == 10
    said = f"10 of {valid.sum()} test notes, 10 of {train.sum()} training notes"
    assert said in leakage.in_words(found)


def test_notes_of_the_tested_instruments_are_compared_first(records):
    train, valid = parts(records)
    stray = valid & (records.index.ids == "organ_acoustic_000-081-100")
    found = leakage.leakage(records, stray, heard(records, train), most_notes=8)
    related = train & (records.index.instrument == records.index.instrument[stray][0])
    assert related.sum() == found["train_heard"] == 8


def test_a_random_split_leaks_instruments(records):
    train, _ = parts(records)
    tested = train & (np.arange(len(train)) % 2 == 0)
    found = leakage.leakage(records, tested, heard(records, train & ~tested))
    assert found["instrument_share"] > 0.8
