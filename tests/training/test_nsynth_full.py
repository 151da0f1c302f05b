import dataclasses

import numpy as np
import pytest

from mic_tf.datasets import catalogue, names, nsynth
from mic_tf.errors import UserError
from mic_tf.evaluation import division, evaluator
from mic_tf.pipeline import batches
from mic_tf.settings import DataSettings, TrainSettings
from mic_tf.training import trainer, workfolder
from tests.conftest import make_note, write_dataset
from tests.datasets import publisher_archives
from tests.training.test_trainer import SMALL, changed, weights_of


def spoilt_dataset(folder, splits, value):
    """Float audio; one value of the second note of each of these splits is another."""
    notes = {
        split: [as_float(make_note("bass", i % 2, 40 + i)) for i in range(count)]
        for split, count in (("train", 12), ("valid", 6), ("test", 6))
    }
    for split in splits:
        notes[split][1]["audio"][31_000] = value
    return write_dataset(folder, notes, shards=2, floats=True), [
        notes[split][1]["id"] for split in splits
    ]


def as_float(note):
    return {**note, "audio": note["audio"].astype(np.float32) / 32768}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_nan_or_infinity_in_audio_is_an_error_that_names_the_note(
    tmp_path, value, split
):
    builder, (note,) = spoilt_dataset(tmp_path, [split], value)
    with pytest.raises(UserError, match=f"note {note}: NaN or infinity") as caught:
        trainer.train(SMALL, str(tmp_path / "run"), builder)
    assert "\n" not in str(caught.value)
    for path in (tmp_path / "run").rglob("state-*"):
        assert not path.name.endswith(".index"), "no state was saved"


def test_nan_in_audio_is_left_out_and_counted_with_skip_bad(tmp_path, caplog):
    builder, spoilt = spoilt_dataset(tmp_path, ["train", "valid", "test"], -np.inf)
    run = changed("data", skip_bad=True)
    trainer.train(run, str(tmp_path / "run"), builder)
    assert any(
        "3 note(s), left out" in m and all(note in m for note in spoilt)
        for m in caplog.messages
    )
    trained = workfolder.load_run(str(tmp_path / "run"))
    assert trained.summary["data"]["notes"] == {"train": 11, "valid": 5, "test": 5}
    assert all(np.isfinite(w).all() for w in weights_of(tmp_path / "run"))

    records = batches.open_records(builder, skip_bad=True)
    subject = evaluator.subject_of_run(trained)
    partition, _ = division.partition_for(
        subject.trained_on, records, "nsynth_jsonwav/1.0.0"
    )
    found = evaluator.answers(subject, records, partition.part("test"))
    assert len(found.rows) == 5
    assert np.isfinite(found.probabilities).all()
    # The index that is kept is for those as well who did not ask to skip anything.
    strict = batches.open_records(builder)
    with pytest.raises(UserError, match=f"note {spoilt[0]}: NaN or infinity"):
        evaluator.answers(subject, strict, np.ones(len(strict.index), bool))


def test_an_epoch_trains_on_what_tfds_own_builder_prepared(tmp_path):
    pytest.importorskip("apache_beam", reason="requirements-beam.txt is not installed")
    publisher_archives.write_tfds_cache(tmp_path / "downloads", notes=2)
    nsynth.prepare(names.parse_name("nsynth/full"), str(tmp_path))
    builder = catalogue.load_builder("nsynth/full", str(tmp_path))
    run = dataclasses.replace(
        SMALL,
        data=DataSettings(dataset="nsynth/full"),
        train=TrainSettings(epochs=1, batch_size=11),
    )
    summary = trainer.train(run, str(tmp_path / "run"), builder)
    assert summary["steps_per_epoch"] == 2
    assert all(np.isfinite(w).all() for w in weights_of(tmp_path / "run"))
