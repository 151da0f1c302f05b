"""DeepCNN and its front-end in PyTorch: the same layers, the same optimiser.

Imported only where torch is installed.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mic_tf.model.frontend import mel_weights
from mic_tf.settings import FrontEndSettings, RunSettings

_AMIN = 1e-10
_EPSILON = 1e-3
_MOMENTUM = 0.1
_BLOCKS = 4


class TorchFrontEnd:
    """Log-mel of a batch by `torch.stft`, with the same numbers as `LogMel`."""

    def __init__(self, settings: FrontEndSettings, device: str = "cpu"):
        weights = mel_weights(
            settings.n_fft, settings.n_mels, settings.fmin, settings.fmax
        )
        self._settings = settings
        self._weights = torch.from_numpy(weights.T.copy()).to(device)
        self._window = torch.hann_window(settings.n_fft, device=device)

    def decibels(self, waveform: torch.Tensor) -> torch.Tensor:
        """From float [batch, samples] to [batch, n_mels, frames]."""
        settings = self._settings
        spectrum = torch.stft(
            waveform,
            settings.n_fft,
            settings.hop_length,
            window=self._window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        power = torch.matmul(self._weights, power).clamp_min(_AMIN)
        peak = power.amax(dim=(1, 2), keepdim=True)
        decibels = (10.0 / np.log(10.0)) * (power.log() - peak.log())
        return decibels.clamp_min(-settings.top_db)

    def on_numpy(self, waveforms: np.ndarray) -> np.ndarray:
        """From float32 [batch, samples] to [batch, frames, n_mels]."""
        with torch.no_grad():
            found = self.decibels(torch.from_numpy(waveforms))
        return found.numpy().transpose(0, 2, 1)

    def image(self, waveform: torch.Tensor) -> torch.Tensor:
        """From int16 [batch, samples] to what the network sees: [batch, 1, n, n]."""
        with torch.no_grad():
            decibels = self.decibels(waveform.float() / 32768.0)
            scaled = 1.0 + 2.0 * decibels / self._settings.top_db
            return scaled.transpose(1, 2).unsqueeze(1)


class TorchDeepCnn(torch.nn.Module):
    """`deep_cnn`, layer by layer.

    Input: float [batch, 1, frames, n_mels]. Output: logits [batch, families].
    """

    def __init__(self, settings: RunSettings, num_families: int):
        super().__init__()
        network = settings.network
        blocks = []
        channels = 1
        for block in range(network.depth or _BLOCKS):
            wider = network.width * 2**block
            blocks += [
                torch.nn.Conv2d(channels, wider, 3, padding=1, bias=False),
                torch.nn.BatchNorm2d(wider, eps=_EPSILON, momentum=_MOMENTUM),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            ]
            channels = wider
        self.blocks = torch.nn.Sequential(*blocks)
        self.dropout = torch.nn.Dropout(network.dropout)
        self.dense = torch.nn.Linear(2 * channels, network.dense_units, bias=False)
        self.dense_norm = torch.nn.BatchNorm1d(
            network.dense_units, eps=_EPSILON, momentum=_MOMENTUM
        )
        self.logits = torch.nn.Linear(network.dense_units, num_families)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.blocks(image)
        x = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        x = F.relu(self.dense_norm(self.dense(self.dropout(x))))
        return self.logits(self.dropout(x))

    def take_weights(self, kernels: list[np.ndarray]) -> None:
        """Takes the kernels of a Keras model, in the order of its layers.

        Args:
          kernels: of the convolutions [3, 3, in, out], of the two dense layers
            [in, out], and the last bias.
        """
        convolutions = [m for m in self.blocks if isinstance(m, torch.nn.Conv2d)]
        *of_convolutions, dense, logits, bias = kernels
        with torch.no_grad():
            for layer, kernel in zip(convolutions, of_convolutions, strict=True):
                layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
            self.dense.weight.copy_(torch.tensor(dense.T))
            self.logits.weight.copy_(torch.tensor(logits.T))
            self.logits.bias.copy_(torch.tensor(bias))


class TorchStep:
    """Training steps of the PyTorch network on a batch in memory."""

    def __init__(
        self,
        settings: RunSettings,
        num_families: int,
        waveforms: np.ndarray,
        families: np.ndarray,
        *,
        compiled: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
    ):
        """Builds network and AdamW, in channels-last memory.

        Args:
          settings: the same as for ours.
          num_families: classes.
          waveforms: int16 [batch, 64000].
          families: int32 [batch].
          compiled: by `torch.compile`.
          device: `cpu` or `cuda`.
          dtype: what the network computes in; by autocast where not float32.
        """
        self.network = TorchDeepCnn(settings, num_families).to(device)
        self.network = self.network.to(memory_format=torch.channels_last)
        self._forward = torch.compile(self.network) if compiled else self.network
        self._frontend = TorchFrontEnd(settings.frontend, device)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.train.learning_rate,
            weight_decay=settings.train.weight_decay,
            eps=1e-7,
        )
        self._waveforms = torch.from_numpy(waveforms).to(device)
        self._families = torch.from_numpy(families).long().to(device)
        self._autocast = torch.autocast(
            device, getattr(torch, dtype), enabled=dtype != "float32"
        )

    def step(self) -> float:
        """One training step, finished when this returns its loss."""
        return self._step().item()

    def run(self, steps: int = 1) -> None:
        """Training steps one right after the other, finished when this returns."""
        for _ in range(steps - 1):
            self._step()
        self.step()

    def _step(self) -> torch.Tensor:
        image = self._frontend.image(self._waveforms)
        image = image.contiguous(memory_format=torch.channels_last)
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast:
            loss = F.cross_entropy(self._forward(image), self._families)
        loss.backward()
        self._optimizer.step()
        return loss

    def logits(self) -> np.ndarray:
        """Of the batch outside training, float32 [batch, families]."""
        self.network.eval()
        with torch.no_grad(), self._autocast:
            found = self.network(self._frontend.image(self._waveforms))
        self.network.train()
        return found.float().cpu().numpy()
