"""`predict` on one long file and on many short ones, against a librosa front-end."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import soundfile
import tensorflow as tf
from absl import flags

from mic_tf import settings as run_settings_module
from mic_tf.model import networks
from mic_tf.serving import exporter, passing, prediction
from mic_tf.serving.classifier import Classifier
from mic_tf.serving.folding import fold_batch_norm
from mic_tf.settings import RunSettings
from mic_tf.taxonomy import FAMILIES, NOTE_SAMPLES, SAMPLE_RATE
from mic_tf.training import snapshots, workfolder
from tools.benchmarks import alternatives
from tools.benchmarks.frontend import librosa_decibels
from tools.benchmarks.measuring import Aim, Row, in_turn, missing, rate_row, ratio_row
from tools.benchmarks.notes import Notes
from tools.benchmarks.processes import PROJECT
from tools.benchmarks.settings import BenchmarkSettings
from tools.benchmarks.trainees import BATCH, run_settings

SECTION = "inference"
_SHIPPED = PROJECT / "mic_tf" / "configs" / "best.cfg"
_UNIT = "x real time"
REAL_TIME = Aim(500.0)
AGAINST = Aim(4.0)


def measure(settings: BenchmarkSettings, notes: Notes) -> Iterator[Row]:
    """Seconds of audio a second, after import and load, for two networks."""
    folder = settings.folder / "inference"
    long_file, short_files = _write_files(settings, notes, folder)
    networks_measured = {
        "configs/best.cfg": _settings_of(_SHIPPED),
        "train's defaults": run_settings(settings.width),
    }
    for number, (name, run) in enumerate(networks_measured.items()):
        model, classifier = _export(run, folder / f"run-{number}")
        for files in ([long_file], short_files):
            yield from _rows(settings, run, model, classifier, name, files)


def _rows(
    settings: BenchmarkSettings,
    run: RunSettings,
    model,
    classifier: Classifier,
    name: str,
    files: Sequence[pathlib.Path],
) -> Iterator[Row]:
    audio = sum(soundfile.info(path).duration for path in files)
    what = f"{len(files):,} file{'s' * (len(files) > 1)}, {audio:,.0f} s ({name})"
    ours, batched, single = (
        f"predict, {what}",
        "librosa front-end in batches, same network",
        "librosa front-end file by file, same network",
    )
    contenders = {ours: _predict(classifier, files)}
    note = ""
    if alternatives.librosa():
        answer = _librosa_classifier(run, model)
        apart = _difference(classifier, answer, files[0])
        note = f"probabilities of a file at most {apart:.1e} apart"
        contenders[batched] = lambda: _alternative(answer, files, run, BATCH)
        contenders[single] = lambda: _alternative(answer, files, run, 1)
    timings = in_turn(
        contenders, seconds=settings.seconds / 2, least_rounds=settings.least_rounds
    )
    yield rate_row(SECTION, ours, timings[ours], audio, _UNIT, aim=REAL_TIME)
    for other in (batched, single):
        if other not in timings:
            label = f"{ours} against {other}"
            yield missing(SECTION, label, alternatives.NO_LIBROSA, AGAINST)
            continue
        yield ratio_row(
            SECTION,
            timings,
            ours,
            other,
            work=audio,
            unit=_UNIT,
            aim=AGAINST,
            note=note,
        )


def _predict(classifier: Classifier, files: Sequence[pathlib.Path]) -> Callable:
    paths = [str(path) for path in files]
    out = str(files[0].parent / "answers.csv")
    options = prediction.Options(layout="csv", out=out)

    def run() -> None:
        if prediction.predict(classifier, paths, options):
            raise RuntimeError("a file could not be answered")

    return run


def _settings_of(flagfile: pathlib.Path) -> RunSettings:
    """The settings that a flagfile gives to `train`."""
    values = flags.FlagValues()
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    flags.DEFINE_string("undefok", "", "", flag_values=values)
    sections = [type(field.default) for field in dataclasses.fields(RunSettings)]
    run_settings_module.define_flags(*sections, flag_values=values)
    values(["train", f"--flagfile={flagfile}"])
    return run_settings_module.run_from_flags(values)


def _export(run: RunSettings, workdir: pathlib.Path):
    """A model of these settings with its first weights, and its export opened."""
    workdir.mkdir()
    model = networks.build_model(run, len(FAMILIES))
    data = {"dataset": "none", "protocol": "official"}
    workfolder.write_config(str(workdir), run, FAMILIES, data)
    best = tf.train.Checkpoint(model=model)
    snapshots.save(best, str(workdir / "best"), 1, {"epoch": 1}, keep=1)
    (workdir / workfolder.SUMMARY).write_text(json.dumps({"epochs": 1}))
    exporter.export(workfolder.load_run(str(workdir)), str(workdir / "export"))
    return model, Classifier.load(workdir)


def _librosa_classifier(run: RunSettings, model) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities of windows: front-end by librosa, then the exported network."""
    _, network = networks.split_model(model)
    folded = fold_batch_norm(network)

    @tf.function(reduce_retracing=True)
    def infer(log_mel: tf.Tensor) -> tf.Tensor:
        logits, _ = folded(log_mel, training=False)
        return tf.nn.softmax(logits)

    def answer(windows: np.ndarray) -> np.ndarray:
        decibels = librosa_decibels(windows, run.frontend)
        return infer(1.0 + 2.0 * decibels / run.frontend.top_db).numpy()

    return answer


def _difference(
    classifier: Classifier,
    answer: Callable[[np.ndarray], np.ndarray],
    path: pathlib.Path,
) -> float:
    """How far apart both are on a file; `passing.weight` says how windows count."""
    ours = np.array(list(classifier(path).probabilities.values()))
    windows = _windows(path)
    weights = [passing.weight(window) for window in windows]
    theirs = np.average(answer(windows), axis=0, weights=weights)
    return float(np.abs(theirs - ours).max())


def _windows(path: pathlib.Path) -> np.ndarray:
    """A file of whole windows, float32 [windows, 64000]."""
    waveform, _ = soundfile.read(path, dtype="float32")
    return waveform.reshape(-1, NOTE_SAMPLES)


def _alternative(
    answer: Callable[[np.ndarray], np.ndarray],
    files: Sequence[pathlib.Path],
    run: RunSettings,
    batch_size: int,
) -> None:
    """Reads and answers all windows of 4 s of the files."""
    waiting: list[np.ndarray] = []
    for path in files:
        waiting.extend(_windows(path))
        while len(waiting) >= batch_size:
            answer(np.stack(waiting[:batch_size]))
            del waiting[:batch_size]
    if waiting:
        answer(np.stack(waiting))


def _write_files(
    settings: BenchmarkSettings, notes: Notes, folder: pathlib.Path
) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """One long WAV file of notes in a row, and many of one note each."""
    (folder / "short").mkdir(parents=True)
    windows = round(settings.long_minutes * 60 * SAMPLE_RATE / NOTE_SAMPLES)
    waveforms, _ = notes.batch(max(windows, settings.short_files))
    long_file = folder / "long.wav"
    soundfile.write(long_file, waveforms[:windows].reshape(-1), SAMPLE_RATE)
    short_files = []
    for number in range(settings.short_files):
        path = folder / "short" / f"{number:04d}.wav"
        soundfile.write(path, waveforms[number], SAMPLE_RATE)
        short_files.append(path)
    return long_file, short_files
