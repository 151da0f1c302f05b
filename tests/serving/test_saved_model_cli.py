"""TensorFlow's own program runs both signatures."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from mic_tf.serving.classifier import Classifier

SOUND = 0.4 * np.sin(np.arange(32_000) / 9) * np.exp(-np.arange(32_000) / 8_000)


@pytest.fixture(scope="module")
def program() -> str:
    beside = f"{sys.prefix}/bin/saved_model_cli"
    found = shutil.which(beside) or shutil.which("saved_model_cli")
    if not found:
        pytest.skip("no saved_model_cli in this environment")
    return found


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory):
    """A note that ends in digital silence, so in bytes that are zero."""
    path = tmp_path_factory.mktemp("cli") / "note.wav"
    sound = SOUND.copy()
    sound[-1000:] = 0
    soundfile.write(path, sound, 16_000, subtype="PCM_16")
    return path


@pytest.mark.parametrize("signature", ["serving_default", "classify_wav"])
def test_saved_model_cli_gives_the_answer(program, tiny_export, sound_file, signature):
    array = sound_file.with_suffix(".npy")
    if signature == "serving_default":
        waveform, _ = soundfile.read(sound_file, dtype="float32")
        np.save(array, waveform[np.newaxis])
        name = "waveform"
    else:
        # NumPy's own byte strings would lose the zero bytes at the end.
        np.save(array, np.array([sound_file.read_bytes()], dtype=object))
        name = "wav"
    command = [program, "run", "--dir", str(tiny_export / "saved_model")]
    command += ["--tag_set", "serve", "--signature_def", signature]
    finished = subprocess.run(
        [*command, "--inputs", f"{name}={array}"], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    printed = finished.stdout.partition("Result for output key probabilities:\n")[2]
    found = [float(number) for number in re.findall(r"\d\S*\d", printed.split("]]")[0])]
    wanted = Classifier.load(tiny_export)(sound_file).probabilities
    np.testing.assert_allclose(found, list(wanted.values()), atol=1e-3)
