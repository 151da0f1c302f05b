"""The model card: its figures are the measured ones, its data is allowed."""

import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from mic_tf.evaluation import bootstrap, metrics
from mic_tf.taxonomy import FAMILIES
from tests import processes
from tests.conftest import make_note, own_lines, write_dataset

PROJECT = pathlib.Path(__file__).parents[1]

EFFECTS = {
    "clean": 0.875,
    "rows": [
        {"name": "reverb", "words": "a room", "accuracy": 0.8125, "loss": 6.25},
        {"name": "chorus", "words": "a voice", "accuracy": 0.859, "loss": 1.6},
    ],
    "mean_loss": 3.925,
    "worst_loss": 6.25,
    "worst": "reverb",
}


def measured() -> dict:
    """What `evaluate` stores of answers that are often right; no vocal among them."""
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(10), 12)
    probabilities = random.dirichlet(np.ones(11), 120)
    right = random.random(120) < 0.8
    probabilities[right] = 0.05 * probabilities[right] + 0.95 * np.eye(11)[truth[right]]
    instrument = np.arange(120) // 4
    answer = probabilities.argmax(axis=1)
    return {
        "dataset": "nsynth_jsonwav/1.0.0",
        "split": "valid",
        "protocol": "official",
        "protocol_words": "official split",
        "fitted": ["temperature"],
        **metrics.summary(probabilities, truth, FAMILIES),
        "intervals": bootstrap.intervals(truth, answer, instrument, FAMILIES),
        "effects": EFFECTS,
    }


@pytest.fixture
def run(tiny_export, tmp_path) -> pathlib.Path:
    """A work folder, an export and the metadata of the data, side by side."""
    shutil.copytree(tiny_export, tmp_path / "model")
    path = tmp_path / "model" / "contract.json"
    contract = json.loads(path.read_text())
    contract["training"] = {
        "parameters": 459_907,
        "epochs": 32,
        "train_seconds": 2460.0,
        "data": {
            "dataset": "nsynth_jsonwav/1.0.0",
            "extra_datasets": [
                "soundfont_notes/open/2.0.0",
                "sample_folder/loops/1.0.0",
            ],
            "settings": {"extra_share": 0.5},
            "train_notes_per_family": {"bass": 1234, "vocal": 766},
        },
    }
    path.write_text(json.dumps(contract))
    folder = tmp_path / "run" / "eval" / "nsynth_jsonwav-valid"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(measured()))
    name_soundfonts(
        tmp_path, "FluidR3_GM.sf2", "MuseScore_General_Full.sf3", "sonivox.sf2"
    )
    return tmp_path


def name_soundfonts(folder: pathlib.Path, *names: str) -> None:
    target = folder / "data" / "soundfont_notes" / "open" / "2.0.0"
    target.mkdir(parents=True, exist_ok=True)
    content = {"settings": {"soundfonts": dict.fromkeys(names, "checksum")}}
    (target / "metadata.json").write_text(json.dumps(content))


def write_card(run: pathlib.Path, *more: str) -> subprocess.CompletedProcess:
    script = PROJECT / "tools" / "write_model_card.py"
    places = [f"--workdir={run}/run", f"--data_dir={run}/data", f"--model={run}/model"]
    return processes.anew(script, *places, *more)


