"""Writes the model card of an exported model from what its run measured.

Usage:
  python tools/write_model_card.py --workdir=runs/best --data_dir=data \
      --model=mic_tf/pretrained

Every figure comes from the run's metrics.json files, its contract or the prepared
data; data whose licence is not known here is refused.
"""

import pathlib
import sys
from typing import Any

from absl import flags

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from mic_tf import command
from mic_tf.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", "", "Work folder of the run.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder of the prepared data sets.")
_MODEL = flags.DEFINE_string("model", "", "Folder of the export; the card goes there.")
_LARGEST = flags.DEFINE_float(
    "largest_mb", 10.0, "What the folder may have at most, in MB."
)

_NSYNTH = (
    "NSynth (Engel et al. 2017, *Neural Audio Synthesis of Musical Notes with WaveNet "
    "Autoencoders*)",
    "CC BY 4.0",
)
_DATASETS = {"nsynth": _NSYNTH, "nsynth_jsonwav": _NSYNTH}
_SOUNDFONTS = {
    "FluidR3_GM": ("FluidR3_GM (Frank Wen)", "MIT"),
    "MuseScore_General": (
        "MuseScore_General (S. Christian Collins, after Frank Wen and Michael Cowgill)",
        "MIT (parts in the public domain or CC0)",
    ),
    "GeneralUser": (
        "GeneralUser GS 1.471 (S. Christian Collins)",
        "GeneralUser GS License 2.0 (free use and changes, also in software; its "
        "author does not know for certain where every sample is from)",
    ),
    "sonivox": ("Sonivox EAS (Sonic Network)", "Apache-2.0"),
}
_MADE_OF_THESE = {
    "sample_folder/loops": (
        "the notes above as small samplers play them, a short piece looped after the "
        "attack (tools/write_looped_notes.py)"
    )
}
"""Data sets whose notes are others' notes, changed."""
_HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1")


def main(arguments: list[str]) -> None:
    """Writes MODEL_CARD.md and says where it is."""
    if arguments or not (_WORKDIR.value and _DATA_DIR.value and _MODEL.value):
        raise UserError("--workdir, --data_dir, --model: give all three, flags only")
    from mic_tf import files
    from mic_tf.serving import contract as contracts
    from mic_tf.training import workfolder

    contract = contracts.read(_MODEL.value)
    results = workfolder.evaluations(_WORKDIR.value)
    if not results:
        folder = pathlib.Path(_WORKDIR.value, workfolder.EVALUATION)
        raise UserError(f"{folder}: no metrics.json; evaluate the run first")
    _check_of_the_model(results, contract)
    parts = [
        _head(contract),
        _data(contract, _DATA_DIR.value),
        *(_result(result) for result in results),
        _limits(contract, results),
        _again(contract, _DATA_DIR.value),
    ]
    card = pathlib.Path(_MODEL.value, "MODEL_CARD.md")
    text = "\n\n".join(parts) + "\n"
    others = (p for p in card.parent.rglob("*") if p.is_file() and p != card)
    size = (sum(p.stat().st_size for p in others) + len(text.encode())) / 1e6
    if size > _LARGEST.value:
        raise UserError(f"{_MODEL.value}: {size:.1f} MB; {_LARGEST.value} at most")
    files.write_text(str(card), text)
    print(f"{card}: {size:.1f} MB with the model")


def _check_of_the_model(results: list[dict[str, Any]], contract) -> None:
    """Refuses figures of a run that the export was not made of."""
    for result in results:
        # Earlier programs did not write the temperature.
        temperature = result.get("temperature", contract.temperature)
        if (tuple(result["labels"]), temperature) != (
            contract.labels,
            contract.temperature,
        ):
            raise UserError(
                f"--workdir={_WORKDIR.value}: not the run that {_MODEL.value} was made "
                "of (other families or temperature); give that run"
            )


