import csv
import os
import shutil
import unicodedata

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.datasets import names, preparation, schema
from mic_tf.datasets.problems import Problems
from mic_tf.datasets.sample_folder import (
    dealing,
    recordings,
    sample_folder_dataset_builder,
)
from mic_tf.errors import UserError


def sine(seconds, rate=16_000, frequency=440.0, amplitude=0.5):
    time = np.arange(int(seconds * rate)) / rate
    return amplitude * np.sin(2 * np.pi * frequency * time)


def write(path, seconds=1.0, rate=16_000, channels=1, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    waveform = np.stack([sine(seconds, rate)] * channels, axis=1)
    soundfile.write(path, waveform, rate, **options)


def prepare(source, data_dir, **settings):
    folder = preparation.prepare(
        sample_folder_dataset_builder.Builder,
        names.parse_name("sample_folder"),
        str(data_dir),
        source_given=True,
        source=str(source),
        **settings,
    )
    return tfds.builder_from_directory(folder)


def notes_of(builder):
    return {
        note["id"].decode(): (split, note)
        for split in builder.info.splits
        for note in tfds.as_numpy(builder.as_dataset(split=split))
    }


def recording(family, instrument, number=0, split=""):
    name = f"{family}/{instrument}/{number}.wav"
    return recordings.Recording(name, name, family, instrument, split=split)


def test_any_format_rate_and_channels_become_records(tmp_path):
    source = tmp_path / "source"
    write(source / "flute" / "a.wav", rate=44_100, channels=2)
    write(source / "flute" / "b.flac", rate=48_000)
    write(source / "guitar" / "c.ogg", rate=22_050)
    write(source / "guitar" / "d.aiff", rate=8_000, channels=2)
    write(source / "guitar" / "deeper" / "still" / "e.mp3", rate=44_100)
    builder = prepare(source, tmp_path / "out")
    notes = notes_of(builder)
    assert set(notes) == {
        "flute/a.wav",
        "flute/b.flac",
        "guitar/c.ogg",
        "guitar/d.aiff",
        "guitar/deeper/still/e.mp3",
    }
    labels = builder.info.features["instrument"]
    assert tuple(labels["family"].names) == taxonomy.FAMILIES
    assert labels["label"].names == ["a", "b", "c", "d", "deeper"]
    for name, (_, note) in notes.items():
        family = labels["family"].names[note["instrument"]["family"]]
        assert family == name.split("/")[0]
        assert (note["pitch"], note["velocity"]) == (-1, -1)
        assert labels["source"].names[note["instrument"]["source"]] == "unknown"
        assert np.abs(note["audio"][1_000:15_000]).max() > 10_000
        assert not note["audio"][20_000:].any()


def test_a_longer_file_becomes_one_record_a_window_all_in_one_split(tmp_path):
    for i in range(4):
        write(tmp_path / "source" / "flute" / f"{i}.wav", seconds=9.25)
    notes = notes_of(prepare(tmp_path / "source", tmp_path / "out"))
    assert len(notes) == 12
    for i in range(4):
        names = [f"flute/{i}.wav#{start}" for start in ("0", "4", "5.25")]
        assert len({notes[name][0] for name in names}) == 1
        last = notes[names[-1]][1]["audio"]
        expected = sine(9.25)[int(5.25 * 16_000) :]
        np.testing.assert_allclose(last / 32767, expected, atol=1e-3)


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_windows_in_which_nothing_is_heard_are_left_out(tmp_path, caplog, offset):
    source = tmp_path / "source"
    for i in range(2):
        write(source / "flute" / f"{i}.wav")
    hum = np.concatenate([sine(5.0), sine(11.0, amplitude=0.0009), sine(1.0)])
    soundfile.write(source / "flute" / "0.wav", hum + offset, 16_000)
    builder = prepare(source, tmp_path / "out")
    ids = {"flute/0.wav#0", "flute/0.wav#4", "flute/0.wav#13", "flute/1.wav"}
    assert set(notes_of(builder)) == ids
    assert "2 notes or files were left out" in caplog.text
    left_out = [f"{source}/flute/0.wav#{start},silence" for start in (8, 12)]
    assert (builder.data_path / "left_out.csv").read_text().split()[1:] == left_out


def test_a_file_of_nothing_but_silence_is_left_out_whole(tmp_path):
    source = tmp_path / "source"
    for name in "abcd":
        write(source / "reed" / f"{name}.wav")
    path = source / "reed" / "e.wav"
    soundfile.write(path, np.zeros(9 * 16_000), 16_000)
    builder = prepare(source, tmp_path / "out")
    assert set(notes_of(builder)) == {f"reed/{name}.wav" for name in "abcd"}
    with open(builder.data_path / "left_out.csv", encoding="utf-8") as file:
        left_out = [row["left_out"] for row in csv.DictReader(file)]
    assert left_out == [f"{path}#{start}" for start in (0, 4, 5)]


def test_windows_that_begin_a_few_samples_apart_have_names_of_their_own(tmp_path):
    starts = {1: "0.0000625", 7: "0.0004375", 8: "0.0005", 4_000: "0.25"}
    for more in starts:
        path = tmp_path / "source" / "flute" / f"{more}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sine(5.0)[: 64_000 + more], 16_000)
    notes = notes_of(prepare(tmp_path / "source", tmp_path / "out"))
    assert set(notes) == {
        f"flute/{more}.wav#{start}"
        for more, last in starts.items()
        for start in ("0", last)
    }


def test_class_names_may_be_ones_own(tmp_path):
    for name in ("theremin", "bass", "Alphorn"):
        write(tmp_path / "source" / name / "x.wav")
    labels = prepare(tmp_path / "source", tmp_path / "out").info.features["instrument"]
    assert labels["family"].names == ["Alphorn", "bass", "theremin"]
    assert labels["label"].names == ["Alphorn/x", "bass/x", "theremin/x"]


def test_a_csv_file_gives_families_instruments_and_pitches(tmp_path):
    write(tmp_path / "audio" / "one.wav")
    write(tmp_path / "audio" / "two.wav")
    table = tmp_path / "labels.csv"
    table.write_text(
        "\ufefffile,family,instrument,pitch,velocity\n"
        "audio/one.wav,reed,my_oboe,69,100\n"
        "audio/two.wav,reed,,,\n",
        encoding="utf-8",
    )
    builder = prepare(table, tmp_path / "out")
    notes = notes_of(builder)
    _, one = notes["audio/one.wav"]
    _, two = notes["audio/two.wav"]
    assert (one["pitch"], one["velocity"]) == (69, 100)
    assert (two["pitch"], two["velocity"]) == (-1, -1)
    assert builder.info.features["instrument"]["label"].names == [
        "audio/two",
        "my_oboe",
    ]


def test_splits_of_the_source_are_kept(tmp_path):
    write(tmp_path / "source" / "train" / "reed" / "a.wav")
    write(tmp_path / "source" / "train" / "reed" / "b.wav")
    write(tmp_path / "source" / "test" / "reed" / "c.wav")
    notes = notes_of(prepare(tmp_path / "source", tmp_path / "out"))
    assert {name: split for name, (split, _) in notes.items()} == {
        "train/reed/a.wav": "train",
        "train/reed/b.wav": "train",
        "test/reed/c.wav": "test",
    }


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "val", "test"), "test/, train/, val/; only train, valid, test"),
        (("Train", "Test"), "Test/, Train/; only train, valid, test"),
        (("training", "validation"), "training/, validation/; only train, valid, test"),
        (("banjo", "test"), "test/ beside banjo/; only train, valid, test"),
    ],
)
def test_splits_of_other_names_do_not_become_classes(tmp_path, folders, message, skip):
    for folder in folders:
        write(tmp_path / folder / "reed" / "a.wav")
    with pytest.raises(UserError, match=f"--source={tmp_path}: {message}"):
        recordings.find(str(tmp_path), Problems(skip))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("folders", [("test", "train"), ("Validation",)])
