"""Pictures of an evaluation, as PNG bytes."""

import contextlib
import io
import warnings
from collections.abc import Iterator

import matplotlib
import numpy as np
from absl import logging

matplotlib.use("Agg")
from matplotlib import font_manager, ft2font  # noqa: E402  (after the backend's choice)
from matplotlib import pyplot as plt  # noqa: E402

from mic_tf.model.frontend import LogMel  # noqa: E402

_MOST_INCHES = 60.0


def confusion_png(confusion: np.ndarray, labels: tuple[str, ...], title: str) -> bytes:
    """The confusion matrix: colour is the share of the row, figures are counts.

    Args:
      confusion: int [families, families], rows truth.
      labels: names of the families.
      title: shown above.
    """
    # Without this a dollar sign would begin a formula.
    labels = tuple(name.replace("$", r"\$") for name in labels)
    with _fonts_for("".join(labels)):
        return _confusion_png(confusion, labels, title.replace("$", r"\$"))


def _confusion_png(confusion: np.ndarray, labels: tuple[str, ...], title: str) -> bytes:
    rows = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(rows, 1)
    # With hundreds of families the names no longer fit; `metrics.json` has the counts.
    size = 2.5 + min(0.55 * len(labels), _MOST_INCHES)
    small = min(9.0, 9.0 * _MOST_INCHES / (0.55 * len(labels)))
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            count = int(confusion[row, column])
            if count:
                colour = "white" if shares[row, column] > 0.5 else "#1a1a1a"
                place = {"ha": "center", "va": "center", "size": small}
                axes.text(column, row, count, color=colour, **place)
    names = {"size": small / 0.9} if small < 9 else {}
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", **names)
    axes.set_yticks(range(len(labels)), labels, **names)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(title, size=10, wrap=True)
    figure.colorbar(image, ax=axes, label="share of the family's notes", shrink=0.8)
    return _png(figure)


def curves_png(history: list[dict[str, str]]) -> bytes:
    """Learning curves of `history.csv`: loss, accuracy and macro-F1."""
    epochs = [int(row["epoch"]) for row in history]
    figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axes, name in zip(panels, ("loss", "accuracy", "macro_f1"), strict=True):
        for column, style in ((name, "-"), (f"val_{name}", "--")):
            values = [float(row.get(column) or "nan") for row in history]
            axes.plot(epochs, values, style, label=column)
        axes.set_xlabel("epoch")
        axes.set_title(name)
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def log_mel_png(waveform: np.ndarray) -> bytes:
    """The log-mel of a note, time to the right, low bands below.

    Args:
      waveform: int16 [samples].
    """
    layer = LogMel(n_fft=1024, hop_length=512, n_mels=80)
    log_mel = layer(waveform[np.newaxis]).numpy()[0]
    buffer = io.BytesIO()
    plt.imsave(buffer, log_mel.T, cmap="magma", origin="lower", vmin=-1, vmax=1)
    return buffer.getvalue()


@contextlib.contextmanager
def _fonts_for(text: str) -> Iterator[None]:
    """Adds installed fonts for characters that matplotlib's own has not."""
    usual = font_manager.findfont(font_manager.FontProperties())
    missing = set(map(ord, text)) - _characters(usual)
    added = []
    for font in font_manager.fontManager.ttflist:
        if not missing:
            break
        found = missing & _characters(font.fname)
        if found:
            added.append(font.name)
            missing -= found
    if missing:
        logging.warning(
            "no font here has %s; the confusion matrix as PNG shows boxes instead",
            "".join(map(chr, sorted(missing))),
        )
    families = [*plt.rcParams["font.family"], *added]
    with plt.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _characters(font: str) -> set[int]:
    """What a font has; nothing where its file is damaged, or no longer there."""
    try:
        return set(ft2font.FT2Font(font).get_charmap())
    except (OSError, RuntimeError):
        return set()


def _png(figure: plt.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()
