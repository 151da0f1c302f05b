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

FILE_NAME = "familiar.npy"
"""Embeddings of training notes, float16 [notes, d], each of length 1."""
NEAREST = 5
SHARE_KEPT = 0.95


class Familiarity:
    """Compares embeddings with those of training notes."""

    def __init__(self, embeddings: np.ndarray):
        """Takes the embeddings of training notes, float [notes, d]."""
        self._known = _unit(embeddings)

    def __len__(self) -> int:
        return len(self._known)

    def of(self, embeddings: np.ndarray) -> np.ndarray:
        """The cosine with the fifth nearest training note.

        Args:
          embeddings: float [sounds, d].

        Returns:
          float32 [sounds], at most 1.
        """
        nearest = min(NEAREST, len(self._known))
        cosines = _unit(embeddings) @ self._known.T
        return np.partition(cosines, -nearest, axis=1)[:, -nearest]

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
        known = np.load(io.BytesIO(files.read_bytes(path)), allow_pickle=False)
    except (tf.errors.OpError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read: {files.reason(error)}; export the model again"
        ) from error
    fits = known.ndim == 2 and len(known) and known.shape[1] == width
    if known.dtype != np.float16 or not fits:
        raise UserError(
            f"{path}: {known.dtype} {list(known.shape)}; float16 [notes, {width}] "
            "expected: export the model again"
        )
    return Familiarity(known)


def keeping(familiarities: np.ndarray, share: float = SHARE_KEPT) -> float:
    """The highest threshold at which so many notes stay familiar."""
    ordered = np.sort(familiarities)
    # The small number outweighs the rounding of 1 - share.
    return float(ordered[int((1.0 - share) * len(ordered) + 1e-9)])


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)
