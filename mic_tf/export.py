"""Exports the trained model of a work folder for use by other programs.

  python -m mic_tf.export --workdir=runs/phase4 [--out=DIR]

Writes a SavedModel (waveform in, families out; needs TensorFlow alone), TFLite files
(`--tflite=float32,float16,int8`), the labels and `contract.json`, by default into the
work folder's `export`. `--weights` adds the weights as they were trained, from which
`train --init_from=DIR` goes on, on other classes too. `--familiarity` lets `predict
--min_familiarity` tell what is unlike all notes of training.

  python -m mic_tf.export --workdir=pretrained --out=phone --tflite=float16

exports an export again that has its weights: other files, or those of an earlier
program. What it tells of familiarity is kept.
"""

import os

from absl import flags, logging

from mic_tf import command
from mic_tf.errors import UserError


def define_flags() -> None:
    flags.DEFINE_string(
        "workdir",
        "",
        "Work folder of the run, or an export with weights (`pretrained`: the bundled "
        "model).",
    )
    flags.DEFINE_string(
        "out",
        "",
        "Folder of the export; default: WORKDIR/export; needed where --workdir is an "
        "export.",
    )
    flags.DEFINE_list(
        "tflite",
        ["float32"],
        "TFLite files to write beside the SavedModel: any of float32, float16, int8, "
        "comma-separated; empty: none. int8 reads notes of the training split.",
    )
    flags.DEFINE_bool(
        "weights",
        False,
        "Write the trained weights too, so that others can train --init_from the "
        "export.",
    )
    flags.DEFINE_bool(
        "familiarity",
        False,
        "Write embeddings of training notes, by which `predict --min_familiarity` "
        "tells what is unlike them. Reads training and validation notes.",
    )
    flags.DEFINE_string(
        "data_dir",
        "",
        "Folder of the prepared data sets for int8 and --familiarity; default: the "
        "run's.",
    )


def main(arguments: list[str]) -> None:
    if arguments:
        raise UserError(f"{arguments[0]}: unexpected argument; flags begin with --")
    workdir = flags.FLAGS.workdir
    if not workdir:
        raise UserError("--workdir: missing; give the work folder of a trained run")

    kinds = flags.FLAGS.tflite
    unknown = sorted(set(kinds) - {"float32", "float16", "int8"})
    if unknown:
        raise UserError(f"--tflite={unknown[0]}: float32, float16 or int8 expected")

    data_dir = flags.FLAGS.data_dir
    if data_dir and "int8" not in kinds and not flags.FLAGS.familiarity:
        raise UserError(
            f"--data_dir={data_dir}: no notes are needed without --tflite=int8 or "
            "--familiarity"
        )

    from mic_tf import files
    from mic_tf.serving import again, exporter, training_notes
    from mic_tf.training import workfolder

    out = flags.FLAGS.out or files.join(workdir, workfolder.EXPORT)
    files.register_file_systems(workdir, out, data_dir)
    results = familiarity = None
    exported = again.open_export(workdir.rstrip("/"))
    if exported:
        run, results = exported.run, exported.results
        familiarity = exported.familiarity
        source = os.path.realpath(run.workdir)
        if not flags.FLAGS.out or os.path.realpath(out) == source:
            raise UserError(
                f"--out={flags.FLAGS.out}: another folder expected; an export is not "
                "written over itself"
            )
    else:
        run = workfolder.load_run(workdir.rstrip("/"))
    int8 = "int8" in kinds
    notes = training_notes.representative_notes(run, data_dir) if int8 else []
    if familiarity:
        logging.info("familiarity: that of %s is kept", workdir)
    elif flags.FLAGS.familiarity:
        familiarity = training_notes.familiarity(run, data_dir)
    exporter.export(
        run,
        out,
        tflite_kinds=kinds,
        notes=notes,
        weights=flags.FLAGS.weights,
        familiarity=familiarity,
        results=results,
    )
    command.say(f"exported to {out}")


def cli() -> None:
    define_flags()
    command.run(main)


if __name__ == "__main__":
    cli()