def _head(contract) -> str:
    training = contract.training
    members = len(training.get("members", [None]))
    several = f"{members} side by side, " if members > 1 else ""
    versions = ", ".join(f"{name} {v}" for name, v in contract.versions.items())
    input_is = contract.to_dict()["input"]
    seconds = (
        contract.to_dict()["windowing"]["window_samples"] / input_is["sample_rate"]
    )
    return "\n".join(
        [
            "# Model card",
            "",
            f"Says which of {len(contract.labels)} instrument families is the dominant "
            f"one in a sound: {', '.join(contract.labels)}.",
            "",
            "| | |",
            "| --- | --- |",
            f"| network | {contract.settings['network']['model']}, {several}on a "
            f"log-mel of {contract.settings['frontend']['n_mels']} bands, "
            f"{training['parameters']:,} parameters |",
            f"| input | mono, {input_is['sample_rate']:,} Hz; windows of "
            f"{seconds:.0f} s, their probabilities averaged, loud ones counting more |",
            f"| output | {len(contract.labels)} probabilities (temperature "
            f"{contract.temperature:.3f}) and an embedding of "
            f"{contract.embedding_width} values |",
            f"| weights for fine-tuning | {contract.weights or 'none'} |",
            f"| made with | {versions} |",
            f"| training | {training['epochs']} epochs, {_minutes(training)} |",
        ]
    )


def _minutes(training: dict[str, Any]) -> str:
    """How long it was trained, and each of the runs that it was made of."""
    total = f"{training['train_seconds'] / 60:.0f} minutes"
    runs = ", ".join(
        f"{run['workdir']} {run['train_seconds'] / 60:.0f}" for run in _runs(training)
    )
    return f"{total} ({runs})" if runs else total


