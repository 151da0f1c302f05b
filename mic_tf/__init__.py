"""mic_tf: what instrument is in this sound."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mic_tf.serving.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["Classifier", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports TensorFlow only when the classifier is asked for."""
    if name == "Classifier":
        from mic_tf.serving.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
