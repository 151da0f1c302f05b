"""The programs that measure an export, on a small network with random weights."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from mic_tf.serving import exporter, models, timeline
from mic_tf.serving.classifier import Answer, Classifier
from mic_tf.serving.doubt import Doubt
from mic_tf.serving.familiarity import Familiarity
from mic_tf.training import workfolder

PROJECT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

from tools import (  # noqa: E402
    format_table,
    measured_notes,
    position_table,
    tflite_table,
    timeline_table,
    unsure_table,
)


@pytest.fixture(scope="module")
def classifier(tiny_export) -> Classifier:
    return Classifier.load(tiny_export)


@pytest.fixture(scope="module")
def waveforms() -> np.ndarray:
    """Decaying tones, int16 [3, 64000]."""
    time = np.arange(64_000) / 16_000
    pitches = np.array([[220.0], [523.0], [1000.0]])
    tones = np.sin(2 * np.pi * pitches * time) * np.exp(-2 * time)
    return (12_000 * tones).astype(np.int16)


@pytest.fixture(scope="module")
def whole_export(tiny_workdir, waveforms, tmp_path_factory) -> pathlib.Path:
    """An export with every kind of TFLite file."""
    out = tmp_path_factory.mktemp("whole")
    run = workfolder.load_run(str(tiny_workdir))
    notes = waveforms.astype(np.float32) / 32768
    kinds = ["float32", "float16", "int8"]
    exporter.export(run, str(out), tflite_kinds=kinds, notes=notes)
    return out


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(PROJECT / "tools" / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def table_of(
    tool: str, model: pathlib.Path, dataset, *arguments: str
) -> list[list[str]]:
    """The cells of the table that a program prints for a data set, without its head."""
    data_dir = pathlib.Path(dataset.data_dir).parents[1]
    flags = (f"--model={model}", "--dataset=nsynth_jsonwav", f"--data_dir={data_dir}")
    finished = run(tool, *flags, *arguments)
    assert finished.returncode == 0, finished.stderr
    rows = [cells(line) for line in finished.stdout.splitlines() if line[:1] == "|"]
    return rows[2:]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("kind", unsure_table.KINDS)
def test_generated_sounds_are_sounds_and_the_same_every_time(kind):
    first = list(unsure_table.generated(kind, 3))
    for sound, again in zip(first, unsure_table.generated(kind, 3), strict=True):
        np.testing.assert_array_equal(sound, again)
        assert sound.shape == (64_000,) and sound.dtype == np.float32
        assert np.abs(sound).max() == pytest.approx(0.5)
        assert np.sqrt(np.mean(sound**2)) > 1e-3
    assert np.abs(first[0] - first[1]).max() > 0.1


def test_hum_has_its_power_at_multiples_of_the_mains_and_noise_does_not():
    def share_at_mains(kind: str) -> float:
        sound = next(unsure_table.generated(kind, 1))
        power = np.abs(np.fft.rfft(sound)) ** 2
        return max(power[mains * 4 :: mains * 4].sum() for mains in (50, 60)) / sum(
            power
        )

    assert share_at_mains("hum") > 0.95
    assert share_at_mains("noise") < 0.5


def test_a_row_counts_unsure_and_silence_as_no_family():
    def answer(family: str, probability: float) -> Answer:
        return Answer(family, probability, {}, np.zeros(1))

    answers = [answer("reed", 0.9), answer("reed", 0.5), answer("silence", 1.0)]
    answers = [*answers, answer("bass", 0.7)]
    row = unsure_table.row("hum", answers, [Doubt(0.6), Doubt(0.8)])
    assert cells(row) == ["hum", "4", "50.0%", "reed 1, bass 1", "75.0%", "reed 1"]


def test_the_unsure_table_is_that_of_the_95_percent_threshold(
    tiny_workdir, small_dataset, tmp_path
):
    import soundfile

    known = Familiarity(np.random.default_rng(0).uniform(0, 1, [8, 16]))
    model = tmp_path / "export"
    trained = workfolder.load_run(str(tiny_workdir))
    exporter.export(trained, str(model), familiarity=(known, 0.25))
    (tmp_path / "sounds" / "speech").mkdir(parents=True)
    path = tmp_path / "sounds" / "speech" / "hello.wav"
    soundfile.write(path, next(unsure_table.generated("speech-like", 1)), 16_000)
    few = ("--generated=2", f"--sounds={tmp_path}/sounds")
    rows = table_of("unsure_table.py", model, small_dataset, *few)
    assert [row[0] for row in rows] == [
        "notes",
        *(f"{kind} (generated)" for kind in unsure_table.KINDS),
        "speech",
    ]
    assert [row[1] for row in rows] == ["12", "2", "2", "2", "2", "1"]
    assert {len(row) for row in rows} == {2 + 2 * 3}  # probability, familiarity, both
    assert rows[0][2::2] == ["0.0%"] * 3


def test_a_place_moves_the_note_and_nothing_else(waveforms):
    at_start, later = (position_table.placed(waveforms[0], ms) for ms in (0, 1500))
    np.testing.assert_array_equal(later[24_000:56_000], at_start[:32_000])
    assert np.abs(later[:24_000]).max() == np.abs(at_start[32_000:]).max() == 0


def test_noise_and_an_offset_are_relative_to_the_peak():
    quiet = np.zeros(64_000, np.float32)
    quiet[1000] = -0.1
    found = position_table.disturbed(quiet, 0.0, 0.01, 0)
    np.testing.assert_allclose(found - quiet, 0.001, atol=1e-7)
    noise = position_table.disturbed(quiet, 40.0, 0.0, 0) - quiet
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.001, rel=0.02)
    other = position_table.disturbed(quiet, 40.0, 0.0, 1) - quiet
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.05
    np.testing.assert_array_equal(position_table.disturbed(quiet, 0.0, 0.0, 0), quiet)


def test_a_table_of_places_in_noise(tiny_export, small_dataset):
    given = ("position_table.py", tiny_export, small_dataset, "--count=3")
    alone, noisy = table_of(*given), table_of(*given, "--noise_db=20")
    assert [row[0] for row in noisy] == [row[0] for row in alone]
    assert [row[2:] for row in noisy] != [row[2:] for row in alone]


def test_a_row_of_places_done_by_hand():
    at_start = np.array([[0.9, 0.1], [0.4, 0.6]])
    later = np.array([[0.7, 0.3], [0.5, 0.5]])
    row = cells(position_table.row(5, at_start, later))
    assert row == ["5 ms", "50.0%", "0.150", "0.195", "0.200"]


def test_a_millisecond_changes_far_less_than_another_note(classifier, waveforms):
    at_start = position_table.moved(classifier, waveforms, 0)
    later = position_table.moved(classifier, waveforms, 1)
    change = np.abs(later - at_start).max()
    assert 0 < change < 0.1 * np.ptp(at_start, axis=0).max()


def test_a_recording_names_each_sample_and_a_timeline_is_held_to_it(waveforms):
    families = ["bass", "organ", "reed"]
    sound, names = timeline_table.recording(waveforms, families, 1.0, 2.0)
    assert len(sound) == len(names)
    assert set(names) == {*families, "silence"}
    assert np.abs(sound[names == "silence"]).max() == 0
    for family in families:
        assert 16_000 <= (names == family).sum() <= 32_000
    half = names == np.where(np.arange(len(names)) < len(names) // 2, names, "")
    middle = len(names) // 2
    found = [
        timeline.Segment("", i / 16_000, (i + 1) / 16_000, str(names[i]))
        for i in range(middle)
    ]
    of_all, of_notes = timeline_table.shares(found, names)
    assert of_all == pytest.approx(middle / len(names))
    assert of_notes == pytest.approx(half[names != "silence"].mean())


def test_the_timeline_table_has_a_row_for_each_hop(whole_export, small_dataset):
    few = ("--count=3", "--longest=2")
    rows = table_of("timeline_table.py", whole_export, small_dataset, *few)
    assert [row[0] for row in rows] == ["0.25 s", "0.5 s", "1 s", "2 s", "4 s"]


def test_the_same_note_gets_the_same_answer_in_every_file(
    classifier, waveforms, monkeypatch
):
    monkeypatch.setattr(format_table, "RATES", (8_000, 16_000, 44_100))
    monkeypatch.setattr(format_table, "CHANNELS", (1, 3))
    found = list(format_table.cases(classifier, waveforms[:1]))
    # 15 formats in six ways; MP3 has no three channels, Opus no 44.1 kHz.
    assert len(found) == 15 * 6 + 3 + 4
    assert not [case for case in found if case.is_wrong]
    lines = list(format_table.table(found))
    assert len(lines) == 2 + len(format_table.FORMATS)
    wav = next(line for line in lines if line.startswith("| WAV PCM_16 "))
    assert cells(wav)[2].startswith("2/2, 0.0")


def test_a_lossless_file_with_another_answer_is_wrong():
    lossless, lossy = format_table.FORMATS[1], format_table.FORMATS[0]

    def is_wrong(form, rate: int, family: str, difference: float) -> bool:
        case = format_table.Case(form, rate, 1, 0, "reed", family, difference)
        return case.is_wrong

    assert is_wrong(lossless, 44_100, "reed", 0.03)
    assert is_wrong(lossless, 16_000, "bass", 0.01)
    assert not is_wrong(lossless, 44_100, "reed", 0.01)
    assert not is_wrong(lossless, 8_000, "bass", 0.5)
    assert not is_wrong(lossy, 44_100, "bass", 0.5)


def test_a_note_is_the_same_everywhere_where_all_its_files_are():
    lossless, lossy = format_table.FORMATS[1], format_table.FORMATS[0]

    def case(number: int, form, rate: int, family: str, difference: float):
        return format_table.Case(form, rate, 1, number, "reed", family, difference)

    found = [
        case(0, lossless, 8_000, "reed", 0.02),
        case(0, lossless, 44_100, "reed", 0.001),
        case(0, lossy, 44_100, "reed", 0.3),
        case(1, lossless, 8_000, "reed", 0.021),
        case(2, lossless, 16_000, "reed", 0.0),
        case(2, lossy, 22_050, "bass", 0.6),
        case(2, lossy, 44_100, "reed", 0.1),
    ]
    lines = list(format_table.notes_table(found, ["first", "second", "third"]))
    assert [cells(line) for line in lines[2:]] == [
        ["first", "reed", "1/1, 0.020", "1/1, 0.001", "1/1, 0.300", "yes"],
        ["second", "reed", "1/1, 0.021", "", "", "no"],
        ["third", "reed", "", "1/1, 0.000", "1/2, 0.600", "no"],
    ]


@pytest.mark.slow
def test_the_format_table_has_a_row_for_each_format_and_each_note(
    tiny_export, small_dataset
):
    rows = table_of("format_table.py", tiny_export, small_dataset, "--count=1")
    formats, notes = rows[:-3], rows[-3:]
    assert len(formats) == len(format_table.FORMATS)
    assert notes[0][:2] == ["note", "samples"]
    assert notes[2][0].startswith("bass_") and notes[2][1]
    assert all(cell.count("/") == 1 for cell in notes[2][2:5])


def test_the_tflite_table_has_a_row_for_each_file(whole_export, small_dataset):
    few = ("--count=4", "--calls=2")
    rows = table_of("tflite_table.py", whole_export, small_dataset, *few)
    names = ["model.tflite", "model_float16.tflite", "model_int8.tflite"]
    assert [row[0] for row in rows] == ["saved_model", *names]
    assert [row[4] for row in rows[:2]] == ["100.00%"] * 2
    sizes = [float(row[1]) for row in rows]
    stored = (whole_export / "model_int8.tflite").stat().st_size
    assert sizes[3] == pytest.approx(stored / 1e6, abs=0.005)
    assert all(float(row[2]) > 0 for row in rows)


def test_silence_is_what_a_model_would_call_so_at_half_the_level():
    time = np.arange(64_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * time)
    for peak, is_silence in ((0, True), (60, True), (70, False), (1000, False)):
        waveform = (peak * tone + 500).astype(np.int16)
        assert measured_notes.is_silence(waveform) is is_silence


def test_silent_notes_are_not_measured(monkeypatch, tiny_export, small_dataset, capsys):
    data_dir = pathlib.Path(small_dataset.data_dir).parents[1]
    is_silence = iter([False, True, False])
    monkeypatch.setattr(measured_notes, "is_silence", lambda _: next(is_silence))
    given = ["--dataset=nsynth_jsonwav", f"--data_dir={data_dir}", "--count=3"]
    with flagsaver.flagsaver():
        flags.FLAGS([__file__, f"--model={tiny_export}", *given])
        notes = measured_notes.notes_of_flags()
    assert len(notes.waveforms) == len(notes.families) == len(notes.ids) == 2
    assert notes.words.endswith(", 1 silent ones left out")


def test_mistakes_are_one_line_and_status_2():
    for tool in ("unsure_table.py", "position_table.py", "format_table.py"):
        finished = run(tool)
        assert finished.returncode == 2
        assert finished.stderr == "error: --model: missing; give an exported model\n"


def test_a_tflite_file_agrees_with_the_saved_model(whole_export, waveforms):
    wanted = tflite_table.answers(models.open_model(str(whole_export))[1], waveforms)
    small = models.open_model(str(whole_export / "model.tflite"))[1]
    found = tflite_table.answers(small, waveforms)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