def _runs(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The trained runs that something was made of; none where it is one itself."""
    parts = [*made.get("members", []), *made.get("averaged", [])]
    return [run for part in parts for run in _runs(part) or [part]]


def _data(contract, data_dir: str) -> str:
    data = contract.training["data"]
    names = [data["dataset"], *data.get("extra_datasets", [])]
    rows = [row for name in names for row in _sources(name, data_dir)]
    counts = data["train_notes_per_family"]
    listed = ", ".join(f"{name} {n:,}" for name, n in counts.items())
    extra = f" {_shares(contract)}" if names[1:] else ""
    return "\n".join(
        [
            "## Training data",
            "",
            "| data set | source | licence |",
            "| --- | --- | --- |",
            *(f"| {name} | {source} | {licence} |" for name, source, licence in rows),
            "",
            f"{sum(counts.values()):,} training notes ({listed}).{extra} A model "
            "trained on NSynth should name it, as this card does.",
        ]
    )


def _shares(contract) -> str:
    """How many of the notes drawn are of the extra sets, for each network."""
    of_all = contract.training["data"]["settings"]
    members = contract.training.get("members", [{"settings": of_all}])
    shares = [f"{each['settings']['extra_share']:.0%}" for each in members]
    networks = f" (network 1 to {len(shares)})" if shares[1:] else ""
    return (
        f"{', '.join(shares)} of the notes drawn{networks} are of the data sets behind "
        "the first."
    )


def _sources(full_name: str, data_dir: str) -> list[tuple[str, str, str]]:
    """Data set, source and licence of everything that a set was made from."""
    from mic_tf import files
    from mic_tf.datasets import names

    dataset = full_name.split("/")[0]
    if dataset in _DATASETS:
        return [(full_name, *_DATASETS[dataset])]
    made = _MADE_OF_THESE.get(names.without_version(full_name))
    if made:
        return [(full_name, made, "as theirs")]
    path = files.join(data_dir, full_name, "metadata.json")
    soundfonts = files.read_json(path)["settings"].get("soundfonts", {})
    found = []
    for name in soundfonts:
        known = [v for start, v in _SOUNDFONTS.items() if name.startswith(start)]
        if not known:
            raise UserError(
                f"{full_name}: the licence of {name} is not known to allow it; "
                f"{', '.join(_SOUNDFONTS)} are"
            )
        found.append((full_name, *known[0]))
    if not found:
        raise UserError(f"{full_name}: its licence is not known; leave it out")
    return found


def _result(result: dict[str, Any]) -> str:
    from mic_tf.evaluation import leakage, robustness_report, sections

    spread = result["intervals"]
    lines = [
        f"## Measured on {result['dataset']}, {result['split']}",
        "",
        f"Protocol {result['protocol']}: {result['protocol_words']}. {result['n']:,} "
        f"notes, {spread['instruments']} instruments, "
        f"{len(result['families_present'])} families.",
        "",
        "| figure | value | interval |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| {name.replace('_', ' ')} | {result[name]:.3f} | "
        f"{sections.interval_words(spread[name])} |"
        for name in _HEADLINE
    ]
    lines += [
        f"| expected calibration error | {result['ece']:.3f} | |",
        "",
        f"Intervals: {spread['method']}.",
    ]
    if spread["single_instrument_families"]:
        lines.append(sections.single_words(spread))
    if "leakage" in result:
        lines.append(f"{leakage.in_words(result['leakage']).capitalize()}.")
    further = [
        *sections.unchecked_words(result, places=False),
        *sections.reservations(result),
        *sections.excluded_words(result, places=False),
    ]
    lines += [f"{_sentence(words)}." for words in further]
    lines += ["", "| family | notes | recall | F1 |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {row['n']} | {row['recall']:.3f} | {row['f1']:.3f} |"
        for name, row in result["per_family"].items()
        if row["n"]
    ]
    if "effects" in result:
        effects = result["effects"]
        summary = robustness_report.words(effects)
        lines += [
            "",
            f"The same notes after effects: {summary}.",
            "",
            "| effect | what it does | accuracy | loss, points |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {e['name']} | {e['words']} | {e['accuracy']:.3f} | {e['loss']:.1f} |"
            for e in effects["rows"]
        ]
    return "\n".join(lines)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _limits(contract, results: list[dict[str, Any]]) -> str:
    measured = {name for result in results for name in result["families_present"]}
    unmeasured = [name for name in contract.labels if name not in measured]
    lines = [
        "## Limits",
        "",
        "- Single notes: of music it names the instrument that dominates a window.",
        "- Every sound gets one of the families, also what is none of them"
        + (
            f", unless `--min_familiarity=auto` is asked for ({least:.3f}, which 95 % "
            "of the validation notes reach)."
            if (least := contract.min_familiarity) is not None
            else "."
        ),
        "- The recipe was chosen with the notes measured here in view and the "
        "temperature was fitted on validation notes: expect a little less elsewhere.",
        "- The rendered notes are of sampled instruments, not of played ones.",
    ]
    if unmeasured:
        lines.append(f"- No note of {', '.join(unmeasured)} was in what is measured.")
    weak = [
        f"{name} ({result['per_family'][name]['recall']:.2f} on {result['dataset']})"
        for result in results
        for name in result["families_present"]
        if result["per_family"][name]["recall"] < 0.8
    ]
    if weak:
        lines.append(f"- Recall below 0.8: {', '.join(weak)}.")
    return "\n".join(lines)


def _again(contract, data_dir: str) -> str:
    from mic_tf.datasets import names

    seed = contract.settings["train"]["seed"]
    dataset = names.without_version(contract.training["data"]["dataset"])
    return "\n".join(
        [
            "## Made again",
            "",
            f"With seed {seed}; `--source` has the publisher's archives"
            f"{_train_notes(dataset, data_dir)}:",
            "",
            "    bash tools/make_pretrained.sh --source=FOLDER_WITH_NSYNTH_ARCHIVES",
            "",
            "Another processor rounds otherwise, and a later mic_tf may draw other "
            "notes, and other batches of them, from the same seed: either makes "
            "another model by the same recipe, with figures near these. Archives with "
            "more notes make another model and take as much longer as there are more.",
        ]
    )


def _train_notes(dataset: str, data_dir: str) -> str:
    """How many notes the divided data set has to train on, where it is at hand."""
    from mic_tf.datasets import catalogue

    try:
        splits = catalogue.load_builder(dataset, data_dir).info.splits
    except UserError:
        return ""
    return f", here of {splits['train'].num_examples:,} training notes"


if __name__ == "__main__":
    command.run(main)
