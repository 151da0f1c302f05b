"""Several prepared sets as one: extra notes beside those that are divided and tested.

The main set keeps its rows and its protocol. The notes of the extra sets come behind
them, only ever to train on, and get the share of the drawn notes that the settings
say, whatever the sizes of the sets.
"""

from collections.abc import Sequence

import numpy as np

from mic_tf.errors import UserError
from mic_tf.pipeline.batches import Records
from mic_tf.pipeline.index import NoteIndex
from mic_tf.pipeline.splits import Partition


def join(main: Records, extras: Sequence[Records]) -> Records:
    """The records of all sets, the main one's first, as one set.

    Args:
      main: the set that is divided into train, valid and test.
      extras: sets to train on as well.

    Returns:
      Records whose index counts instruments and splits through; families are those
      of the main set.

    Raises:
      UserError: sets with different families or different storage of audio.
    """
    if not extras:
        return main
    parts = [main, *extras]
    for part in extras:
        if part.index.families != main.index.families:
            raise UserError(
                "--extra_datasets: families "
                f"{', '.join(part.index.families)}; those of the main set expected: "
                f"{', '.join(main.index.families)}"
            )
        if part.audio_is_float != main.audio_is_float:
            raise UserError(
                "--extra_datasets: one set stores audio as floats, another as 16-bit "
                "PCM; sets of one kind expected"
            )
    offsets = _starts([len(part.index.instruments) for part in parts])
    return Records(
        _join_indexes([part.index for part in parts], offsets),
        tuple(path for part in parts for path in part.paths),
        main.audio_is_float,
        instrument_offset=np.repeat(offsets, [len(part.index) for part in parts]),
    )


def extend(partition: Partition, extras: Sequence[NoteIndex]) -> Partition:
    """The main set's partition over the joined rows; extra notes are all in train."""
    trained = np.concatenate([index.usable for index in extras] or [np.empty(0, bool)])
    return Partition(
        partition.protocol,
        {
            name: np.concatenate([part, trained & (name == "train")])
            for name, part in partition.parts.items()
        },
        np.concatenate([partition.heard, trained]),
    )


def _join_indexes(indexes: Sequence[NoteIndex], offsets: np.ndarray) -> NoteIndex:
    main = indexes[0]
    sources = tuple(dict.fromkeys(name for i in indexes for name in i.sources))
    splits, file_split = [], []
    for number, index in enumerate(indexes):
        file_split.append(index.file_split + len(splits))
        prefix = f"extra{number}/" if number else ""
        splits += [prefix + name for name in index.split_names]
    return NoteIndex(
        families=main.families,
        instruments=tuple(name for i in indexes for name in i.instruments),
        sources=sources,
        split_names=tuple(splits),
        file_names=tuple(name for i in indexes for name in i.file_names),
        file_sizes=np.concatenate([i.file_sizes for i in indexes]),
        file_notes=np.concatenate([i.file_notes for i in indexes]),
        file_split=np.concatenate(file_split).astype(np.int8),
        file_lost=np.concatenate([i.file_lost for i in indexes]),
        ids=np.concatenate([i.ids for i in indexes]),
        family=np.concatenate([i.family for i in indexes]),
        instrument=np.concatenate(
            [i.instrument + o for i, o in zip(indexes, offsets, strict=True)]
        ).astype(np.int32),
        source=np.concatenate(
            [np.array([sources.index(n) for n in i.sources])[i.source] for i in indexes]
        ).astype(np.int8),
        pitch=np.concatenate([i.pitch for i in indexes]),
        velocity=np.concatenate([i.velocity for i in indexes]),
        faulty=~np.concatenate([i.usable for i in indexes]),
    )


def _starts(sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
