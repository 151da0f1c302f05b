import csv
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mic_tf.datasets import catalogue, names, preparation
from mic_tf.datasets.nsynth_jsonwav import nsynth_jsonwav_dataset_builder, waves
from mic_tf.errors import UserError
from tests.datasets import publisher_archives as publisher

INSTRUMENTS = ["bass_synthetic_001", "guitar_acoustic_002"]
WAVE = "nsynth-valid/audio/bass_synthetic_001-041-100.wav"


@pytest.fixture
def members():
    return publisher.split_members("valid", INSTRUMENTS, notes=3)


def prepare(source, data_dir, **settings):
    folder = preparation.prepare(
        nsynth_jsonwav_dataset_builder.Builder,
        names.parse_name("nsynth_jsonwav"),
        str(data_dir),
        source_given=True,
        source=str(source),
        **settings,
    )
    return tfds.builder_from_directory(folder)


def notes_of(builder, split="valid"):
    notes = tfds.as_numpy(builder.as_dataset(split=split))
    return {note["id"].decode(): note for note in notes}


def left_out(builder):
    with open(f"{builder.data_dir}/left_out.csv", encoding="utf-8") as file:
        return {row["left_out"]: row["reason"] for row in csv.DictReader(file)}


def test_every_note_of_an_archive_becomes_a_record(tmp_path, members):
    publisher.write_jsonwav(tmp_path, "valid", members)
    train = publisher.split_members("train", ["organ_electronic_003"], notes=2)
    publisher.write_jsonwav(tmp_path, "train", train)
    builder = prepare(tmp_path, tmp_path / "out")
    assert {s: i.num_examples for s, i in builder.info.splits.items()} == {
        "train": 2,
        "valid": 6,
    }
    labels = builder.info.features["instrument"]
    assert labels["label"].names == [*INSTRUMENTS, "organ_electronic_003"]
    notes = notes_of(builder)
    note = notes["bass_synthetic_001-041-100"]
    np.testing.assert_array_equal(note["audio"], publisher.tone(41, 1))
    assert (note["pitch"], note["velocity"]) == (41, 100)
    assert labels["family"].names[note["instrument"]["family"]] == "bass"
    assert labels["source"].names[note["instrument"]["source"]] == "synthetic"
    assert note["qualities"]["bright"] and note["qualities"]["tempo-synced"]
    assert sum(note["qualities"].values()) == 2


def test_an_unpacked_folder_gives_the_same_records(tmp_path, members):
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    packed.mkdir()
    publisher.write_jsonwav(packed, "valid", members)
    publisher.write_unpacked(unpacked, members)
    first = notes_of(prepare(packed, tmp_path / "a"))
    second = notes_of(prepare(unpacked, tmp_path / "b"))
    assert list(first) == list(second)
    for name, note in first.items():
        np.testing.assert_array_equal(note["audio"], second[name]["audio"])


def test_examples_json_may_be_the_last_member(tmp_path, members):
    name = "nsynth-valid/examples.json"
    last = {**{k: v for k, v in members.items() if k != name}, name: members[name]}
    publisher.write_jsonwav(tmp_path, "valid", last)
    builder = prepare(tmp_path, tmp_path / "out")
    assert builder.info.splits["valid"].num_examples == 6


def test_a_wave_put_right_in_an_unpacked_folder_is_another_source(tmp_path, members):
    publisher.write_unpacked(tmp_path, members)
    prepare(tmp_path, tmp_path / "out")
    wave = next((tmp_path / "nsynth-valid" / "audio").glob("*.wav"))
    wave.write_bytes(wave.read_bytes() + b"more")
    with pytest.raises(UserError, match="prepared already, from something else"):
        prepare(tmp_path, tmp_path / "out")


def test_what_is_no_wave_in_an_unpacked_folder_does_not_count(tmp_path, members):
    publisher.write_unpacked(tmp_path, members)
    audio = tmp_path / "nsynth-valid" / "audio"
    wave = next(audio.glob("*.wav"))
    wave.unlink()
    wave.symlink_to("nowhere")
    builder = prepare(tmp_path, tmp_path / "out", skip_bad=True)
    assert wave.stem not in notes_of(builder)
    (audio / ".DS_Store").write_bytes(b"x")
    (audio / f"._{wave.name}").write_bytes(b"x")
    prepare(tmp_path, tmp_path / "out", skip_bad=True)


def test_nothing_is_unpacked_to_disk(tmp_path, members):
    publisher.write_jsonwav(tmp_path, "valid", members)
    prepare(tmp_path, tmp_path / "out")
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".wav"]
    assert not (tmp_path / "nsynth-valid").exists()


def _without_examples(members):
    del members["nsynth-valid/examples.json"]


def _without_wave(members):
    del members[WAVE]


def _without_entry(members):
    table = json.loads(members["nsynth-valid/examples.json"])
    del table["bass_synthetic_001-041-100"]
    members["nsynth-valid/examples.json"] = json.dumps(table).encode()


def _wrong_rate(members):
    members[WAVE] = publisher.wav(publisher.tone(41), rate=44_100)


def _stereo(members):
    members[WAVE] = publisher.wav(publisher.tone(41), channels=2)


def _too_short(members):
    members[WAVE] = publisher.wav(publisher.tone(41)[:-1])


def _cut_wave(members):
    members[WAVE] = members[WAVE][:-200]


def _not_a_wave(members):
    members[WAVE] = b"<html>403 Forbidden</html>"


def _unknown_family(members):
    _change_entry(members, instrument_family_str="theremin")


def _no_pitch(members):
    _change_entry(members, pitch=None)