def test_splits_below_classes_do_not_become_instruments(tmp_path, folders, skip):
    write(tmp_path / "banjo" / "a.wav")
    for folder in folders:
        write(tmp_path / "koto" / folder / "a.wav")
    (tmp_path / "koto" / "notes").mkdir()
    where = ", ".join(f"koto/{folder}/" for folder in folders)
    message = f"--source={tmp_path}: {where}; SPLIT/FAMILY/… expected, not FAMILY/SPLIT"
    with pytest.raises(UserError, match=message):
        recordings.find(str(tmp_path), Problems(skip))


def test_an_instrument_beside_others_may_be_called_as_a_split(tmp_path):
    for name in ("test", "valiha"):
        write(tmp_path / "koto" / name / "a.wav")
        write(tmp_path / "split" / "train" / "koto" / name / "a.wav")
    assert len(recordings.find(str(tmp_path / "split"), Problems())) == 2
    shutil.rmtree(tmp_path / "split")
    found = recordings.find(str(tmp_path), Problems())
    assert [r.instrument for r in found] == ["test", "valiha"]


def test_splits_of_a_csv_file_are_kept(tmp_path):
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    table = tmp_path / "labels.csv"
    table.write_text("file,family,split\na.wav,reed,valid\nb.wav,reed,train\n")
    notes = notes_of(prepare(table, tmp_path / "out"))
    assert notes["a.wav"][0] == "valid"
    assert notes["b.wav"][0] == "train"


