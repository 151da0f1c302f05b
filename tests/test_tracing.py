"""What a command does before its work: the seconds that it need not take."""

import numpy as np
from tensorflow.python.autograph.impl import api

from mic_tf.evaluation import evaluator, measures
from mic_tf.pipeline import batches, index
from mic_tf.serving import exporter
from mic_tf.settings import (
    DataSettings,
    FrontEndSettings,
    NetworkSettings,
    RunSettings,
    TrainSettings,
)
from mic_tf.tracing import as_written
from mic_tf.training import trainer, workfolder
from tests import processes


def test_what_is_traced_for_a_run_is_traced_as_it_is_written(
    small_dataset, tmp_path, monkeypatch
):
    translated = []
    translate = api._convert_actual

    def noted(entity, context):
        translated.append(entity.__module__)
        return translate(entity, context)

    monkeypatch.setattr(api, "_convert_actual", noted)
    settings = RunSettings(
        data=DataSettings(dataset="nsynth_jsonwav"),
        frontend=FrontEndSettings(n_mels=32, hop_length=2000),
        network=NetworkSettings(width=4, dense_units=16, depth=2),
        train=TrainSettings(epochs=1, batch_size=6),
    )
    workdir = str(tmp_path / "run")
    trainer.train(settings, workdir, small_dataset)
    run = workfolder.load_run(workdir)
    index.build(small_dataset)
    records = batches.open_records(small_dataset)
    evaluator.calibrate(run, records)
    everything = np.ones(len(records.index), bool)
    evaluator.subject_of_run(run).embedding(np.zeros([1, 64_000], np.int16))
    measures.fingerprints(records, everything)
    exporter.export(run, str(tmp_path / "export"))
    # `fit` has a loop over tensors.
    assert any(name.startswith("tf_keras") for name in translated)
    assert [name for name in translated if name.startswith("mic_tf")] == []


def test_no_second_keras_is_imported():
    code = """
import os
os.environ.pop("TF_USE_LEGACY_KERAS", None)
from mic_tf import command
command.set_environment()
import sys
from mic_tf.training import trainer
sys.exit("keras" in sys.modules)
"""
    assert processes.anew("-c", code).returncode == 0


def test_a_marked_function_keeps_its_name_and_what_it_says():
    @as_written
    def named(x):
        """Says this."""
        return x

    assert (named(3), named.__name__, named.__doc__) == (3, "named", "Says this.")
