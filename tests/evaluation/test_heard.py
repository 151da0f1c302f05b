import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mic_tf.errors import UserError
from mic_tf.evaluation import checks, division, evaluator, heard, leakage, sections
from mic_tf.pipeline import batches, splits
from mic_tf.settings import DataSettings, RunSettings
from mic_tf.training import starting, training_data
from tests.conftest import write_dataset
from tests.evaluation import planted
from tools.planting import clean_note

FULL_NAMES = {"main": "nsynth_jsonwav/1.0.0", "extra": "soundfont_notes/1.0.0"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two sets to train on, and one of two notes, of which they have one each."""
    folder = tmp_path_factory.mktemp("heard")
    main = [clean_note("organ", i, p) for i in (0, 1) for p in (50, 57, 63)]
    extra = [clean_note("reed", i, p) for i in (2, 3) for p in (50, 57)]
    copy = planted.renamed(main[1], "flute", 0, 57)
    other = [copy, clean_note("reed", 8, 70)]
    write_dataset(folder, {"train": main[:5], "valid": main[5:]})
    write_dataset(folder, {"train": extra}, name="soundfont_notes")
    write_dataset(folder, {"test": other}, name="sample_folder")
    return folder


def subject(**changes):
    trained_on = {
        "dataset": FULL_NAMES["main"],
        "extra_datasets": [FULL_NAMES["extra"]],
        "settings": {"dataset": "nsynth_jsonwav", "protocol": "official"},
        "hold_out_valid": True,
        "notes": {"train": 9, "valid": 1},
    }
    return evaluator.Subject("model", (), None, {**trained_on, **changes})


def opened(folder, name):
    builder = tfds.builder_from_directory(folder / name / "1.0.0")
    return batches.open_records(builder)


def training(model, folder, name, data_dirs):
    records = opened(folder, name)
    full_name = f"{name}/1.0.0"
    partition, _ = division.partition_for(model.trained_on, records, full_name)
    found = heard.in_training(model, records, full_name, partition, data_dirs)
    return records, partition, found


def answered(rows):
    return evaluator.Answers(np.array(rows), np.zeros(len(rows), int), np.ones((1, 1)))


def test_of_another_data_set_all_that_was_trained_on_is_looked_at(data_dir):
    records, partition, found = training(
        subject(), data_dir, "sample_folder", [str(data_dir)]
    )
    assert not partition.heard.any()
    assert not found.missing
    notes = {each.dataset: int(each.notes.sum()) for each in found.heard}
    assert notes == {FULL_NAMES["main"]: 5, FULL_NAMES["extra"]: 4}
    result = checks.leakage_of(records, partition, found, answered([0, 1]))
    (pair,) = result["leakage"]["twins"]
    assert pair[0].startswith("flute_acoustic_000")
    assert pair[1] == "organ_acoustic_000-057-100 (nsynth_jsonwav/1.0.0)"
    assert result["leakage"]["twin_share"] == 0.5
    assert result["leakage"]["instrument_share"] is None
    assert "not compared" in leakage.in_words(result["leakage"])
    for most, tested in ((1, 1), (0, 2)):
        result = checks.leakage_of(records, partition, found, answered([0, 1]), most)
        assert result["leakage"]["tested_heard"] == tested


def test_what_a_training_left_out_is_left_out_of_its_own_data_set_alone(
    data_dir, tmp_path
):
    records, other = (
        opened(data_dir, "nsynth_jsonwav"),
        opened(data_dir, "sample_folder"),
    )
    left_out, not_tested = tmp_path / "left_out.txt", tmp_path / "not_tested.txt"
    left_out.write_text(f"{records.index.ids[0]}\n{records.index.ids[1]}\n")
    not_tested.write_text(f"{other.index.ids[0]}\n")
    settings = {"dataset": "nsynth_jsonwav", "exclude": str(left_out)}
    model = subject(settings=settings)
    found = checks.excluded_from(model, records, FULL_NAMES["main"], "")
    assert found == {"excluded": {"file": str(left_out), "notes": 2}}
    assert checks.excluded_from(model, other, "sample_folder/1.0.0", "") == {}
    left_out.unlink()
    found = checks.excluded_from(model, other, "sample_folder/1.0.0", str(not_tested))
    assert found == {"untested": {"file": str(not_tested), "notes": 1}}
    with pytest.raises(UserError, match="trained without the notes that it names"):
        division.partition_for(model.trained_on, records, FULL_NAMES["main"])


def test_what_is_not_at_hand_is_named(data_dir, tmp_path):
    records, partition, found = training(
        subject(), data_dir, "sample_folder", [str(tmp_path)]
    )
    assert set(found.missing) == set(FULL_NAMES.values())
    result = checks.leakage_of(records, partition, found, answered([0, 1]))
    assert "leakage" not in result
    lines = sections.unchecked_words(result)
    assert len(lines) == 2
    assert f"not prepared in {tmp_path}" in lines[0]


def test_other_notes_than_those_trained_on_are_not_taken_for_them(data_dir):
    model = subject(notes={"train": 9, "valid": 4})
    _, _, found = training(model, data_dir, "sample_folder", [str(data_dir)])
    assert "other notes than those trained on" in found.missing[FULL_NAMES["main"]]


def test_beside_its_own_test_the_extra_sets_are_looked_at(data_dir):
    _, partition, found = training(
        subject(), data_dir, "nsynth_jsonwav", [str(data_dir)]
    )
    assert np.array_equal(partition.heard, partition.parts["train"])
    assert [each.dataset for each in found.heard] == ["", FULL_NAMES["extra"]]


def test_names_of_nsynths_two_forms_mean_the_same_instruments(data_dir):
    records = opened(data_dir, "nsynth_jsonwav")
    model = subject(extra_datasets=[])
    partition, _ = division.partition_for(
        model.trained_on, records, "nsynth/full/2.3.3"
    )
    folders = [str(data_dir)]
    found = heard.in_training(model, records, "nsynth/full/2.3.3", partition, folders)
    assert [each.same_names for each in found.heard] == [True]


def test_a_set_of_the_same_origin_may_hold_what_was_heard(ten_organs):
    builder, records = ten_organs
    alone = described(builder, protocol="instrument")
    before = {**alone, "dataset": "nsynth_jsonwav/mini/1.0.0"}
    reason = "not known (its notes may be among those of nsynth_jsonwav/mini/1.0.0)"
    for trained_on in (before, {**alone, "started_from": [before]}):
        _, words = divided(trained_on, records)
        assert reason in words
        assert "none of the test was heard" not in words
    extra = {**alone, "extra_datasets": ["nsynth/full/2.3.3"]}
    assert "none of the test was heard" in divided(extra, records)[1]
    _, words = divided({**before, "dataset": "sample_folder/1.0.0"}, records)
    assert "not known" not in words


def test_other_notes_under_an_extra_sets_name_were_not_heard(data_dir):
    records = opened(data_dir, "soundfont_notes")
    digest = splits.digest(records.index, records.index.usable)
    for digests, protocol, missing in (
        ([digest], division.TRAINED_ON, set()),
        (["other"], division.OTHER_DATA, {FULL_NAMES["extra"]}),
    ):
        model = subject(extra_digests=digests)
        partition, words = division.partition_for(
            model.trained_on, records, FULL_NAMES["extra"]
        )
        assert partition.protocol == protocol
        assert ("other notes than in soundfont_notes/1.0.0 then" in words) == bool(
            missing
        )
        _, _, found = training(model, data_dir, "sample_folder", [str(data_dir)])
        assert set(found.missing) == missing


def test_of_an_extra_set_every_note_was_heard(data_dir):
    records, partition, found = training(
        subject(), data_dir, "soundfont_notes", [str(data_dir)]
    )
    assert partition.protocol == division.TRAINED_ON
    assert partition.heard.all()
    assert checks.leakage_of(records, partition, found, answered([0, 1])) == {}


def test_few_of_many_heard_notes_come_from_all_sets(data_dir):
    _, _, found = training(subject(), data_dir, "sample_folder", [str(data_dir)])
    some = heard.some_heard(found.heard, 8)
    assert sum(len(rows) for _, rows in some) == 8
    for each, rows in some:
        assert len(set(rows)) == len(rows)
        assert each.notes[rows].all()
    nothing = dataclasses.replace(found.heard[0], notes=found.heard[0].notes & False)
    assert heard.some_heard([nothing], 8) == []


def test_notes_of_the_measured_set_are_compared_before_others(data_dir):
    records, partition, found = training(
        subject(), data_dir, "nsynth_jsonwav", [str(data_dir)]
    )
    train = int(partition.part("train").sum())
    strange = np.array(["organ_of_another_name"])
    random = np.random.default_rng(0)
    for most in (train, train + 1):
        chosen = leakage._candidates(found.heard, strange, most, random)
        counts = {each.dataset: len(rows) for each, rows in chosen}
        assert counts.pop("") == train
        assert sum(counts.values()) == most - train
    assert sum(len(rows) for _, rows in chosen) == train + 1


def described(builder, **data):
    """What a run on these notes says of its data."""
    settings = RunSettings(data=DataSettings(dataset="nsynth_jsonwav", **data))
    return training_data.describe_data(settings, builder).description


def organs(folder, instruments, name="nsynth_jsonwav"):
    """A set of ten notes of each of these instruments, of which 7 are to train on."""
    notes = {
        "train": [
            clean_note("organ", i, p) for i in instruments for p in range(50, 57)
        ],
        "valid": [clean_note("organ", i, 60) for i in instruments],
        "test": [clean_note("organ", i, p) for i in instruments for p in (70, 71)],
    }
    builder = write_dataset(folder, notes, name=name)
    return builder, batches.open_records(builder)


@pytest.fixture(scope="module")
def ten_organs(tmp_path_factory):
    return organs(tmp_path_factory.mktemp("ten"), range(10))


@pytest.fixture(scope="module")
def nine_organs(tmp_path_factory):
    return organs(tmp_path_factory.mktemp("nine"), range(1, 10))


def divided(trained_on, records, name=FULL_NAMES["main"]):
    model = evaluator.Subject("model", (), None, trained_on)
    return division.partition_for(model.trained_on, records, name)


def test_other_notes_in_a_sets_own_splits_are_said(ten_organs, nine_organs):
    trained_on = described(ten_organs[0])
    assert "other notes" not in divided(trained_on, ten_organs[1])[1]
    _, words = divided(trained_on, nine_organs[1])
    assert words.endswith("other notes in train, valid, test than when it was trained")
    del trained_on["note_digests"]
    assert "other notes in valid, test" in divided(trained_on, nine_organs[1])[1]


@pytest.mark.parametrize(
    "data", [{"protocol": "instrument"}, {"protocol": "random"}, {"max_notes": 40}]
)
def test_what_cannot_be_divided_again_is_not_measured(data, ten_organs, nine_organs):
    trained_on = described(ten_organs[0], **data)
    divided(trained_on, ten_organs[1])
    with pytest.raises(UserError, match="so what it heard is not known"):
        divided(trained_on, nine_organs[1])


def test_what_the_weights_heard_before_was_heard(ten_organs):
    builder, records = ten_organs
    alone = described(builder, protocol="instrument", fold=0)
    before = described(builder, protocol="instrument", fold=1)
    partition, words = divided({**alone, "started_from": [before]}, records)
    assert not (divided(alone, records)[0].heard & partition.part("test")).any()
    assert (partition.heard & partition.part("test")).any()
    assert "were heard in training, expect less on new ones" in words
    partition, words = division.of_part(partition, words, "test")
    assert words == division.TRAINED_ON_WORDS
    assert partition.protocol == division.TRAINED_ON


def test_what_the_weights_heard_before_may_be_unknown(ten_organs, nine_organs):
    builder, records = ten_organs
    alone = described(builder, protocol="instrument")
    assert "none of the test was heard" in divided(alone, records)[1]
    lost = described(builder, protocol="instrument")
    lost["settings"] = {**lost["settings"], "exclude": "gone.txt"}
    changed = described(nine_organs[0], protocol="instrument")
    old = {key: value for key, value in changed.items() if key != "extra_datasets"}
    for earlier, reason in (
        ({"started_from": [lost]}, "--exclude=gone.txt: no such file"),
        ({"started_from": [changed]}, "other notes in train, valid, test than then"),
        ({"started_from": [old]}, "other notes in train, valid, test than then"),
        ({"started_from_unrecorded": "runs/a"}, "started from runs/a, which does not"),
        (
            {"started_from": [{**alone, "started_from_unrecorded": "runs/b"}]},
            "started from runs/b, which does not say it",
        ),
    ):
        _, words = divided({**alone, **earlier}, records)
        assert "none of the test was heard" not in words
        assert f"; what else its weights heard of it is not known ({reason}" in words


def test_a_run_of_an_earlier_program_does_not_say_what_it_heard_before():
    new = {"started_from": []}
    assert starting.described({}, "") == {}
    assert starting.described(new, "runs/a") == new
    assert starting.described({}, "runs/a") == {"started_from_unrecorded": "runs/a"}


def test_a_part_that_was_trained_on_is_called_so(ten_organs):
    builder, records = ten_organs
    trained_on = described(builder)
    partition, words = divided(trained_on, records)
    assert division.of_part(partition, words, "test") == (partition, words)
    of_train, heard_words = division.of_part(partition, words, "train")
    assert heard_words == division.TRAINED_ON_WORDS
    assert of_train.protocol == division.TRAINED_ON
    some = partition.heard.copy()
    some[np.flatnonzero(partition.part("test"))[:3]] = True
    some = dataclasses.replace(partition, heard=some)
    of_test, heard_words = division.of_part(some, words, "test")
    assert of_test.protocol == "official"
    assert heard_words == f"{words}; 3 of these 20 notes were trained on"


def test_of_another_set_the_weights_may_have_heard_all_before(ten_organs, data_dir):
    own = subject(extra_datasets=[]).trained_on
    before = subject(extra_datasets=[FULL_NAMES["extra"]]).trained_on
    records = opened(data_dir, "soundfont_notes")
    for earlier, all_heard in (([], False), ([before], True)):
        trained_on = {**own, "started_from": earlier}
        partition, words = divided(trained_on, records, FULL_NAMES["extra"])
        assert partition.heard.all() == all_heard
        _, words = division.of_part(partition, words, "train")
        assert (words == division.TRAINED_ON_WORDS) == all_heard


def test_leakage_is_looked_for_in_what_the_weights_heard_before(data_dir, tmp_path):
    earlier = [subject(dataset="sample_folder/1.0.0").trained_on]
    model = subject(extra_datasets=[], started_from=earlier)
    _, _, found = training(model, data_dir, "sample_folder", [str(data_dir)])
    assert {each.dataset for each in found.heard} >= set(FULL_NAMES.values())
    _, _, found = training(model, data_dir, "nsynth_jsonwav", [str(tmp_path)])
    assert set(found.missing) == {"sample_folder/1.0.0", FULL_NAMES["extra"]}