def test_instruments_are_dealt_whole_and_about_eighty_ten_ten():
    dealt = dealing.deal(
        [recording("reed", f"i{i}", n) for i in range(50) for n in range(3)]
    )
    instruments = {s: {r.instrument for r in part} for s, part in dealt.items()}
    assert {s: len(names) for s, names in instruments.items()} == {
        "train": 40,
        "valid": 5,
        "test": 5,
    }
    assert not instruments["train"] & (instruments["valid"] | instruments["test"])


@pytest.mark.parametrize(
    ("files", "expected"), [(1, {"train": 1}), (2, {"train": 1, "valid": 1})]
)
def test_few_recordings_go_to_train_first_and_then_to_valid(files, expected):
    dealt = dealing.deal([recording("reed", f"i{i}") for i in range(files)])
    assert {split: len(part) for split, part in dealt.items()} == expected


@pytest.mark.parametrize("sizes", [(30, 1), (1, 100, 3), (9, *[1] * 7, 9)])
def test_train_has_no_fewer_files_of_a_family_than_valid_or_test(sizes):
    for family in map(str, range(40)):
        files = [
            recording(family, f"i{i}", n) for i, m in enumerate(sizes) for n in range(m)
        ]
        dealt = dealing.deal(files)
        train, *others = [len(part) for part in dealt.values()]
        assert train >= max(others)
        assert train + sum(others) == len(files)
        assert dealing.deal(files) == dealt
        splits = {(r.instrument, split) for split, part in dealt.items() for r in part}
        assert len(splits) == len(sizes)


def test_dealing_of_even_instruments_stays_as_it_was():
    files = [recording("reed", f"i{i}", n) for i in range(9) for n in (0, 1)]
    found = {
        split: sorted({r.instrument for r in p})
        for split, p in dealing.deal(files).items()
    }
    assert (found["valid"], found["test"]) == (["i1"], ["i6"])


def test_a_single_instrument_is_dealt_by_files_with_a_warning(caplog):
    dealt = dealing.deal([recording("reed", "oboe", n) for n in range(10)])
    assert {s: len(part) for s, part in dealt.items()} == {
        "train": 8,
        "valid": 1,
        "test": 1,
    }
    assert "reed has one instrument only" in caplog.text


def test_files_taken_for_an_instrument_each_are_said(tmp_path, caplog):
    for i in range(6):
        write(tmp_path / f"in/banjo/{i}.wav", seconds=5.0)
        write(tmp_path / f"in/koto/{'ab'[i % 2]}/{i}.wav")
    prepare(tmp_path / "in", tmp_path / "out")
    assert "6 of 12 files are taken for an instrument each (banjo/0.wav" in caplog.text
    caplog.clear()
    dealing.deal([recording("reed", f"i{i}") for i in range(4)])
    for i in range(6):
        write(tmp_path / f"named/banjo/{i}/{i}.wav")
    rows = [f"named/banjo/{i}/{i}.wav,banjo,named/banjo/{i}/{i}" for i in range(6)]
    (tmp_path / "named.csv").write_text("\n".join(["file,family,instrument", *rows]))
    prepare(tmp_path / "named", tmp_path / "out1")
    prepare(tmp_path / "named.csv", tmp_path / "out2")
    assert "an instrument each" not in caplog.text


