r"""How many planted faults the audit finds, and what it finds besides.

  python tools/planted_table.py
  python tools/planted_table.py --dataset=nsynth_jsonwav --data_dir=data

Takes notes, generated ones or those of a prepared data set, plants `--count` faults of
every kind of the audit at random strengths, each into a note that it says nothing of,
writes all as a data set in a temporary folder, and audits that. Prints one row for each
kind; `invented` are findings that were neither planted nor there before. NaN cannot be
in 16-bit records, so they are planted when all others are done, into the same notes as
float records.
"""

import pathlib
import sys
import tempfile
from typing import TYPE_CHECKING

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError

if TYPE_CHECKING:
    from mic_tf.pipeline.batches import Records
    from tools.planting import Found
    from tools.small_sets import Note


def define_flags() -> None:
    flags.DEFINE_string("dataset", "", "A prepared set; default: generated.")
    flags.DEFINE_string(
        "data_dir", "~/tensorflow_datasets", "Folder of the prepared data sets."
    )
    flags.DEFINE_integer("count", 20, "Faults of every kind.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of the choice of notes and strengths.")


def main(arguments: list[str]) -> None:
    """Prints the table."""
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    flag = flags.FLAGS
    with tempfile.TemporaryDirectory() as folder:
        if flag.dataset:
            splits = notes_of(flag.dataset, flag.data_dir)
        else:
            splits = generated(flag.count)
        lines = table(splits, pathlib.Path(folder), flag.count, flag.seed)
    print(*lines, sep="\n")


def generated(count: int) -> "dict[str, list[Note]]":
    """Clean notes of two splits, enough for so many faults of every kind."""
    from tools.planting import clean_splits

    families = ("flute", "guitar", "organ", "reed", "string")
    instruments = {"train": range(2 * count), "valid": range(2 * count, 3 * count)}
    return clean_splits(families, instruments, range(48, 60, 3))


def notes_of(dataset: str, data_dir: str) -> "dict[str, list[Note]]":
    """All notes of a prepared data set, by split."""
    import numpy as np

    from mic_tf.datasets import catalogue, schema
    from mic_tf.evaluation import sounds
    from mic_tf.pipeline import batches

    records = batches.open_records(catalogue.load_builder(dataset, data_dir))
    index = records.index
    waveforms = sounds.read_notes(records, np.arange(len(index)))
    splits: dict[str, list[Note]] = {name: [] for name in index.split_names}
    for row, waveform in sorted(waveforms.items()):
        note = schema.record(
            str(index.ids[row]),
            waveform,
            instrument=index.instruments[index.instrument[row]],
            family=index.families[index.family[row]],
            source=index.sources[index.source[row]],
            pitch=int(index.pitch[row]),
            velocity=int(index.velocity[row]),
        )
        splits[index.split_names[index.note_split[row]]].append(note)
    return {name: notes for name, notes in splits.items() if notes}


def table(
    splits: "dict[str, list[Note]]", folder: pathlib.Path, count: int, seed: int
) -> list[str]:
    """Plants, audits and compares.

    Args:
      splits: notes by split.
      folder: an empty one, for the data sets.
      count: faults of every kind.
      seed: of what is planted where.

    Returns:
      Lines of Markdown.
    """
    from tools import small_sets
    from tools.planting import Planting

    known = audited(_written(folder / "clean", splits))
    planting = Planting(splits, known, seed)
    planting.plant(count)
    records = _written(folder / "planted", planting.splits)
    small_sets.cut_short(records, planting.cut)
    found = audited(records)
    planting.expected["not_finite"] = {frozenset({n}) for n in planting.not_finite}
    spoilt = audited(small_sets.as_float(records, planting.not_finite))
    same = {**found, "not_finite": spoilt.get("not_finite", set())} == spoilt
    total = sum(len(notes) for notes in splits.values())
    said = sum(map(len, known.values()))
    return [
        f"{total:,} notes, of which the audit says {said} things as they are; "
        f"{count} faults of every kind, seed {seed}",
        "",
        *rows(planting.expected, known, spoilt),
        "",
        f"the same notes as float records: {'the same' if same else 'other'} findings",
    ]


def audited(records: "Records") -> "Found":
    """What the audit says of a data set."""
    import numpy as np

    from mic_tf.evaluation import audit, measures
    from tools.planting import by_kind

    everything = np.ones(len(records.index), bool)
    measured = measures.measure(records, everything)
    return by_kind(records.index, audit.find(records.index, measured))


def rows(expected: "Found", known: "Found", found: "Found") -> list[str]:
    """One row for each kind.

    Args:
      expected: what was planted.
      known: what was found before that.
      found: what is found now.
    """
    from mic_tf.evaluation.audit import KINDS

    lines = ["| kind | planted | found | invented | recall | precision |"]
    lines.append("| --- " * 6 + "|")
    for kind in KINDS:
        planted = expected.get(kind, set())
        said = found.get(kind, set())
        hits = len(said & planted)
        invented = len(said - planted - known.get(kind, set()))
        recall = f"{hits / len(planted):.2f}" if planted else "-"
        precision = f"{hits / (hits + invented):.2f}" if hits + invented else "-"
        cells = (kind, len(planted), hits, invented, recall, precision)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _written(folder: pathlib.Path, splits: "dict[str, list[Note]]") -> "Records":
    from mic_tf import taxonomy
    from mic_tf.pipeline import batches
    from tools import small_sets

    families = {
        note["instrument"]["family"] for part in splits.values() for note in part
    }
    names = taxonomy.label_names(families)
    return batches.open_records(
        small_sets.write_dataset(folder, splits, families=names)
    )


if __name__ == "__main__":
    define_flags()
    command.run(main)