def _change_entry(members, **changes):
    table = json.loads(members["nsynth-valid/examples.json"])
    table["bass_synthetic_001-041-100"].update(changes)
    members["nsynth-valid/examples.json"] = json.dumps(table).encode()


FAULTS = [
    (
        _without_wave,
        "examples.json: bass_synthetic_001-041-100: the entry has no audio",
    ),
    (_without_entry, f"{WAVE}: has no entry in examples.json"),
    (_wrong_rate, f"{WAVE}: 44100 Hz, 1 channel"),
    (_stereo, f"{WAVE}: 16000 Hz, 2 channel"),
    (_too_short, f"{WAVE}: 63999 samples; 64000 expected"),
    (_cut_wave, f"{WAVE}: 63900 samples; 64000 expected"),
    (_not_a_wave, f"{WAVE}: not a PCM WAV file"),
    (_unknown_family, "examples.json: bass_synthetic_001-041-100: unknown family"),
    (_no_pitch, "examples.json: bass_synthetic_001-041-100: the entry has no pitch"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_a_fault_ends_in_one_line_that_names_archive_and_member(
    tmp_path, members, spoil, message
):
    spoil(members)
    path = publisher.write_jsonwav(tmp_path, "valid", members)
    with pytest.raises(UserError) as caught:
        prepare(tmp_path, tmp_path / "out")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text
    assert (
        catalogue.find_prepared(
            names.parse_name("nsynth_jsonwav"), str(tmp_path / "out")
        )
        is None
    )


@pytest.mark.parametrize(("spoil", "message"), FAULTS)
def test_skip_bad_leaves_the_note_out_and_lists_it_once(
    tmp_path, members, spoil, message
):
    spoil(members)
    publisher.write_jsonwav(tmp_path, "valid", members)
    builder = prepare(tmp_path, tmp_path / "out", skip_bad=True)
    assert builder.info.splits["valid"].num_examples == 5
    listed = left_out(builder)
    assert len(listed) == 1
    assert message in ": ".join(next(iter(listed.items())))
    assert builder.info.metadata["left_out"] == 1


def test_a_missing_examples_json_is_an_error_even_with_skip_bad(tmp_path, members):
    _without_examples(members)
    path = publisher.write_jsonwav(tmp_path, "valid", members)
    with pytest.raises(UserError, match="no nsynth-valid/examples.json") as caught:
        prepare(tmp_path, tmp_path / "out", skip_bad=True)
    assert path in str(caught.value)


def _cut_in_half(content):
    return content[: len(content) // 2]


def _wrong_checksum(content):
    return content[:-8] + bytes(4) + content[-4:]


def _flipped_bits(content):
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


@pytest.mark.parametrize("damage", [_cut_in_half, _wrong_checksum, _flipped_bits])
def test_a_damaged_archive_is_told_from_a_whole_one(tmp_path, members, damage):
    path = publisher.write_jsonwav(tmp_path, "valid", members, damage)
    with pytest.raises(UserError, match="damaged at or after nsynth-valid/") as caught:
        prepare(tmp_path, tmp_path / "out")
    assert str(caught.value).startswith(path)


def test_skip_bad_keeps_what_a_cut_archive_still_has(tmp_path, members):
    publisher.write_jsonwav(tmp_path, "valid", members, _cut_in_half)
    builder = prepare(tmp_path, tmp_path / "out", skip_bad=True)
    kept = builder.info.splits["valid"].num_examples
    assert 0 < kept < 6
    lost = [thing for thing in left_out(builder) if "examples.json" in thing]
    assert len(lost) == 6 - kept


def test_a_file_that_is_no_archive_is_named(tmp_path):
    path = tmp_path / "nsynth-test.jsonwav.tar.gz"
    path.write_bytes(b"<html>403 Forbidden</html>")
    with pytest.raises(UserError, match="damaged at or after its first") as caught:
        prepare(tmp_path, tmp_path / "out")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("make", [True, False])
def test_a_source_without_archives_says_what_is_expected(tmp_path, make):
    source = tmp_path / "source"
    if make:
        source.mkdir()
    with pytest.raises(UserError, match=f"--source={source}: (has none|no such)"):
        prepare(source, tmp_path / "out")


def test_the_published_counts_are_said(tmp_path, members, caplog):
    publisher.write_jsonwav(tmp_path, "valid", members)
    prepare(tmp_path, tmp_path / "out")
    assert "6 of NSynth's published 12,678 notes" in caplog.text


@pytest.mark.parametrize(("spoil", "made"), [(lambda _: None, 6), (_stereo, 5)])
def test_records_that_were_made_are_compared_with_the_published_ones(
    tmp_path, members, monkeypatch, caplog, spoil, made
):
    published = {"valid": 6}
    monkeypatch.setattr(nsynth_jsonwav_dataset_builder, "NSYNTH_SPLIT_NOTES", published)
    caplog.set_level("INFO", logger="absl")
    spoil(members)
    path = publisher.write_jsonwav(tmp_path, "valid", members)
    prepare(tmp_path, tmp_path / "out", skip_bad=True)
    message = f"{path}: {made} of NSynth's published 6 notes"
    [level] = [r.levelname for r in caplog.records if r.getMessage() == message]
    assert level == ("INFO" if made == 6 else "WARNING")


def test_decoding_gives_the_samples_of_the_file():
    samples = publisher.tone(60)
    np.testing.assert_array_equal(waves.decode(publisher.wav(samples)), samples)


def test_real_notes_are_read_whole(tmp_path, nsynth_mini):
    builder = prepare(nsynth_mini, tmp_path)
    assert builder.info.splits["train"].num_examples == 1_002
    assert builder.info.splits["valid"].num_examples == 198
    assert len(builder.info.splits["train"].filepaths) >= 8
