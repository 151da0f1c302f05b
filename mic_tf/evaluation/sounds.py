"""Audio out of prepared records as it stands there, faulty or not.

Training refuses records with a wrong length or NaN; whoever looks for such faults has
to be able to read them.
"""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from mic_tf.pipeline.batches import Records, faults_named
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.tracing import as_written

_FILES_AT_ONCE = 8


@as_written
def raw_notes(records: Records, selected: np.ndarray) -> tf.data.Dataset:
    """The selected notes once, several files at a time.

    Args:
      records: the data set.
      selected: bool [notes].

    Returns:
      Dictionaries: `row` of the note index, int64; `digest`, a 64-bit hash of the
      stored audio, int64; `samples`, the stored length, int64; `waveform`, float32
      [64000] in [-1, 1], cut or filled up with zeros, as stored otherwise.
    """
    index = records.index
    starts = tf.constant(index.file_starts)
    lengths = tf.constant(index.file_notes)
    paths = tf.constant(records.paths)
    wanted = tf.constant(selected)
    counts = np.add.reduceat(np.append(selected, False), index.file_starts)
    needed = np.flatnonzero((counts > 0) & (index.file_notes > 0))

    def of_file(number: tf.Tensor) -> tf.data.Dataset:
        start = tf.gather(starts, number)
        rows = tf.data.Dataset.range(start, start + tf.gather(lengths, number))
        serialized = tf.data.TFRecordDataset(tf.gather(paths, number))
        pairs = tf.data.Dataset.zip((rows, serialized))
        return pairs.filter(lambda row, _: tf.gather(wanted, row))

    dataset = tf.data.Dataset.from_tensor_slices(needed.astype(np.int64))
    dataset = dataset.interleave(
        of_file, cycle_length=_FILES_AT_ONCE, num_parallel_calls=tf.data.AUTOTUNE
    )
    parse = _parse_float if records.audio_is_float else _parse_pcm16
    return dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def read_notes(records: Records, rows: Iterable[int]) -> dict[int, np.ndarray]:
    """A few notes by their rows: int16 [64000] each; NaN becomes 0."""
    selected = np.zeros(len(records.index), bool)
    selected[list(rows)] = True
    if not selected.any():
        return {}
    with faults_named(records):
        return {
            int(note["row"]): pcm16(note["waveform"])
            for note in raw_notes(records, selected).as_numpy_iterator()
        }


def pcm16(waveform: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as 16-bit ones."""
    scaled = np.round(np.nan_to_num(waveform, posinf=1.0, neginf=-1.0) * 32768.0)
    return np.clip(scaled, -32768, 32767).astype(np.int16)


def _parse_pcm16(row: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    feature = {"audio": tf.io.FixedLenFeature([], tf.string)}
    audio = tf.io.parse_single_example(serialized, feature)["audio"]
    # An odd last byte is no sample.
    even = tf.strings.substr(audio, 0, tf.strings.length(audio) // 2 * 2)
    samples = tf.cast(tf.io.decode_raw(even, tf.int16), tf.float32) / 32768.0
    return _note(row, tf.fingerprint([audio]), samples)


def _parse_float(row: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    feature = {
        "audio": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)
    }
    samples = tf.io.parse_single_example(serialized, feature)["audio"]
    return _note(row, tf.fingerprint(samples[tf.newaxis]), samples)


def _note(
    row: tf.Tensor, digest: tf.Tensor, samples: tf.Tensor
) -> dict[str, tf.Tensor]:
    length = tf.size(samples, out_type=tf.int64)
    kept = samples[:NOTE_SAMPLES]
    filled = tf.pad(kept, [[0, NOTE_SAMPLES - tf.size(kept)]])
    return {
        "row": row,
        "digest": tf.bitcast(digest[0], tf.int64),
        "samples": length,
        "waveform": tf.ensure_shape(filled, [NOTE_SAMPLES]),
    }
