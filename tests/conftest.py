"""Small prepared data sets, made by the tests that use them."""

import gc
import os
import pathlib
import re
from collections.abc import Callable, Iterator

# As `command.set_environment` does for every command.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mic_tf import taxonomy
from mic_tf.datasets import schema
from mic_tf.model import networks
from mic_tf.serving import exporter
from mic_tf.settings import NetworkSettings, RunSettings
from mic_tf.training import snapshots, workfolder
from tools.small_sets import Note, write_dataset

SHARED_DATA = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data"


def make_note(
    family: str, instrument: int, pitch: int, *, seed: int = 0, families=None
) -> Note:
    """A record whose sound depends on its family: a decaying stack of partials."""
    names = families or taxonomy.FAMILIES
    random = np.random.default_rng([seed, names.index(family), instrument, pitch])
    time = np.arange(taxonomy.NOTE_SAMPLES) / taxonomy.SAMPLE_RATE
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    brightness = 0.3 + 0.06 * names.index(family)
    waveform = sum(
        brightness**k * np.sin(2 * np.pi * frequency * k * time + random.uniform(0, 6))
        for k in range(1, 6)
    )
    waveform *= np.exp(-time * (0.2 + 0.3 * names.index(family)))
    waveform += 0.001 * random.standard_normal(len(time))
    audio = np.round(12_000 * waveform / np.abs(waveform).max()).astype(np.int16)
    name = f"{family}_acoustic_{instrument:03d}"
    return schema.record(
        f"{name}-{pitch:03d}-100",
        audio,
        instrument=name,
        family=family,
        source="acoustic",
        pitch=pitch,
        velocity=100,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left alone with one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def own_lines(stderr: str) -> list[str]:
    """Lines of a command's standard error without those of TensorFlow 2.21 itself.

    It writes a few at its import, whatever TF_CPP_MIN_LOG_LEVEL says.
    """
    noise = re.compile(r"[IWE]\d{4} |WARNING: All log messages before absl")
    lines = stderr.strip().splitlines()
    return [line for line in lines if not noise.match(line)]


@pytest.fixture(autouse=True, scope="module")
def no_iterator_grows_old() -> Iterator[None]:
    """Collects what a file of tests left.

    The end of a distributed iterator takes the longer the older it is, up to a minute.
    """
    yield
    gc.collect()


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory) -> Callable[[], tfds.core.DatasetBuilder]:
    """Four families: 36 training notes (18, 9, 6, 3), 12 valid, 12 test."""
    folder = tmp_path_factory.mktemp("small")
    counts = {"bass": 18, "guitar": 9, "organ": 6, "vocal": 3}
    splits = {
        "train": [
            make_note(family, i % 3, 40 + i)
            for family, n in counts.items()
            for i in range(n)
        ],
        "valid": [make_note(f, 7, 45 + i) for f in counts for i in range(3)],
        "test": [make_note(f, 8, 45 + i) for f in counts for i in range(3)],
    }
    return write_dataset(folder, splits)


@pytest.fixture(scope="session")
def nsynth_mini() -> pathlib.Path:
    """Real NSynth notes in the publisher's archives, where they are at hand."""
    folder = SHARED_DATA / "nsynth-mini"
    if not folder.is_dir():
        pytest.skip("no real NSynth notes at hand (shared/data/nsynth-mini)")
    return folder


@pytest.fixture(scope="session")
def tiny_workdir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A work folder of a small network with random weights, all of which matter.

    BatchNorm's statistics are random too: an export that ignores them differs.
    """
    settings = RunSettings(network=NetworkSettings(width=8, dense_units=16))
    model = networks.build_model(settings, len(taxonomy.FAMILIES))
    random = np.random.default_rng(0)
    for layer in model.layers:
        shapes = [weight.shape for weight in layer.get_weights()]
        if "norm" in layer.name:
            layer.set_weights([random.uniform(0.5, 1.5, shape) for shape in shapes])
        elif shapes:
            scales = [1.0 / np.sqrt(np.prod(shape[:-1])) for shape in shapes]
            pairs = zip(scales, shapes, strict=True)
            layer.set_weights([random.normal(0, *pair) for pair in pairs])
    workdir = tmp_path_factory.mktemp("run")
    data = {"dataset": "soundfont_notes:1.0.0", "protocol": "official"}
    workfolder.write_config(str(workdir), settings, taxonomy.FAMILIES, data)
    best = tf.train.Checkpoint(model=model)
    snapshots.save(best, str(workdir / "best"), 1, {"epoch": 1}, keep=1)
    (workdir / "calibration.json").write_text('{"temperature": 1.7}')
    (workdir / "summary.json").write_text('{"epochs": 1}')
    return workdir


@pytest.fixture(scope="session")
def tiny_export(tiny_workdir: pathlib.Path) -> pathlib.Path:
    """The export of `tiny_workdir`."""
    out = tiny_workdir / "export"
    exporter.export(workfolder.load_run(str(tiny_workdir)), str(out))
    return out
