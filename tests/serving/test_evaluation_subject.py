"""An export is evaluated as the run that it came from."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.evaluation import evaluator
from mic_tf.serving import evaluation_subject
from mic_tf.training import workfolder


def test_an_export_gives_the_probabilities_of_its_run(tiny_workdir, tiny_export):
    run = evaluator.subject_of_run(workfolder.load_run(str(tiny_workdir)))
    export = evaluation_subject.of_export(str(tiny_export / "saved_model"))
    integers = np.random.default_rng(0).integers(-9000, 9000, [3, 64_000], np.int16)
    waveform = tf.constant(integers)
    expected = run.probabilities(waveform)
    np.testing.assert_allclose(export.probabilities(waveform), expected, atol=1e-5)
    assert export.labels == run.labels
    assert export.trained_on == run.trained_on


def test_an_export_that_does_not_say_its_data_is_refused(tiny_export, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny_export, copy)
    contract = json.loads((copy / "contract.json").read_text())
    del contract["training"]["data"]
    (copy / "contract.json").write_text(json.dumps(contract))
    with pytest.raises(UserError, match="does not say what it was trained on"):
        evaluation_subject.of_export(str(copy))
