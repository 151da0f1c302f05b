import dataclasses

import numpy as np
import pytest

from mic_tf.datasets import catalogue, names, nsynth
from mic_tf.settings import DataSettings, TrainSettings
from mic_tf.training import trainer
from tests.datasets import publisher_archives
from tests.training.test_trainer import SMALL, weights_of


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
