"""How windows get into an opened model."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from mic_tf.errors import UserError
from mic_tf.serving import exporter, models
from mic_tf.taxonomy import NOTE_SAMPLES
from mic_tf.training import workfolder


def test_a_model_that_may_not_be_looked_at_is_refused_with_the_reason(monkeypatch):
    reason = "nowhere://host/model: cannot be read: File system scheme 'nowhere' not i"
    with pytest.raises(UserError, match=reason):
        models.open_model("nowhere://host/model")

    def denied(path):
        raise tf.errors.PermissionDeniedError(None, None, "no credentials\n at line 1")

    monkeypatch.setattr(tf.io.gfile, "exists", denied)
    with pytest.raises(UserError, match="gs://m: cannot be read: no credentials$"):
        models.open_model("gs://m")


def test_an_export_of_an_earlier_state_of_its_run_is_warned_of(
    tiny_workdir, tmp_path, caplog
):
    workdir = tmp_path / "run"
    shutil.copytree(
        tiny_workdir, workdir, ignore=shutil.ignore_patterns("export", "eval")
    )
    exporter.export(workfolder.load_run(str(workdir)), str(workdir / "export"))
    caplog.clear()
    models.open_model(str(workdir))
    assert not caplog.messages
    contract = json.loads((workdir / "export" / "contract.json").read_text())
    contract["training"] |= {"unfinished": "4 of 12 epochs", "weights": "0badcafe"}
    (workdir / "export" / "contract.json").write_text(json.dumps(contract))
    models.open_model(str(workdir))
    assert "exported before its training was done (4 of 12 epochs)" in caplog.text
    assert "its training went on since then, to other weights" in caplog.text
    # Elsewhere nobody knows, and nobody does of a model of an earlier program.
    (workdir / "export").rename(tmp_path / "elsewhere")
    caplog.clear()
    models.open_model(str(tmp_path / "elsewhere"))
    assert len(caplog.messages) == 1


def test_room_for_windows_is_read_where_it_is():
    room = models.room_for_windows(3)
    assert room.shape == (3, NOTE_SAMPLES) and room.dtype == np.float32
    room[:] = 0.5
    tensor = models._tensor(room[:2])
    room[1, 5] = 0.25
    assert tensor[1, 5] == 0.25


@pytest.mark.parametrize("fault", ["place", "order", "read-only", "nothing"])
def test_what_tensorflow_cannot_read_where_it_is_becomes_a_copy(fault):
    values = np.random.default_rng(0).normal(size=[4, 100]).astype(np.float32)
    if fault == "place":
        memory = np.zeros(values.nbytes + 128, np.uint8)
        first = -memory.ctypes.data % 64 + 4
        place = memory[first : first + values.nbytes].view(np.float32)
        place = place.reshape(values.shape)
        place[:] = values
    elif fault == "order":
        place = np.asfortranarray(values)
    elif fault == "read-only":
        place = models.room_for_windows(1)[:, :100].copy()
        place.flags.writeable = False
    else:
        place = values[:0]
    expected = place.copy()
    tensor = models._tensor(place)
    if place.flags.writeable:
        place[...] = 7.0
    np.testing.assert_array_equal(tensor.numpy(), expected)