def test_an_instrument_may_be_named_after_its_file():
    assert schema.is_named_after("0", "banjo/0.wav")
    assert schema.is_named_after("banjo/0", "banjo/0.wav")
    assert schema.is_named_after("0", "0.wav")
    assert schema.is_named_after("takes/0", "takes/0.wav")
    assert schema.is_named_after("banjo", "train/banjo/banjo.wav")
    assert not schema.is_named_after("0", "train/banjo/0/0.wav")
    assert not schema.is_named_after("0", "banjo/0/0.wav")
    assert not schema.is_named_after("a", "banjo/0.wav")


def test_letters_of_one_part_or_two_are_the_same_name(tmp_path):
    one, two = (unicodedata.normalize(form, "Flöte") for form in ("NFC", "NFD"))
    for split, name in (("train", one), ("test", two)):
        write(tmp_path / "in" / split / name / name / "a.wav")
        write(tmp_path / "in" / split / name / f"{split} {name}.wav")
    found = recordings.find(str(tmp_path / "in"), Problems())
    assert {r.family for r in found} == {one}
    assert {r.instrument for r in found} == {one, f"train {one}", f"test {one}"}
    assert [r.id for r in found if r.split == "test"] == [
        f"test/{two}/{two}/a.wav",
        f"test/{two}/test {two}.wav",
    ]
    assert schema.is_named_after(f"test {one}", f"test/{two}/test {two}.wav")


@pytest.mark.parametrize(("listed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_csv_file_may_spell_letters_otherwise_than_the_disk(
    tmp_path, listed, on_disk
):
    name = "Flöte.wav"
    write(tmp_path / unicodedata.normalize(on_disk, name))
    row = unicodedata.normalize(listed, f"{name},Flöte,spät")
    (tmp_path / "all.csv").write_text(f"file,family,instrument\n{row}\n")
    [found] = recordings.find(str(tmp_path / "all.csv"), Problems())
    assert (found.family, found.instrument) == ("Flöte", "spät")
    assert found.id == unicodedata.normalize(listed, name)
    assert os.path.isfile(found.path)


def test_dealing_one_family_does_not_depend_on_the_others():
    reed = [recording("reed", f"i{i}") for i in range(9)]
    alone = dealing.deal(reed)
    mixed = dealing.deal([recording("flute", "x"), *reversed(reed)])
    for split, part in alone.items():
        names = {r.id for r in mixed[split] if r.family == "reed"}
        assert names == {r.id for r in part}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("missing.wav,reed,,", "line 3: missing.wav: no such file"),
        ("a.wav,,,", "line 3: no family in this row"),
        ("b.wav,reed,128,", "line 3: pitch '128'"),
        ("b.wav,reed,,loud", "line 3: velocity 'loud'"),
        ("a.wav,reed,,", "line 3: a.wav is listed twice"),
        ('b.wav,"re\ned",,', r"line 4: family 're\\ned'; one line without white space"),
        ('"b\n.wav",reed,,', r"line 4: b \.wav: no such file"),
        ("b.wav,reed,,,plucked", "line 3: 'plucked': more cells than columns"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, row, message):
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name)
    table = tmp_path / "labels.csv"
    table.write_text(f"file,family,pitch,velocity\na.wav,reed,,\n{row}\n")
    with pytest.raises(UserError, match=message) as caught:
        recordings.find(str(table), Problems())
    assert "\n" not in str(caught.value)
    skipping = Problems(skip=True)
    assert len(recordings.find(str(table), skipping)) == 1
    assert len(skipping) == 1


