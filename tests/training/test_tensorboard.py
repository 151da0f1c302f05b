import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from mic_tf.training import trainer
from tests.training.test_trainer import SMALL


@pytest.fixture(scope="module")
def events(small_dataset, tmp_path_factory):
    """What a run of two epochs writes for TensorBoard's pictures."""
    workdir = tmp_path_factory.mktemp("watched")
    trainer.train(SMALL, str(workdir), small_dataset)
    paths = sorted(map(str, (workdir / "logs" / "pictures").iterdir()))
    return [
        event_pb2.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(paths)
    ]


def pictures(events, tag):
    """Step and decoded pictures of each summary of this name."""
    return [
        (event.step, [tf.io.decode_png(p).numpy() for p in value.tensor.string_val[2:]])
        for event in events
        for value in event.summary.value
        if value.tag == tag
    ]


def test_each_epoch_has_its_confusion_matrix(events):
    found = pictures(events, "confusion")
    assert [step for step, _ in found] == [1, 2]
    for _, (picture,) in found:
        assert picture.shape == (11 * 24, 11 * 24, 1)
        cells = picture[::24, ::24, 0] / 255.0
        # Three validation notes of each of four families: rows add up to 1 or 0.
        assert sorted(np.round(cells.sum(axis=1), 1)) == [0.0] * 7 + [1.0] * 4


def test_notes_are_shown_before_and_after_augmentation(events):
    ((step, shown),) = pictures(events, "log_mel")
    assert step == 0
    assert len(shown) == 4
    for picture in shown:
        before, after = np.split(picture.astype(float), 2)
        assert before.std() > 5
        assert np.abs(before - after).mean() > 1


def test_the_graph_goes_from_waveform_to_logits(events):
    (content,) = [event.graph_def for event in events if event.graph_def]
    graph = tf.compat.v1.GraphDef.FromString(content)
    names = " ".join(node.name for node in graph.node)
    for part in ("waveform", "log_mel", "conv_0", "logits"):
        assert part in names
