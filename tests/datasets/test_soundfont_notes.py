import collections
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.datasets import names, preparation
from mic_tf.datasets.soundfont_notes import (
    general_midi,
    planning,
    rendering,
    soundfont_notes_dataset_builder,
)
from mic_tf.errors import UserError


@pytest.fixture(scope="module")
def soundfont():
    return rendering.SoundFont(rendering.default_path())


@pytest.fixture(scope="module")
def notes(soundfont):
    return planning.plan(soundfont.instruments, 4_000, seed=0)


def note_of(soundfont, program, pitch=60, velocity=100):
    instrument = next(i for i in soundfont.instruments if i.program == program)
    return planning.PlannedNote(instrument, pitch, velocity)


def prepare(data_dir, **settings):
    folder = preparation.prepare(
        soundfont_notes_dataset_builder.Builder,
        names.parse_name("soundfont_notes"),
        str(data_dir),
        source_given=True,
        **settings,
    )
    return tfds.builder_from_directory(folder)


def test_programs_have_the_family_of_their_general_midi_group_or_are_left_out():
    family = {program.number: program.family for program in general_midi.PROGRAMS}
    assert len(family) == len(general_midi.PROGRAMS)
    groups = {
        "keyboard": range(0, 8),
        "mallet": range(8, 16),
        "organ": range(16, 20),
        "guitar": range(24, 32),
        "bass": range(32, 40),
        "string": [p for p in range(40, 52) if p != 47],
        "vocal": [52, 53, 54, 85, 91],
        "brass": range(56, 64),
        "reed": range(64, 72),
        "flute": range(72, 80),
        "synth_lead": [80, 81, 82, 83, 84, 86, 87],
    }
    assert family == {p: name for name, group in groups.items() for p in group}


def test_pitches_lie_in_a_range_inside_the_pianos():
    for program in general_midi.PROGRAMS:
        assert 21 <= program.low < program.high <= 108


def test_no_instrument_is_in_two_splits_and_every_family_is_in_all(notes):
    instruments = {
        split: {note.instrument.name for note in part} for split, part in notes.items()
    }
    assert not instruments["train"] & instruments["valid"]
    assert not instruments["train"] & instruments["test"]
    assert not instruments["valid"] & instruments["test"]
    for part in notes.values():
        assert {note.instrument.family for note in part} == set(taxonomy.FAMILIES)


def test_no_note_is_planned_twice(notes):
    ids = [note.id for part in notes.values() for note in part]
    assert len(ids) == len(set(ids))


def test_families_have_nsynths_proportions_where_instruments_suffice(notes):
    counts = collections.Counter(note.instrument.family for note in notes["train"])
    total = sum(taxonomy.NSYNTH_FAMILY_NOTES.values())
    assert sum(counts.values()) == 4_000
    for family, published in taxonomy.NSYNTH_FAMILY_NOTES.items():
        assert counts[family] == pytest.approx(
            4_000 * published / total, rel=0.1, abs=2
        )


@pytest.mark.parametrize("wanted", [4_000, 12_000])
def test_the_default_soundfont_gives_the_notes_of_the_first_two_phases(
    soundfont, wanted
):
    plan = planning.plan(soundfont.instruments, wanted, seed=0)
    assert len(plan["train"]) == wanted
    assert len(plan["valid"]) == len(plan["test"]) == wanted // 8


def test_more_notes_than_there_are_is_said(soundfont, caplog):
    plan = planning.plan(soundfont.instruments, 1_000_000, seed=0)
    capacity = sum(i.capacity for i in soundfont.instruments)
    assert sum(len(part) for part in plan.values()) == capacity
    assert "1,000,000 notes wanted" in caplog.text