@pytest.mark.parametrize("spelling", ["./a.wav", "{folder}/a.wav", "link.wav"])
def test_a_file_spelt_in_two_ways_is_listed_twice(tmp_path, spelling):
    write(tmp_path / "a.wav")
    (tmp_path / "link.wav").symlink_to("a.wav")
    again = spelling.format(folder=tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text(f"file,family\na.wav,reed\n{again},reed\n")
    message = f"line 3: {again} is listed twice, before as a.wav"
    with pytest.raises(UserError, match=message):
        recordings.find(str(table), Problems())


@pytest.mark.parametrize("end", ["", '"c.wav",reed\n', 'c.wav,"reed"\n'])
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path, end):
    for name in "abc":
        write(tmp_path / f"{name}.wav")
    table = tmp_path / "labels.csv"
    table.write_text(f'file,family\na.wav,reed\n"b.wav,reed\nc.wav,reed\n{end}')
    with pytest.raises(UserError, match="labels.csv: line 3: .* quote expected"):
        recordings.find(str(table), Problems(skip=True))


def test_a_csv_without_the_columns_says_which(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.wav,reed\n")
    with pytest.raises(UserError, match="no column 'file' in its first line"):
        recordings.find(str(table), Problems())


@pytest.mark.parametrize("column", ["Split", "splits", "Instrument", "PITCH", "family"])
def test_a_column_spelt_otherwise_or_twice_is_not_left_out_unsaid(tmp_path, column):
    write(tmp_path / "a.wav")
    table = tmp_path / "all.csv"
    table.write_text(f"file,family,{column}\na.wav,reed,x\n")
    with pytest.raises(UserError, match=f"all.csv: column '{column}' .*expected"):
        prepare(table, tmp_path / "out")


def test_other_columns_are_said_and_empty_ones_are_none(tmp_path, caplog):
    write(tmp_path / "a.wav")
    table = tmp_path / "all.csv"
    table.write_text("file,family,maker,\na.wav,reed,me,,\n")
    assert list(notes_of(prepare(table, tmp_path / "out"))) == ["a.wav"]
    assert "not read: column maker" in caplog.text


def test_files_of_one_name_in_two_splits_are_no_one_instrument(tmp_path):
    source = tmp_path / "source"
    for split in ("train", "test"):
        for name in ("000.wav", "take/1.wav"):
            write(source / split / "guitar" / name)
    write(source / "train" / "guitar" / "001.wav")
    found = {r.id: r.instrument for r in recordings.find(str(source), Problems(True))}
    assert found == {
        "train/guitar/000.wav": "train/guitar/000",
        "test/guitar/000.wav": "test/guitar/000",
        "train/guitar/001.wav": "001",
        "train/guitar/take/1.wav": "take",
        "test/guitar/take/1.wav": "take",
    }
    for name in ("train/guitar/000", "test/guitar/000"):
        assert schema.is_named_after(name, f"{name}.wav")


def test_classes_that_differ_in_case_alone_are_said(tmp_path, caplog):
    for family in ("Guitar", "guitar", "reed"):
        write(tmp_path / family / "a.wav")
    recordings.find(str(tmp_path), Problems(True))
    assert "classes that differ in case alone: Guitar, guitar" in caplog.text
    assert "reed" not in caplog.text


def test_files_that_are_not_read_are_counted_once(tmp_path, caplog):
    write(tmp_path / "reed" / "a.wav")
    write(tmp_path / "flute" / "inner" / "a.wav")
    for name in ("reed/b.m4a", "flute/inner/c.WMA", "flute/d.m4a", "flute/cover.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "flute" / "nothing").symlink_to("nowhere")
    recordings.find(str(tmp_path), Problems(True))
    [line] = caplog.messages
    assert line.startswith("3 files are not read: .m4a, .wma; convert them, as by `")


def test_an_empty_class_folder_is_named(tmp_path):
    write(tmp_path / "reed" / "a.wav")
    (tmp_path / "flute").mkdir()
    with pytest.raises(UserError, match="flute: no audio file in this class folder"):
        recordings.find(str(tmp_path), Problems())


def test_a_class_folder_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    for family in ("flute", "reed"):
        write(tmp_path / family / "a.wav")
    listed = os.listdir

    def refused(path):
        if os.path.basename(path) == "flute":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(UserError, match="flute: cannot be read: Permission denied"):
        recordings.find(str(tmp_path), Problems())
    assert len(recordings.find(str(tmp_path), Problems(skip=True))) == 1


@pytest.mark.parametrize(
    ("folder", "link"),
    [("flute", "reed"), ("train/flute", "train/reed"), ("train/flute", "test/flute")],
)
def test_one_folder_is_not_two_classes_or_splits(tmp_path, folder, link):
    write(tmp_path / folder / "a.wav")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / folder)
    message = "/(flute|reed): the same folder as .*/flute"
    with pytest.raises(UserError, match=message):
        recordings.find(str(tmp_path), Problems())
    skipping = Problems(skip=True)
    assert len(recordings.find(str(tmp_path), skipping)) == len(skipping) == 1


def test_a_class_folder_that_leads_nowhere_is_named(tmp_path):
    write(tmp_path / "reed" / "a.wav")
    (tmp_path / "flute").symlink_to("nowhere")
    with pytest.raises(UserError, match="flute: a link to nothing; a class folder"):
        recordings.find(str(tmp_path), Problems())
    assert len(recordings.find(str(tmp_path), Problems(skip=True))) == 1


def test_names_that_do_not_stand_in_one_line_are_named(tmp_path):
    odd = ("ko\nto/b.wav", " oud/c.wav", "reed/my \n/d.wav", "reed/e\ne.wav")
    for name in ("reed/a.wav", *odd):
        write(tmp_path / name)
    with pytest.raises(UserError, match="one line without white space at") as caught:
        recordings.find(str(tmp_path), Problems())
    assert "\n" not in str(caught.value)
    skipping = Problems(skip=True)
    assert [r.id for r in recordings.find(str(tmp_path), skipping)] == ["reed/a.wav"]
    assert len(skipping) == len(odd)


def test_white_space_before_the_ending_is_no_part_of_an_instruments_name(tmp_path):
    write(tmp_path / "reed" / "a .wav")
    [found] = recordings.find(str(tmp_path), Problems())
    assert (found.id, found.instrument) == ("reed/a .wav", "a")


def test_a_folder_without_audio_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match="no audio file found; FAMILY/"):
        recordings.find(str(tmp_path), Problems())


