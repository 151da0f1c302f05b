"""How like the notes of training a sound is, by the embedding: below, `unsure`.

A network that was only ever shown notes is often sure of noise and speech too. How
near an embedding lies to those of training notes tells them apart better: Sun et al.
2022, "Out-of-Distribution Detection with Deep Nearest Neighbors".
"""

import io

import numpy as np
import tensorflow as tf

from mic_tf import files
from mic_tf.errors import UserError
from mic_tf.evaluation import metrics

FILE_NAME = "familiar.npy"
"""Embeddings of training notes, float16 [notes, d], each of length 1."""
NEAREST = 5


class Familiarity:
    """Compares embeddings with those of training notes."""

    def __init__(self, embeddings: np.ndarray):
        """Takes the embeddings of training notes, float [notes, d]."""
        self._known = metrics.unit(embeddings.astype(np.float32))

    def __len__(self) -> int:
        return len(self._known)

    def of(self, embeddings: np.ndarray) -> np.ndarray:
        """The cosine with the fifth nearest training note.

        Args:
          embeddings: float [sounds, d].

        Returns:
          float32 [sounds], from 0 to 1.
        """
        nearest = min(NEAREST, len(self._known))
        cosines = metrics.unit(embeddings.astype(np.float32)) @ self._known.T
        return np.clip(np.partition(cosines, -nearest, axis=1)[:, -nearest], 0.0, 1.0)

    def write(self, folder: str) -> None:
        """Writes `familiar.npy`."""
        content = io.BytesIO()
        np.save(content, self._known.astype(np.float16))
        files.write_bytes(files.join(folder, FILE_NAME), content.getvalue())


def read(folder: str, width: int) -> Familiarity:
    """What `write` wrote.

    Args:
      folder: of the export.
      width: of the model's embeddings.

    Raises:
      UserError: there is none, or it is not for this model.
    """
    path = files.join(folder, FILE_NAME)
    try:
        content = io.BytesIO(files.read_bytes(path))
        known = np.lib.format.read_array(content, allow_pickle=False)
    except (tf.errors.OpError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read: {files.reason(error)}; export the model again"
        ) from error
    fits = known.ndim == 2 and len(known) and known.shape[1] == width
    if known.dtype != np.float16 or not fits or not np.isfinite(known).all():
        raise UserError(
            f"{path}: {known.dtype} {list(known.shape)}; finite float16 "
            f"[notes, {width}] expected: export the model again"
        )
    return Familiarity(known)
