import json

import pytest

from mic_tf.errors import UserError
from mic_tf.training import strategy

WORKERS = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(strategy, "_shared", {})
    monkeypatch.delenv("TF_CONFIG", raising=False)


def test_default_is_mirrored_over_what_there_is():
    placement = strategy.choose("auto")
    assert placement.words.startswith("mirrored, 1 replica")
    assert placement.is_chief
    assert strategy.choose("auto") is placement


def test_a_gpu_that_tensorflow_does_not_find_is_warned_of(
    monkeypatch, caplog, tmp_path
):
    monkeypatch.setattr(strategy.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(strategy, "_GPU_FILE", tmp_path / "nvidia0")
    strategy.choose("mirrored")
    assert "no GPU" not in caplog.text
    (tmp_path / "nvidia0").touch()
    strategy.choose("one_device")
    assert f"{tmp_path}/nvidia0 is there, but TensorFlow finds no GPU" in caplog.text
    assert "requirements-gpu.txt" in caplog.text


def test_one_device_is_one_replica():
    assert strategy.choose("one_device").strategy.num_replicas_in_sync == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{not json", "TF_CONFIG: JSONDecodeError"),
        (json.dumps({"cluster": WORKERS}), "TF_CONFIG: KeyError: 'task'"),
        (
            json.dumps(
                {"cluster": {"worker": 3}, "task": {"type": "worker", "index": 0}}
            ),
            "TF_CONFIG: TypeError",
        ),
        (json.dumps({"task": {"type": "worker", "index": 0}}), "TF_CONFIG: KeyError"),
        (
            json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}),
            "task index 2: worker has 2",
        ),
        (
            json.dumps({"cluster": WORKERS, "task": {"type": "ps", "index": 0}}),
            "TF_CONFIG: KeyError: 'ps'",
        ),
    ],
)
def test_wrong_or_half_tf_config_is_one_line(monkeypatch, config, message):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match=message) as caught:
        strategy.choose("auto")
    assert "\n" not in str(caught.value)


def test_several_workers_need_the_strategy_for_them(monkeypatch):
    config = {"cluster": WORKERS, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(UserError, match="--strategy=multi_worker"):
        strategy.choose("mirrored")


def test_multi_worker_without_tf_config_says_what_is_missing():
    with pytest.raises(UserError, match="TF_CONFIG is not set"):
        strategy.choose("multi_worker")


def test_tpu_where_there_is_none_is_one_line():
    with pytest.raises(UserError, match="no TPU") as caught:
        strategy.choose("tpu", "nowhere")
    assert "\n" not in str(caught.value)
