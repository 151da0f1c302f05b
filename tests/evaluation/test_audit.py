import numpy as np
import pytest

from mic_tf.errors import UserError
from mic_tf.evaluation import audit, measures, sounds
from tests.evaluation import planted
from tools import planting, small_sets


def found_in(records, selected=None):
    if selected is None:
        selected = np.ones(len(records.index), bool)
    return audit.find(records.index, measures.measure(records, selected))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    splits, expected = planted.faulty_splits()
    records = planted.open_planted(tmp_path_factory.mktemp("faulty"), splits)
    return records, expected, found_in(records)


def test_every_planted_fault_is_found_and_none_besides(faulty):
    records, expected, findings = faulty
    assert planting.by_kind(records.index, findings) == expected


def test_clean_notes_have_no_finding(tmp_path):
    records = planted.open_planted(tmp_path, planted.clean_splits())
    assert found_in(records) == []


def test_what_is_excluded_leaves_one_copy_and_no_doubtful_label(faulty):
    records, expected, findings = faulty
    excluded = audit.exclusions(records.index, findings)
    conflicting = set().union(*expected["label_conflict"])
    assert conflicting <= set(excluded)
    for group in expected["duplicate"] - expected["label_conflict"]:
        assert len(group - set(excluded)) == 1
    for kind in ("silence", "noise"):
        assert set().union(*expected[kind]) <= set(excluded)
    harmless = set().union(*(expected[k] for k in ("clipping", "dc_offset", "pitch")))
    assert not harmless & set(excluded)


def test_of_copies_across_splits_the_training_one_is_left_out(faulty):
    records, _, findings = faulty
    index = records.index
    across = [f for f in findings if f.across_splits and f.leave_out]
    kinds = {f.kind for f in across}
    assert {"duplicate", "near_twin"} <= kinds
    for finding in across:
        splits = {index.split_names[index.note_split[r]] for r in finding.leave_out}
        assert splits == {"train"}


def test_a_twin_at_another_velocity_within_a_split_stays(faulty):
    records, _, findings = faulty
    within = [f for f in findings if f.kind == "near_twin" and not f.across_splits]
    assert within
    assert all(not f.leave_out for f in within)


def test_a_twin_of_a_copy_of_a_test_note_is_left_out_too(tmp_path):
    first = planting.clean_note("organ", 0, 60)
    louder = planted.at_velocity(first, 127, 1.1)
    copy = planted.renamed(first, "organ", 9)
    others = [planting.clean_note("reed", i, 50 + i) for i in range(4)]
    splits = {"train": [first, louder, *others[:2]], "test": [copy, *others[2:]]}
    records = planted.open_planted(tmp_path, splits)
    excluded = audit.exclusions(records.index, found_in(records))
    assert set(excluded) == {first["id"], louder["id"]}


def test_a_damaged_record_is_one_line(tmp_path):
    records = planted.open_planted(tmp_path, planted.clean_splits())
    with open(records.paths[0], "r+b") as file:
        file.seek(5_000)
        byte = file.read(1)[0]
        file.seek(5_000)
        file.write(bytes([byte ^ 1]))
    for read in (found_in, lambda r: sounds.read_notes(r, range(len(r.index)))):
        with pytest.raises(UserError, match=r"tfrecord.*damaged"):
            read(records)


def test_findings_do_not_depend_on_the_other_split(faulty):
    records, expected, _ = faulty
    train = records.index.note_split == records.index.split_names.index("train")
    kinds = planting.by_kind(records.index, found_in(records, train))
    assert "instrument_in_two_splits" not in kinds
    assert "noise" not in kinds
    assert kinds["silence"] == expected["silence"]


def test_wrong_length_is_found_and_read_all_the_same(tmp_path):
    notes = {"train": [planting.clean_note("organ", 0, p) for p in (50, 55, 61)]}
    records = planted.open_planted(tmp_path, notes)

    small_sets.cut_short(records, {"organ_acoustic_000-055-100": 32_000})
    found = planting.by_kind(records.index, found_in(records))
    assert found == {"length": {frozenset({"organ_acoustic_000-055-100"})}}
    row = records.index.ids.tolist().index("organ_acoustic_000-055-100")
    waveform = sounds.read_notes(records, [row])[row]
    assert waveform.shape == (64_000,)
    assert waveform[:32_000].any()
    assert not waveform[32_000:].any()


def test_not_a_number_is_found_in_float_records(tmp_path):
    notes = {"train": [planting.clean_note("organ", 0, p) for p in (50, 55, 61)]}
    spoilt = "organ_acoustic_000-055-100"
    records = small_sets.as_float(planted.open_planted(tmp_path, notes), {spoilt})
    findings = found_in(records)
    assert planting.by_kind(records.index, findings) == {
        "not_finite": {frozenset({spoilt})}
    }
    assert findings[0].detail == "10 samples"
