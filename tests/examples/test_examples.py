"""The worked examples do what their text says."""

import base64
import http.server
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from mic_tf.serving import exporter
from mic_tf.serving.classifier import Classifier
from mic_tf.training import workfolder

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
ALLOWED = {"numpy", "ai_edge_litert", "tflite_runtime", "tensorflow"}


@pytest.fixture(scope="module")
def export(tiny_workdir, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("export")
    run = workfolder.load_run(str(tiny_workdir))
    exporter.export(run, str(out), tflite_kinds=["float32"])
    return out


@pytest.fixture(scope="module")
def classifier(export) -> Classifier:
    return Classifier.load(export)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> list[str]:
    """A short, a stereo, a long and two silent files of 16 bits and 16 kHz."""
    folder = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(0)
    for name, shape in {"a": (5_000,), "b": (64_000, 2), "c": (150_000,)}.items():
        sound = np.cumsum(random.uniform(-1, 1, shape), axis=0)
        soundfile.write(folder / f"{name}.wav", sound / np.abs(sound).max(), 16_000)
    soundfile.write(folder / "d.wav", np.zeros(64_000), 16_000)
    noise = 0.2 + 5e-4 * random.uniform(-1, 1, [70_000, 2])
    soundfile.write(folder / "e.wav", noise, 16_000)
    return [str(path) for path in sorted(folder.iterdir())]


def upside_down(path: pathlib.Path) -> None:
    """A sound on two channels whose mean is nothing."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)
    soundfile.write(path, np.stack([sound, -sound], axis=1), 16_000)


def run(*command: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=cwd
    )


def check_lines(lines: list[str], sounds: list[str], classifier: Classifier) -> None:
    assert len(lines) == len(sounds)
    for line, path in zip(lines, sounds, strict=True):
        name, family, probability = re.fullmatch(r"(.+): (\S+) (\S+)", line).groups()
        wanted = classifier(path)
        assert (name, family) == (path, wanted.family)
        assert float(probability) == pytest.approx(wanted.probability, abs=2e-3)
    silent = [line.endswith(": silence 1.0000") for line in lines]
    assert silent == [False, False, False, True, True]


def test_the_tflite_client_needs_numpy_and_an_interpreter_only():
    source = (EXAMPLES / "tflite_client.py").read_text()
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) <= ALLOWED


def test_the_tflite_client_answers_as_the_package(export, sounds, classifier, tmp_path):
    script = str(EXAMPLES / "tflite_client.py")
    finished = run(script, str(export / "model.tflite"), *sounds, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    check_lines(finished.stdout.splitlines(), sounds, classifier)


def test_the_tflite_client_refuses_other_rates_and_what_is_no_wav(export, tmp_path):
    soundfile.write(tmp_path / "fast.wav", np.zeros(64_000), 44_100)
    soundfile.write(tmp_path / "short.wav", np.zeros(700), 16_000)
    (tmp_path / "text.wav").write_text("text")
    script = str(EXAMPLES / "tflite_client.py")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "good.wav", np.zeros(800), 16_000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:-1])
    upside_down(tmp_path / "upside.wav")
    names = ("good", "fast", "short", "text", "gone", "empty", "cut", "upside")
    paths = [f"{name}.wav" for name in names]
    finished = run(script, str(export / "model.tflite"), *paths, cwd=tmp_path)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout == "good.wav: silence 1.0000\n"
    lines = [
        line for line in finished.stderr.splitlines() if line.split(":")[0] in paths
    ]
    assert lines[0] == "fast.wav: 16 bits, 44100 Hz; 16 bits, 16000 Hz expected"
    assert lines[1] == "short.wav: 700 samples; 800 or more expected"
    assert lines[4] == "empty.wav: no whole WAV file"
    assert lines[5] == "cut.wav: breaks off within a sample"
    assert lines[6] == "upside.wav: its 2 channels cancel each other out"
    assert [line.split(":")[0] for line in lines] == paths[1:]
    assert all(line.split(": ", 1)[1].strip() for line in lines)


class Serving(http.server.BaseHTTPRequestHandler):
    """The part of TensorFlow Serving's REST protocol that a request here uses.

    Row format: each instance names every input of the signature; an object with the
    one key `b64` is a byte string. Each prediction names every output.
    """

    signatures: dict = {}

    def do_POST(self) -> None:  # noqa: N802
        content = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            assert self.path == "/v1/models/mic_tf:predict"
            status, answer = 200, self.predict(json.loads(content))
        except (tf.errors.InvalidArgumentError, KeyError, ValueError) as error:
            status, answer = 400, {"error": str(error)}
        except AssertionError:  # As a proxy in front of the server says it.
            status, answer = 400, None
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode() if answer else b"<html>")

    def predict(self, body: dict) -> dict:
        signature = self.signatures[body.get("signature_name", "serving_default")]
        specs = signature.structured_input_signature[1]
        inputs = {}
        for name, spec in specs.items():
            values = [instance[name] for instance in body["instances"]]
            if spec.dtype == tf.string:
                assert all(set(value) == {"b64"} for value in values)
                values = [base64.b64decode(value["b64"]) for value in values]
            inputs[name] = tf.constant(values, spec.dtype)
            assert spec.shape.is_compatible_with(inputs[name].shape)
        assert all(set(instance) == set(specs) for instance in body["instances"])
        outputs = {name: t.numpy().tolist() for name, t in signature(**inputs).items()}
        rows = zip(*outputs.values(), strict=True)
        return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def address(export) -> str:
    loaded = tf.saved_model.load(str(export / "saved_model"))
    Serving.signatures = dict(loaded.signatures)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/models/mic_tf"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_serving_client_answers_as_the_package(
    address, export, sounds, classifier, tmp_path
):
    labels = str(export / "labels.txt")
    script = str(EXAMPLES / "serving_client.py")
    finished = run(script, address, labels, *sounds, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    check_lines(finished.stdout.splitlines(), sounds, classifier)


def test_a_wrong_rate_comes_back_as_the_servers_reason(address, export, tmp_path):
    soundfile.write(tmp_path / "fast.wav", np.zeros(64_000), 44_100)
    script = str(EXAMPLES / "serving_client.py")
    labels = str(export / "labels.txt")
    finished = run(script, address, labels, "fast.wav", cwd=tmp_path)
    assert finished.returncode == 1
    assert "sample rate 16000 Hz expected" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_server_that_is_not_there_is_said_in_one_line(export, tmp_path):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        address = f"http://localhost:{taken.getsockname()[1]}/v1/models/m"
    soundfile.write(tmp_path / "note.wav", np.zeros(64_000), 16_000)
    script = str(EXAMPLES / "serving_client.py")
    labels = str(export / "labels.txt")
    finished = run(script, address, labels, "note.wav", cwd=tmp_path)
    assert finished.returncode == 1
    [line] = finished.stderr.splitlines()
    assert line.startswith(f"{address}: ") and "refused" in line


def test_the_serving_client_says_where_channels_cancel(address, export, tmp_path):
    upside_down(tmp_path / "note.wav")
    script = str(EXAMPLES / "serving_client.py")
    labels = str(export / "labels.txt")
    finished = run(script, address, labels, "note.wav", cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr == "note.wav: its 2 channels cancel each other out\n"
    assert finished.stdout == ""


def test_a_model_that_is_missing_is_one_line_of_the_tflite_client(tmp_path):
    soundfile.write(tmp_path / "note.wav", np.zeros(64_000), 16_000)
    script = str(EXAMPLES / "tflite_client.py")
    finished = run(script, "nowhere/model.tflite", "note.wav", cwd=tmp_path)
    assert finished.returncode == 1
    line = finished.stderr.splitlines()[-1]
    assert line.startswith("nowhere/model.tflite: ") and "No such file" in line
    assert "Traceback" not in finished.stderr


@pytest.fixture
def other_protocol() -> str:
    """The address of a server that speaks no HTTP/1, as one of gRPC."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\0\0\x06\x04\0\0\0\0\0")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1/models/m"
        thread.join()