def test_the_seed_changes_the_notes(soundfont):
    first, again, other = (
        {note.id for note in planning.plan(soundfont.instruments, 200, seed)["train"]}
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_shares_add_up_and_respect_weights_and_capacities():
    weights = {"a": 6.0, "b": 3.0, "c": 1.0}
    roomy = dict.fromkeys(weights, 1_000)
    assert planning.allocate(100, weights, roomy) == {"a": 60, "b": 30, "c": 10}
    tight = planning.allocate(100, weights, {**roomy, "a": 20})
    assert tight == {"a": 20, "b": 60, "c": 20}
    assert planning.allocate(5_000, weights, roomy) == roomy
    assert planning.allocate(3, weights, roomy) == dict.fromkeys(weights, 1)
    assert planning.allocate(2, weights, roomy) == {"a": 1, "b": 1, "c": 0}


def test_a_render_does_not_depend_on_the_notes_before_it(soundfont):
    fresh = rendering.SoundFont(soundfont.path)
    loud_pad = note_of(soundfont, 91, 48, 127)
    for program in (0, 40, 73):
        note = note_of(soundfont, program)
        soundfont.render(loud_pad)
        after = soundfont.render(note)
        np.testing.assert_array_equal(after, fresh.render(note))


def test_a_note_is_held_three_seconds_and_then_released(soundfont):
    audio = soundfont.render(note_of(soundfont, 19)).astype(np.float64)
    assert audio.shape == (64_000,)
    held, end = audio[32_000:47_000], audio[60_000:]
    assert np.sqrt(np.mean(end**2)) < 0.1 * np.sqrt(np.mean(held**2))


def test_a_note_has_the_pitch_that_its_name_says(soundfont):
    audio = soundfont.render(note_of(soundfont, 73, pitch=72)).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    frequency = np.argmax(spectrum) / 4
    assert frequency == pytest.approx(440 * 2 ** (3 / 12), rel=0.02)


def test_velocities_differ_in_level_and_the_loudest_is_not_clipped(soundfont):
    quiet = np.abs(soundfont.render(note_of(soundfont, 39, velocity=25)).astype(int))
    loud = np.abs(soundfont.render(note_of(soundfont, 39, velocity=127)).astype(int))
    assert quiet.max() < loud.max() / 2
    clipped = sum(
        np.count_nonzero(np.abs(soundfont.render(note).astype(int)) >= 32_767)
        for note in (note_of(soundfont, p, 60, 127) for p in (39, 45, 53, 87))
    )
    assert clipped == 0


def test_a_peak_above_full_scale_is_scaled_down(soundfont, monkeypatch):
    note = note_of(soundfont, 0)
    plain = soundfont.render(note).astype(float)
    generate = soundfont._generate
    monkeypatch.setattr(soundfont, "_generate", lambda s: 100 * generate(s))
    scaled = soundfont.render(note).astype(float)
    assert np.abs(scaled).max() == pytest.approx(0.99 * 32767, abs=2)
    correlation = np.corrcoef(plain, scaled)[0, 1]
    assert correlation > 0.999


def test_the_prepared_set_is_the_plan(tmp_path):
    builder = prepare(tmp_path, train_notes=40)
    read = list(tfds.as_numpy(builder.as_dataset(split="train")))
    labels = builder.info.features["instrument"]
    assert 35 <= len(read) <= 40
    for note in read:
        name = labels["label"].names[note["instrument"]["label"]]
        expected = f"{name}-{note['pitch']:03d}-{note['velocity']:03d}"
        assert note["id"].decode() == expected
        assert labels["family"].names[note["instrument"]["family"]] == "_".join(
            name.split("_")[:-2]
        )
        assert note["velocity"] in taxonomy.VELOCITIES
        assert np.abs(note["audio"].astype(int)).max() >= 10


def test_a_set_of_other_settings_is_not_taken_for_this_one(tmp_path):
    prepare(tmp_path, train_notes=16)
    with pytest.raises(UserError, match="train_notes: there 16, asked for 24"):
        prepare(tmp_path, train_notes=24)
    with pytest.raises(UserError, match="seed: there 0, asked for 1"):
        prepare(tmp_path, train_notes=16, seed=1)
    replaced = prepare(tmp_path, train_notes=24, overwrite=True)
    assert replaced.info.splits["train"].num_examples > 16


def test_a_second_soundfont_adds_instruments_under_its_own_name(tmp_path, soundfont):
    other = tmp_path / "My Font.sf2"
    shutil.copyfile(soundfont.path, other)
    found = {i.name for i in rendering.SoundFont(str(other)).instruments}
    assert "guitar_acoustic_my_font_024" in found
    assert "guitar_acoustic_024" in {i.name for i in soundfont.instruments}


def test_gs_variations_are_instruments_and_what_other_banks_hold_is_not(monkeypatch):
    font = rendering.SoundFont(rendering.default_path())
    there = {(0, 24): "Nylon", (8, 24): "Ukulele", (17, 24): "Nylon Expr."}
    there |= {(120, 24): "Electronic Drums", (128, 0): "Standard Drums"}

    class Presets:
        def sfpreset_name(self, font_id, bank, program):
            return there.get((bank, program))

    monkeypatch.setattr(font, "_synth", Presets())
    names_found = [i.name for i in font.instruments]
    assert names_found == ["guitar_acoustic_024", "guitar_acoustic_1048"]


@pytest.mark.parametrize("content", [None, b"not a soundfont"])
def test_a_file_that_is_no_soundfont_is_named(tmp_path, content):
    path = tmp_path / "broken.sf2"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"--soundfont={path}"):
        prepare(tmp_path / "out", soundfonts=(str(path),), train_notes=16)
