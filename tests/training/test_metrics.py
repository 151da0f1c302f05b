import numpy as np
import pytest

from mic_tf.evaluation import metrics as plain
from mic_tf.training.metrics import Accuracy, MacroF1


def answers(seed=0, families=5):
    random = np.random.default_rng(seed)
    truth = random.integers(0, families - 1, 200)
    logits = random.normal(size=(200, families))
    logits[np.arange(200), truth] += 1.0
    return truth, logits.astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "name"), [(Accuracy, "accuracy"), (MacroF1, "macro_f1")]
)
def test_agrees_with_the_figures_of_the_evaluation(kind, name):
    truth, logits = answers()
    metric = kind(5, name)
    for part in np.array_split(np.arange(200), 7):
        metric.update_state(truth[part], logits[part])
    confusion = plain.confusion_matrix(truth, logits.argmax(axis=1), 5)
    assert float(metric.result()) == pytest.approx(plain.headline(confusion)[name])
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_notes_of_weight_zero_do_not_count():
    truth, logits = answers()
    metric = Accuracy(5, "accuracy")
    weight = (logits.argmax(axis=1) == truth).astype(np.float32)
    metric.update_state(truth, logits, weight)
    assert float(metric.result()) == 1.0
