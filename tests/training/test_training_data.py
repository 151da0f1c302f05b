import dataclasses

import numpy as np
import pytest

from mic_tf.datasets import catalogue
from mic_tf.errors import UserError
from mic_tf.pipeline import draws, splits
from mic_tf.pipeline.draws import Draw
from mic_tf.settings import DataSettings, RunSettings
from mic_tf.training import training_data
from tests.conftest import make_note, write_dataset

MAIN_NOTES = {"bass": 4, "reed": 8}
EXTRA_NOTES = {"bass": 60, "vocal": 30}


@pytest.fixture(scope="module")
def builders(tmp_path_factory):
    def write(name, counts, instrument):
        notes = [
            make_note(family, instrument + i % 3, 30 + i)
            for family, count in counts.items()
            for i in range(count)
        ]
        folder = tmp_path_factory.mktemp(name)
        return write_dataset(folder, {"train": notes}, name=name, shards=2)

    main = write("nsynth_jsonwav", MAIN_NOTES, 0)
    return main, write("soundfont_notes", EXTRA_NOTES, 50)


def described(builders, **settings):
    settings = {"protocol": "official", "extra_share": 0.25, **settings}
    run = RunSettings(data=dataclasses.replace(DataSettings(), **settings))
    run = dataclasses.replace(run, train=dataclasses.replace(run.train, select="last"))
    main, *extra = builders
    return training_data.describe_data(run, main, extra)


def rows_of(data, count, **changes):
    draw = Draw(**{"notes_per_epoch": 10_000, "seed": 1, **changes})
    drawn = draws.drawn_from_sides(data.records, data.sides, draw).take(count)
    return [int(row) for _, row in drawn.as_numpy_iterator()]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_drawn_notes_come_from_the_extra_set_in_the_wanted_share(builders, share):
    data = described(builders, extra_share=share)
    rows = np.array(rows_of(data, 1200))
    is_extra = rows >= len(data.main.index)
    error = 3 * np.sqrt(share * (1 - share) / 1200)
    assert abs(is_extra.mean() - share) <= error
    assert [side.acceptance.max() for side in data.sides] == [1.0] * len(data.sides)


def test_each_side_has_its_own_families_balanced(builders):
    data = described(builders, extra_share=0.5)
    index = data.records.index
    rows = np.array(rows_of(data, 1200))
    is_extra = rows >= len(data.main.index)
    for side, families in ((~is_extra, MAIN_NOTES), (is_extra, EXTRA_NOTES)):
        counts = np.bincount(index.family[rows[side]], minlength=11)
        assert (counts > 0).sum() == len(families)
        for family in families:
            share = counts[index.families.index(family)] / counts.sum()
            assert share == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / counts.sum()))


def test_a_small_set_is_not_searched_for_among_the_notes_of_a_large_one(builders):
    data = described(builders, balance="none")
    assert [side.reads_per_note for side in data.sides] == [1.0, 1.0]
    mains = [row for row in rows_of(data, 200) if row < len(data.main.index)]
    notes = sum(MAIN_NOTES.values())
    assert sorted(mains[:notes]) == list(range(notes))


def test_order_is_a_function_of_seed_and_place(builders):
    data = described(builders)
    whole = rows_of(data, 120)
    assert rows_of(data, 120) == whole
    assert rows_of(data, 120, seed=2) != whole
    assert rows_of(data, 60, skip=40) == whole[40:100]


def test_two_pipelines_draw_different_notes_in_the_same_shares(builders):
    data = described(builders)
    drawn = [rows_of(data, 1000, pipeline=(number, 2)) for number in (0, 1)]
    assert set(drawn[0]).isdisjoint(drawn[1])
    assert {*drawn[0], *drawn[1]} == set(range(len(data.records.index)))
    for rows in drawn:
        extra = np.mean(np.array(rows) >= len(data.main.index))
        assert extra == pytest.approx(0.25, abs=3 * np.sqrt(0.25 * 0.75 / 1000))


def test_without_extra_sets_the_order_is_that_of_the_only_side(builders):
    data = described(builders[:1])
    (side,) = data.sides
    draw = Draw(notes_per_epoch=10_000, seed=1)
    alone = draws.drawn_records(data.records, side.acceptance, draw).take(50)
    assert rows_of(data, 50) == [int(row) for _, row in alone.as_numpy_iterator()]


def test_a_run_that_starts_from_weights_does_not_say_what_it_cannot_know(
    builders, caplog
):
    caplog.set_level("INFO", logger="absl")
    claim = "no instrument of the test was heard"
    main, *extra = builders
    run = RunSettings()
    for init_from in ("", "runs/before"):
        caplog.clear()
        train = dataclasses.replace(run.train, select="last", init_from=init_from)
        started = dataclasses.replace(run, train=train)
        training_data.describe_data(started, main, extra)
        assert (claim in caplog.text) == (not init_from)
        assert ("--init_from heard of it, evaluate says" in caplog.text) == bool(
            init_from
        )


def test_notes_of_a_single_family_are_warned_of(builders, tmp_path, caplog):
    described(builders)
    assert "one family" not in caplog.text
    notes = [make_note("reed", i, 50) for i in range(3)]
    builder = write_dataset(tmp_path, {"train": notes}, shards=1)
    described([builder])
    assert "all training notes are of one family (reed)" in caplog.text