def test_the_card_says_what_was_measured_and_of_which_data(run):
    finished = write_card(run)
    assert finished.returncode == 0, finished.stderr
    card = (run / "model" / "MODEL_CARD.md").read_text()
    result = measured()
    low, high = result["intervals"]["accuracy"]
    assert (
        f"| accuracy | {result['accuracy']:.3f} | 95 %: {low:.3f} to {high:.3f} |"
        in card
    )
    for name in result["families_present"]:
        assert f"| {name} | 12 | {result['per_family'][name]['recall']:.3f} |" in card
    assert "mean loss 3.9 points over 2 effects, worst 6.2 (reverb)" in card
    assert "| reverb | a room | 0.812 | 6.2 |" in card
    assert "459,907 parameters" in card and "41 minutes" in card
    assert "2,000 training notes (bass 1,234, vocal 766)" in card
    assert re.search(r"nsynth_jsonwav.*CC BY 4\.0", card)
    assert re.search(r"soundfont_notes/open.*FluidR3_GM.*\| MIT", card)
    assert re.search(r"soundfont_notes/open.*MuseScore_General.*\| MIT", card)
    assert re.search(r"soundfont_notes/open.*Sonivox.*\| Apache-2\.0", card)
    assert re.search(r"sample_folder/loops.*looped.*\| as theirs", card)
    assert "No note of vocal was in what is measured" in card
    assert "bash tools/make_pretrained.sh --source=" in card
    assert "The model's temperature was fitted on these very notes" in card
    assert str(run) not in card
    assert "50% of the notes drawn are of the data sets behind the first" in card
    assert "the publisher's archives:" in card


def test_the_card_says_what_was_left_out_and_not_looked_at(run):
    path = run / "run" / "eval" / "nsynth_jsonwav-valid" / "metrics.json"
    gone = {"soundfont_notes/open/2.0.0": f"{run}/elsewhere: not prepared"}
    untested = {"file": f"{run}/lists/ids.txt", "notes": 3}
    more = {"leakage_unchecked": gone, "untested": untested}
    path.write_text(json.dumps(measured() | more))
    assert write_card(run).returncode == 0
    card = (run / "model" / "MODEL_CARD.md").read_text()
    assert "Leakage from soundfont_notes/open/2.0.0 was not looked for." in card
    assert "3 notes of the data set are not tested (ids.txt)." in card
    assert str(run) not in card


def test_the_card_tells_networks_apart_and_counts_the_notes_of_the_archives(run):
    path = run / "model" / "contract.json"
    contract = json.loads(path.read_text())
    parts = [{"workdir": "late", "train_seconds": 600.0}]
    parts.append({"workdir": "first", "train_seconds": 1200.0})
    contract["training"]["members"] = [
        {"settings": {"extra_share": 0.5}, "averaged": parts},
        {
            "settings": {"extra_share": 0.25},
            "workdir": "nsynth",
            "train_seconds": 660.0,
        },
    ]
    path.write_text(json.dumps(contract))
    notes = [make_note("reed", 0, pitch) for pitch in range(40, 43)]
    write_dataset(run / "data", {"train": notes, "valid": notes[:1]})
    assert write_card(run).returncode == 0
    card = (run / "model" / "MODEL_CARD.md").read_text()
    assert "50%, 25% of the notes drawn (network 1 to 2) are of" in card
    assert "32 epochs, 41 minutes (late 10, first 20, nsynth 11) |" in card
    assert "the publisher's archives, here of 3 training notes:" in card


@pytest.mark.parametrize(
    "other", [{"labels": ["banjo", "koto"]}, {"temperature": 0.25}]
)
def test_figures_of_another_run_are_refused(run, other):
    path = run / "run" / "eval" / "nsynth_jsonwav-valid" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))
    fitted = {"temperature": other.get("temperature", 1.7)}
    (run / "run" / "calibration.json").write_text(json.dumps(fitted))
    done = write_card(run)
    assert done.returncode == 2
    assert "not the run that" in done.stderr and not done.stdout


def test_data_of_unknown_licence_is_refused(run):
    name_soundfonts(run, "FluidR3_GM.sf2", "TimGM6mb.sf2")
    finished = write_card(run)
    assert finished.returncode == 2
    [line] = own_lines(finished.stderr)
    assert "the licence of TimGM6mb.sf2 is not known to allow it" in line
    assert not (run / "model" / "MODEL_CARD.md").exists()


def test_a_folder_that_is_too_large_is_refused(run):
    finished = write_card(run, "--largest_mb=0.01")
    assert finished.returncode == 2
    assert "MB; 0.01 at most" in finished.stderr
    assert not (run / "model" / "MODEL_CARD.md").exists()
