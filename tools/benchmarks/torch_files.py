"""Balanced batches of WAV files by PyTorch's DataLoader.

Its worker processes import this module, so it needs nothing of TensorFlow.
"""

import pathlib

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class WaveFiles(Dataset):
    """The WAV files of a folder and their families."""

    def __init__(self, folder: pathlib.Path, dtype: str):
        """Lists the files.

        Args:
          folder: of `000000.wav` and so on, and `families.npy`.
          dtype: of the waveforms, `int16` or `float32`.
        """
        self._paths = sorted(map(str, folder.glob("*.wav")))
        self.families = np.load(folder / "families.npy")
        self._dtype = dtype

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        waveform, _ = soundfile.read(self._paths[number], dtype=self._dtype)
        return torch.from_numpy(waveform), int(self.families[number])


def balanced_loader(
    folder: pathlib.Path,
    weights: np.ndarray,
    dtype: str,
    *,
    batch_size: int,
    batches: int,
    workers: int,
) -> DataLoader:
    """A loader with a `WeightedRandomSampler`.

    Args:
      folder: see `WaveFiles`.
      weights: of the notes of each family, float [families].
      dtype: of the waveforms.
      batch_size: notes a batch.
      batches: of one pass.
      workers: processes; they stay from one pass to the next.
    """
    files = WaveFiles(folder, dtype)
    sampler = WeightedRandomSampler(weights[files.families], batches * batch_size)
    return DataLoader(
        files,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=True,
        # Forked children of a process with TensorFlow's threads may hang.
        multiprocessing_context="spawn",
    )