def test_files_of_ids_that_cannot_be_read_are_one_line(tmp_path):
    file = tmp_path / "ids.txt"
    for content, message in (
        ("a\n".encode("utf-16"), "UTF-8 expected"),
        (b"Fl\xf6te\n", "UTF-8 expected"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"--exclude={file}: {message}"):
            training_data.read_exclusions(str(file))
    with pytest.raises(UserError, match=f"--exclude={tmp_path}: cannot be read"):
        training_data.read_exclusions(str(tmp_path))
    with pytest.raises(UserError, match="nowhere: no such file"):
        training_data.read_exclusions(str(tmp_path / "nowhere"))
    file.write_bytes("\ufeffa\tsilence\nb\n".encode())
    assert training_data.read_exclusions(str(file)) == {"a", "b"}


def test_a_family_of_so_few_notes_that_most_reading_is_in_vain_is_warned_of(
    builders, tmp_path, caplog
):
    described(builders)
    assert "records are read for each note" not in caplog.text
    notes = [make_note("bass", i, 30 + i % 60, seed=i) for i in range(60)]
    notes.append(make_note("vocal", 99, 50))
    builder = write_dataset(tmp_path, {"train": notes}, shards=1)
    described([builder])
    assert "as vocal has so few (1 notes): --balance=streams" in caplog.text
    caplog.clear()
    described([builder], balance="none")
    assert "records are read for each note" not in caplog.text


def test_a_mistake_in_an_extra_sets_name_is_said_of_its_flag(tmp_path):
    for name, words in (("soundfont", "not a known"), ("nsynth/full:2", "version '2'")):
        with pytest.raises(UserError, match=f"^--extra_datasets={name}: {words}"):
            catalogue.load_builder(name, str(tmp_path), flag="extra_datasets")


def test_an_extra_set_is_given_once(builders):
    main, extra = builders
    with pytest.raises(UserError, match="--extra_datasets: .* twice; each once"):
        described([main, extra, extra])


def test_ids_leave_out_notes_of_extra_sets_too(builders, tmp_path, caplog):
    extra = described(builders[1:]).main.index.ids[7]
    file = tmp_path / "ids.txt"
    file.write_text(f"bass_acoustic_000-030-100\n{extra}\n")
    data = described(builders, exclude=str(file))
    assert data.description["notes"]["train"] == 12 - 1 + 90 - 1
    train = data.partition.parts["train"]
    assert extra not in data.records.index.ids[train]
    file.write_text(f"{extra}\n")
    described(builders, exclude=str(file))
    assert "--exclude" not in caplog.text


def test_ids_that_leave_nothing_out_are_warned_of(builders, tmp_path, caplog):
    file = tmp_path / "ids.txt"
    file.write_text("no-note\tcopied by hand\nbass_acoustic_000-030-100\n")
    data = described(builders, exclude=str(file))
    assert data.description["notes"]["train"] == 12 - 1 + 90
    assert "--exclude" not in caplog.text
    file.write_text("no-note\n")
    described(builders, exclude=str(file))
    assert f"--exclude={file}: none of its 1 ids (no-note" in caplog.text


def test_notes_held_out_of_the_main_set_are_not_trained_on_from_another(tmp_path):
    """NSynth's are the same in all sets of it; elsewhere names agree by chance."""
    parts = {
        split: [make_note("reed", instrument, 40 + i) for i in range(4)]
        for split, instrument in (("train", 0), ("valid", 1), ("test", 2))
    }
    main = write_dataset(tmp_path / "main", parts)
    whole, own = (
        write_dataset(
            tmp_path / name, {"train": parts["train"] + parts["test"]}, name=name
        )
        for name in ("nsynth", "sample_folder")
    )
    message = (
        r"nsynth/1.0.0 has 4 notes \(reed_acoustic_002-040-100 and others\) that "
        "nsynth_jsonwav/1.0.0 keeps"
    )
    with pytest.raises(UserError, match=f"--extra_datasets: {message}"):
        described([main, whole])
    assert described([main, own]).description["notes"]["train"] == 4 + 8
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(note["id"] for note in parts["test"]))
    data = described([main, whole], exclude=str(file))
    assert data.description["notes"]["train"] == 4 + 4
    alone = write_dataset(tmp_path / "alone", {"train": parts["train"]}, name="nsynth")
    described([main, alone])


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("nsynth/full/2.3.3", "nsynth/gansynth_subset/2.3.3", True),
        ("nsynth/full/2.3.3", "nsynth_jsonwav/mini/1.0.0", True),
        ("soundfont_notes/open/1.0.0", "soundfont_notes/open/2.0.0", True),
        ("soundfont_notes/open/1.0.0", "soundfont_notes/other/1.0.0", False),
        ("sample_folder/1.0.0", "nsynth_jsonwav/1.0.0", False),
    ],
)
def test_origin_of_a_data_set(first, second, same):
    assert (training_data.origin(first) == training_data.origin(second)) == same


def test_which_notes_of_an_extra_set_are_trained_on_is_written_down(builders, tmp_path):
    _, extra = builders
    index = described([extra]).main.index
    everything = splits.digest(index, np.ones(len(index), bool))
    assert described(builders).description["extra_digests"] == [everything]
    assert described(builders[:1]).description["extra_digests"] == []
    file = tmp_path / "ids.txt"
    file.write_text(index.ids[7])
    [fewer] = described(builders, exclude=str(file)).description["extra_digests"]
    assert fewer == splits.digest(index, np.arange(len(index)) != 7)
