import pytest

from mic_tf.model import compiling, pieces


@pytest.fixture
def compiling_cpu(monkeypatch):
    """A CPU alone for which XLA compiles, whatever there is where the tests run."""
    if not compiling._works():
        pytest.skip("this TensorFlow has no XLA for CPUs")
    monkeypatch.setattr(pieces, "on_accelerator", lambda: False)
