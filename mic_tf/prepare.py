"""Prepares a data set: reads a source once and writes TFDS records.

    python -m mic_tf.prepare --dataset=soundfont_notes
    python -m mic_tf.prepare --dataset=nsynth_jsonwav --source=FOLDER_WITH_ARCHIVES
    python -m mic_tf.prepare --dataset=sample_folder/mine --source=FOLDER_OR_CSV
    python -m mic_tf.prepare --dataset=nsynth/full --beam_options=runner=DirectRunner

Run again it reuses what is there; interrupted it starts cleanly again. README says
what each data set reads.
"""

import os

from absl import flags

from mic_tf import command
from mic_tf.datasets import names
from mic_tf.errors import UserError

_DATASET = flags.DEFINE_string(
    "dataset",
    "soundfont_notes",
    "nsynth/full, nsynth/gansynth_subset, nsynth_jsonwav, soundfont_notes or "
    "sample_folder; a label of your own behind ours (sample_folder/mine) keeps several "
    "preparations apart.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    "~/tensorflow_datasets",
    "Folder of the prepared data sets (local, gs://, s3://).",
)
_SOURCE = flags.DEFINE_string(
    "source",
    "",
    "nsynth_jsonwav: folder with nsynth-<split>.jsonwav.tar.gz or the folders they "
    "unpack to. sample_folder: folder of FAMILY/INSTRUMENT/*.wav (or flac, mp3, ogg, "
    "aiff; FAMILY/*.wav are an instrument each; also below train/, valid/, test/), or "
    "a CSV file with the columns file,family[,instrument,pitch,velocity,split]. "
    "nsynth: folder with archives that you downloaded yourself.",
)
_SOUNDFONT = flags.DEFINE_list(
    "soundfont",
    "",
    "soundfont_notes: SF2 or SF3 files, separated by commas; default: TimGM6mb.",
)
_MAX_NOTES = flags.DEFINE_integer(
    "max_notes",
    12_000,
    "soundfont_notes: notes of the train split; valid and test get an eighth each.",
    lower_bound=8,
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "soundfont_notes: chooses notes and deals instruments to splits.",
    lower_bound=0,
)
_UNIFORM = flags.DEFINE_bool(
    "uniform",
    False,
    "soundfont_notes: as many notes of each family, instead of NSynth's proportions.",
)
_BEAM = flags.DEFINE_bool(
    "beam",
    False,
    "Make the records with Apache Beam, on many processes or hosts; they are the same "
    "as without. nsynth always does.",
)
_BEAM_OPTIONS = flags.DEFINE_string(
    "beam_options",
    "",
    "nsynth, and others with --beam: options of the Beam pipeline, separated by commas "
    "or spaces, as runner=DirectRunner,direct_num_workers=4.",
)
_SKIP_BAD = flags.DEFINE_bool(
    "skip_bad",
    False,
    "Leave out what cannot be used, count it and list it in left_out.csv beside the "
    "records, instead of ending at the first fault.",
)
_NUM_SHARDS = flags.DEFINE_integer(
    "num_shards", 0, "Record files of each split; 0: by size.", lower_bound=0
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Prepare a set anew that is there, from whatever it was made; on a disk the old "
    "one waits aside until the new one is whole.",
)
_FAMILY_SHARDS = flags.DEFINE_bool(
    "family_shards",
    False,
    "Also write record files of one family each beside the set, for train "
    "--balance=streams; they need its size once more.",
)

_RENDERED_FROM = ("soundfont", "max_notes", "seed", "uniform")
_ONLY_FOR = {
    "source": ("nsynth_jsonwav", "sample_folder", "nsynth"),
    **dict.fromkeys(_RENDERED_FROM, ("soundfont_notes",)),
    "beam": names.OWN,
    "skip_bad": ("nsynth_jsonwav", "sample_folder"),
}


def main(arguments: list[str]) -> None:
    """Prepares the data set that the flags name, and prints a table of its notes."""
    if arguments:
        raise UserError(f"{arguments[0]}: prepare takes flags only (see --help)")
    name = names.parse_name(_DATASET.value)
    _refuse_flags_of_others(name.dataset)

    from mic_tf import files
    from mic_tf.datasets import catalogue
    from mic_tf.datasets.report import table
    from mic_tf.pipeline import family_shards, index

    files.register_file_systems(_DATA_DIR.value)
    if name.dataset == "sample_folder" and not files.is_remote(_DATA_DIR.value):
        _refuse_sets_among_classes()
    _prepare(name)
    builder = catalogue.load_builder(_DATASET.value, _DATA_DIR.value)
    command.say(table(index.load(builder)))
    if _FAMILY_SHARDS.value:
        family_shards.write(builder)
    command.say(f"prepared: {builder.data_dir}")


def _prepare(name: names.DatasetName) -> None:
    import importlib

    from mic_tf.datasets import preparation

    if name.dataset == "nsynth":
        from mic_tf.datasets import nsynth

        nsynth.prepare(
            name,
            _DATA_DIR.value,
            downloads=_SOURCE.value,
            beam_options=_BEAM_OPTIONS.value,
            num_shards=_NUM_SHARDS.value,
            overwrite=_OVERWRITE.value,
        )
        return
    module = importlib.import_module(
        f"mic_tf.datasets.{name.dataset}.{name.dataset}_dataset_builder"
    )
    preparation.prepare(
        module.Builder,
        name,
        _DATA_DIR.value,
        source_given=_source_given(name.dataset),
        num_shards=_NUM_SHARDS.value,
        overwrite=_OVERWRITE.value,
        skip_bad=_SKIP_BAD.value,
        beam=_BEAM_OPTIONS.value if _BEAM.value else None,
        **_source_of(name.dataset),
    )


def _source_given(dataset: str) -> bool:
    """Whether a set that is there is to be of this source, or made anew of it."""
    if dataset != "soundfont_notes":
        return bool(_SOURCE.value)
    given = any(flags.FLAGS[flag].present for flag in _RENDERED_FROM)
    return given or _OVERWRITE.value


def _source_of(dataset: str) -> dict:
    if dataset == "soundfont_notes":
        return {
            "soundfonts": tuple(map(os.path.expanduser, _SOUNDFONT.value)),
            "train_notes": _MAX_NOTES.value,
            "seed": _SEED.value,
            "uniform": _UNIFORM.value,
        }
    return {"source": _SOURCE.value}


def _refuse_flags_of_others(dataset: str) -> None:
    for flag, datasets in _ONLY_FOR.items():
        if flags.FLAGS[flag].present and dataset not in datasets:
            raise UserError(f"--{flag} has no meaning for --dataset={dataset}")
    if _BEAM_OPTIONS.value and not _BEAM.value and dataset != "nsynth":
        raise UserError(f"--beam_options: for --dataset={dataset} only with --beam")


def _refuse_sets_among_classes() -> None:
    """Folders of prepared sets would be taken for classes at the next time."""
    source, data_dir = map(os.path.realpath, (_SOURCE.value, _DATA_DIR.value))
    is_folder = bool(_SOURCE.value) and os.path.isdir(source)
    if is_folder and os.path.commonpath([source, data_dir]) == source:
        raise UserError(
            f"--data_dir={_DATA_DIR.value} lies in --source={_SOURCE.value}, whose "
            "folders are classes; one outside of it expected"
        )


def cli() -> None:
    command.run(main)


if __name__ == "__main__":
    cli()
