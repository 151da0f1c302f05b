"""NSynth in small: archives as the publisher writes them, with a few notes in each."""

import gzip
import io
import json
import os
import tarfile
import tempfile
import wave
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mic_tf.taxonomy import FAMILIES, SOURCES

NOTE_SAMPLES = 64_000


def tone(pitch: int, seed: int = 0) -> np.ndarray:
    """A decaying sine with a little noise, int16 [64000]."""
    time = np.arange(NOTE_SAMPLES) / 16_000
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    noise = np.random.default_rng(seed).normal(0, 0.01, NOTE_SAMPLES)
    waveform = 0.5 * np.sin(2 * np.pi * frequency * time) * np.exp(-time) + noise
    return np.round(waveform * 32767 * 0.9).astype(np.int16)


def wav(
    samples: np.ndarray, rate: int = 16_000, channels: int = 1, width: int = 2
) -> bytes:
    """A PCM WAV file of interleaved samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def entry(instrument: str, pitch: int, velocity: int) -> dict[str, Any]:
    """One entry of examples.json."""
    family, source = instrument.rsplit("_", maxsplit=2)[:2]
    return {
        "note": 0,
        "note_str": f"{instrument}-{pitch:03d}-{velocity:03d}",
        "instrument": 0,
        "instrument_str": instrument,
        "instrument_family": FAMILIES.index(family) if family in FAMILIES else 0,
        "instrument_family_str": family,
        "instrument_source": SOURCES.index(source),
        "instrument_source_str": source,
        "pitch": pitch,
        "velocity": velocity,
        "sample_rate": 16_000,
        "qualities": [1, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        "qualities_str": ["bright", "tempo-synced"],
    }


def split_members(split: str, instruments: list[str], notes: int) -> dict[str, bytes]:
    """Members of a jsonwav archive by name: examples.json and WAV files.

    Args:
      split: train, valid or test.
      instruments: their names.
      notes: of each instrument.
    """
    table, waves = {}, {}
    for instrument in instruments:
        for i in range(notes):
            note = entry(instrument, 40 + i, 100)
            name = note["note_str"]
            table[name] = note
            waves[f"nsynth-{split}/audio/{name}.wav"] = wav(tone(40 + i, i))
    examples = json.dumps(table).encode()
    return {f"nsynth-{split}/examples.json": examples, **waves}


def write_jsonwav(
    folder: str | os.PathLike,
    split: str,
    members: Mapping[str, bytes],
    damage: Callable[[bytes], bytes] = bytes,
) -> str:
    """Writes `nsynth-<split>.jsonwav.tar.gz`; returns its path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path = os.path.join(folder, f"nsynth-{split}.jsonwav.tar.gz")
    with open(path, "wb") as file:
        file.write(damage(gzip.compress(buffer.getvalue(), compresslevel=1)))
    return path


def write_unpacked(folder: str | os.PathLike, members: Mapping[str, bytes]) -> None:
    """Writes the members as the files that an archive unpacks to."""
    for name, content in members.items():
        path = os.path.join(folder, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def write_tfds_cache(download_dir: str | os.PathLike, notes: int = 3) -> None:
    """Fills TFDS's download cache with NSynth's TFRecord archives in small.

    Three `nsynth-<split>.tfrecord.tar` and the instruments' names lie there under the
    names that TFDS gives to the published files, so its own `nsynth` builder takes
    them for those.

    Args:
      download_dir: the `downloads` folder.
      notes: notes of each family in each split.
    """
    import tensorflow_datasets as tfds

    url_infos = tfds.builder_cls("nsynth").url_infos
    names = [f"{family}_acoustic_{i:03d}" for i in range(92) for family in FAMILIES]
    for url, info in url_infos.items():
        split = info.filename.removeprefix("nsynth-").removesuffix(".tfrecord.tar")
        if info.filename.endswith(".tfrecord.tar"):
            number = ("train", "valid", "test").index(split)
            used = names[number * len(FAMILIES) :][: len(FAMILIES)]
            content = _tfrecord_tar(split, used, notes)
        elif info.filename.endswith("labels.txt"):
            content = "\n".join(names[:1006]).encode() + b"\n"
        else:
            continue
        _put_into_cache(download_dir, url, info, content)


def _put_into_cache(download_dir, url: str, info, content: bytes) -> None:
    from tensorflow_datasets.core.download import resource

    folder = os.path.join(download_dir, "nsynth")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, resource.get_dl_fname(url, info.checksum))
    with open(path, "wb") as file:
        file.write(content)
    about = {
        "dataset_names": ["nsynth"],
        "original_fname": info.filename,
        "url_info": {"size": info.size, "checksum": info.checksum},
        "urls": [url],
    }
    with open(f"{path}.INFO", "w", encoding="utf-8") as file:
        json.dump(about, file)


def _tfrecord_tar(split: str, instruments: list[str], notes: int) -> bytes:
    import tensorflow as tf

    name = f"nsynth-{split}.tfrecord"
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with tf.io.TFRecordWriter(path) as writer:
            for instrument in instruments:
                for i in range(notes):
                    writer.write(_tf_example(instrument, 40 + i).SerializeToString())
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(path, name)
    return buffer.getvalue()


def _tf_example(instrument: str, pitch: int):
    import tensorflow as tf

    note = entry(instrument, pitch, 100)

    def text(value: str) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    def whole(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    audio = tone(pitch).astype(np.float32) / 32768
    strings = ("note_str", "instrument_str", "instrument_family_str")
    feature = {key: text(note[key]) for key in (*strings, "instrument_source_str")}
    for key in ("pitch", "velocity", "note", "instrument", "sample_rate"):
        feature[key] = whole(note[key])
    feature["qualities"] = whole(*note["qualities"])
    feature["audio"] = tf.train.Feature(float_list=tf.train.FloatList(value=audio))
    return tf.train.Example(features=tf.train.Features(feature=feature))