def test_an_unreadable_file_is_named_or_left_out(tmp_path):
    source = tmp_path / "source"
    for name in "abcd":
        write(source / "reed" / f"{name}.wav")
    (source / "reed" / "e.wav").write_bytes(b"no audio")
    (source / "reed" / "f.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"reed/[ef]\.wav: "):
        prepare(source, tmp_path / "out")
    builder = prepare(source, tmp_path / "out", skip_bad=True)
    assert set(notes_of(builder)) == {f"reed/{name}.wav" for name in "abcd"}
    with open(f"{builder.data_dir}/left_out.csv", encoding="utf-8") as file:
        listed = {row["left_out"] for row in csv.DictReader(file)}
    assert listed == {str(source / "reed" / "e.wav"), str(source / "reed" / "f.wav")}


def test_a_recording_with_a_late_fault_is_left_out_whole(tmp_path):
    source = tmp_path / "source"
    for name in "abcd":
        write(source / "reed" / f"{name}.wav")
    waveform = sine(20.0)
    waveform[-1_000] = np.nan
    soundfile.write(source / "reed" / "e.wav", waveform, 16_000, subtype="FLOAT")
    builder = prepare(source, tmp_path / "out", skip_bad=True)
    assert set(notes_of(builder)) == {f"reed/{name}.wav" for name in "abcd"}
    with open(f"{builder.data_dir}/left_out.csv", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert row["left_out"] == str(source / "reed" / "e.wav")
    assert row["reason"].startswith("sample 319000 is nan")


def test_file_names_that_are_not_utf8_do_no_harm(tmp_path):
    write(tmp_path / "source" / "reed" / "a.wav")
    folder = os.fsencode(tmp_path / "source" / "reed")
    for odd in (b"\xe4.wav", b"\xf6.wav"):
        path = os.path.join(folder, odd)
        shutil.copyfile(tmp_path / "source" / "reed" / "a.wav", path)
    with open(os.path.join(folder, b"\xfc.wav"), "wb") as file:
        file.write(b"no audio")
    builder = prepare(tmp_path / "source", tmp_path / "out", skip_bad=True)
    assert set(notes_of(builder)) == {
        "reed/a.wav",
        r"reed/\udce4.wav",
        r"reed/\udcf6.wav",
    }


@pytest.mark.parametrize("split", ["", "train/"])
def test_a_file_outside_of_a_class_folder_is_named(tmp_path, split):
    write(tmp_path / f"{split}reed/a.wav")
    write(tmp_path / f"{split}b.wav")
    message = f"{split}b.wav: lies outside of a class folder"
    with pytest.raises(UserError, match=message):
        recordings.find(str(tmp_path), Problems())
    assert len(recordings.find(str(tmp_path), Problems(skip=True))) == 1


def test_a_changed_folder_is_not_taken_for_the_prepared_one(tmp_path):
    write(tmp_path / "source" / "reed" / "a.wav")
    write(tmp_path / "source" / "reed" / "b.wav")
    prepare(tmp_path / "source", tmp_path / "out")
    write(tmp_path / "source" / "reed" / "c.wav")
    with pytest.raises(UserError, match="files: there 2, asked for 3"):
        prepare(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("seconds", [0.5, 60.0])
def test_a_recording_changed_in_place_is_another_one(tmp_path, seconds):
    path = tmp_path / "source" / "reed" / "a.wav"
    write(path, seconds)
    builder = prepare(tmp_path / "source", tmp_path / "out")
    size = path.stat().st_size
    soundfile.write(path, sine(seconds, amplitude=0.25), 16_000)
    assert path.stat().st_size == size
    with pytest.raises(UserError, match="listing: there .*; --overwrite replaces it"):
        prepare(tmp_path / "source", tmp_path / "out")
    prepare(tmp_path / "source", tmp_path / "out", overwrite=True)
    _, note = notes_of(builder)[next(iter(notes_of(builder)))]
    assert note["audio"].max() == pytest.approx(0.25 * 32767, rel=1e-3)


def test_a_link_to_nothing_is_left_out(tmp_path):
    for name in "abcd":
        write(tmp_path / "source" / "reed" / f"{name}.wav")
    for link in ("e.wav", "more"):
        (tmp_path / "source" / "reed" / link).symlink_to("nowhere")
    with pytest.raises(UserError, match=r"e\.wav: cannot be read"):
        prepare(tmp_path / "source", tmp_path / "out")
    for _ in range(2):
        builder = prepare(tmp_path / "source", tmp_path / "out", skip_bad=True)
        assert set(notes_of(builder)) == {f"reed/{name}.wav" for name in "abcd"}
    left_out = (builder.data_path / "left_out.csv").read_text()
    assert "reed/e.wav" in left_out
    assert "reed/more" in left_out


@pytest.mark.parametrize("peak", [1.0, 1.5, 32_768.0])
def test_loud_samples_are_scaled_down_not_clipped(peak):
    loud = np.float32([peak, -peak, peak / 2])
    pcm = sample_folder_dataset_builder.to_pcm(loud)
    assert pcm[:3].tolist() == [32767, -32767, 16384]
    assert pcm.shape == (64_000,)


def test_samples_in_range_keep_their_level():
    quiet = np.float32([0.5, -0.25, 1e-4])
    pcm = sample_folder_dataset_builder.to_pcm(quiet)
    assert pcm[:3].tolist() == [16384, -8192, 3]


def test_floats_in_integer_units_keep_their_shape(tmp_path):
    write(tmp_path / "source" / "reed" / "a.wav")
    path = tmp_path / "source" / "reed" / "b.wav"
    soundfile.write(path, 20_000 * sine(1.0), 16_000, subtype="FLOAT")
    notes = notes_of(prepare(tmp_path / "source", tmp_path / "out"))
    usual, loud = (notes[f"reed/{name}.wav"][1]["audio"] for name in "ab")
    np.testing.assert_allclose(loud / 32767, usual / (0.5 * 32767), atol=1e-3)
