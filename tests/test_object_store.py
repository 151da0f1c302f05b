"""Data and work folder on s3://, against a server of that protocol on loopback."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.training.test_distribution import free_ports

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("moto") is None, reason="moto[server] is missing"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_io") is None,
        reason="tensorflow-io, which has s3://, does not exist for this Python",
    ),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Environment of a process that sees a store with an empty bucket `music`."""
    port = free_ports(1)[0]
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=log,
        stderr=log,
    )
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            request = urllib.request.Request(f"{endpoint}/music", method="PUT")
            urllib.request.urlopen(request, timeout=5)
            break
        except OSError:
            time.sleep(0.1)
    yield {
        **os.environ,
        "S3_ENDPOINT": endpoint,
        "S3_USE_HTTPS": "0",
        "S3_VERIFY_SSL": "0",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.terminate()
    server.wait()


def client(store):
    """The same store without TensorFlow."""
    import boto3  # comes with moto

    return boto3.client(
        "s3",
        endpoint_url=store["S3_ENDPOINT"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
        region_name=store["AWS_REGION"],
    )


def run(store, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=store,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (arguments, done.returncode, done.stderr[-3000:])
    return done.stdout


def test_train_evaluate_and_export_on_s3_end_with_status_0(store, small_dataset):
    bucket = client(store)
    for path in pathlib.Path(small_dataset.data_path).iterdir():
        if path.is_file():
            key = f"data/nsynth_jsonwav/1.0.0/{path.name}"
            bucket.upload_file(str(path), "music", key)
    workdir = "s3://music/runs/first"
    run(
        store,
        *("-m", "mic_tf.train", f"--workdir={workdir}", "--data_dir=s3://music/data"),
        *("--dataset=nsynth_jsonwav", "--epochs=1", "--batch_size=8"),
        *("--n_mels=32", "--hop_length=2000", "--width=4"),
    )
    table = run(store, "-m", "mic_tf.evaluate", f"--workdir={workdir}")
    assert "official split" in table
    run(store, "-m", "mic_tf.export", f"--workdir={workdir}")
    found = bucket.list_objects_v2(Bucket="music", Prefix="runs/first/export/")
    names = {entry["Key"].split("/")[3] for entry in found["Contents"]}
    assert {"contract.json", "labels.txt", "saved_model"} <= names
