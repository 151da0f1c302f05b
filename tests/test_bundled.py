"""The model in the box: whole, small, named in its card, and able to answer."""

import pathlib

import numpy as np
import pytest

from mic_tf import Classifier, bundled, taxonomy
from mic_tf.datasets.soundfont_notes import planning, rendering
from mic_tf.errors import UserError
from mic_tf.serving import contract as contracts
from mic_tf.training import starting

FOLDER = pathlib.Path(bundled.folder())


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


def test_it_has_all_families_and_is_small():
    contract = contracts.read(str(FOLDER))
    assert contract.labels == taxonomy.FAMILIES
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size < 10e6


def test_its_card_names_what_it_was_trained_on_and_the_figures_of_its_contract():
    card = (FOLDER / "MODEL_CARD.md").read_text()
    contract = contracts.read(str(FOLDER))
    names = ("NSynth", "FluidR3_GM", "MuseScore_General", "GeneralUser GS", "Sonivox")
    for name in (*names, "CC BY 4.0", "MIT", "GeneralUser GS License", "Apache-2.0"):
        assert name in card
    assert contract.results
    for result in contract.results:
        assert f"| accuracy | {result['accuracy']:.3f} |" in card


def test_its_weights_are_there_for_fine_tuning():
    origin = starting.find(bundled.NAME)
    assert origin.labels == taxonomy.FAMILIES
    assert origin.settings.network.member_shares == (0.7, 0.3)


def test_a_model_of_ones_own_under_its_name_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pathlib.Path(bundled.resolved("pretrained")) == FOLDER
    (tmp_path / "pretrained").mkdir()
    assert pathlib.Path(bundled.resolved("pretrained")) == FOLDER
    (tmp_path / "pretrained" / "contract.json").write_text("{}")
    with pytest.raises(UserError, match="./pretrained is the one here"):
        bundled.resolved("pretrained")
    assert bundled.resolved("./pretrained") == "./pretrained"
    assert Classifier.load().labels == taxonomy.FAMILIES
    monkeypatch.chdir(FOLDER.parent)
    assert pathlib.Path(bundled.resolved("pretrained")) == FOLDER


def test_it_knows_most_sounds_of_instruments_it_never_heard(classifier):
    pytest.importorskip("pretty_midi", reason="its SoundFont is what is rendered")
    pytest.importorskip("tinysoundfont", reason="renders the notes")
    soundfont = rendering.SoundFont(rendering.default_path())
    programs = (0, 4, 11, 12, 40, 42, 52, 56, 57, 65, 71, 73)
    chosen = [i for i in soundfont.instruments if i.program in programs and not i.bank]
    right = []
    for instrument in chosen:
        note = planning.PlannedNote(instrument, 60, 100)
        waveform = soundfont.render(note).astype(np.float32) / 32768.0
        right.append(classifier(waveform, 16_000).family == instrument.family)
    assert len(chosen) == len(programs)
    assert np.mean(right) > 0.6