def test_what_is_wrong_is_one_line_of_the_serving_client(
    address, other_protocol, export, tmp_path
):
    soundfile.write(tmp_path / "note.wav", np.zeros(64_000), 16_000)
    labels, few = export / "labels.txt", tmp_path / "few.txt"
    few.write_text("bell\n")
    script = str(EXAMPLES / "serving_client.py")
    for where, names, path, reason in (
        (address, labels, "gone.wav", "gone.wav: No such file or directory"),
        (address, "gone.txt", "note.wav", "gone.txt: No such file or directory"),
        (address, few, "note.wav", f"{address}: no answer to {few}'s labels: "),
        (f"{address}/x", labels, "note.wav", f"{address}/x: 400 Bad Request"),
        ("localhost", labels, "note.wav", "localhost: "),
        ("http://localhost:85o1/v1", labels, "note.wav", "http://localhost:85o1/v1: "),
        (other_protocol, labels, "note.wav", f"{other_protocol}: no HTTP server that "),
    ):
        finished = run(script, where, str(names), path, cwd=tmp_path)
        assert finished.returncode == 1
        [line] = finished.stderr.splitlines()
        assert line.startswith(reason)


def snippets() -> list[dict]:
    """The JSON examples of the text, with its dots filled in."""
    text = (EXAMPLES / "README.md").read_text()
    return [
        json.loads(block.replace(", …", "").replace("…", ""))
        for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    ]


def test_the_bodies_in_the_text_are_those_of_the_signatures(export):
    loaded = tf.saved_model.load(str(export / "saved_model"))
    wav, waveform, response = snippets()
    for body in (wav, waveform):
        signature = loaded.signatures[body["signature_name"]]
        names = set(signature.structured_input_signature[1])
        assert [set(instance) for instance in body["instances"]] == [names]
    outputs = set(loaded.signatures["serving_default"].structured_outputs)
    assert set(response["predictions"][0]) == outputs


def test_the_body_in_the_text_is_that_of_the_client(tmp_path):
    (tmp_path / "note.wav").write_bytes(b"RIFF")
    script = str(EXAMPLES / "serving_client.py")
    finished = run(script, "--print", "labels.txt", "note.wav", cwd=tmp_path)
    found, wanted = json.loads(finished.stdout), snippets()[0]
    assert base64.b64decode(found["instances"][0]["wav"].pop("b64")) == b"RIFF"
    wanted["instances"][0]["wav"].pop("b64")
    assert found == wanted


def test_the_waveform_body_of_the_text_gets_the_answer(address, sounds, classifier):
    import urllib.request

    waveform, _ = soundfile.read(sounds[0], dtype="float32")
    body = snippets()[1]
    body["instances"][0]["waveform"] = waveform.tolist()
    request = urllib.request.Request(f"{address}:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        [prediction] = json.loads(response.read())["predictions"]
    wanted = list(classifier(sounds[0]).probabilities.values())
    np.testing.assert_allclose(prediction["probabilities"], wanted, atol=1e-5)


def test_every_example_prints_its_use_without_arguments(tmp_path):
    for script in sorted(EXAMPLES.glob("*.py")):
        copy = shutil.copy(script, tmp_path)
        finished = run(copy, cwd=tmp_path)
        assert finished.returncode == 1
        assert script.name in finished.stderr
