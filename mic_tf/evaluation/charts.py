"""Charts as SVG: colours are the page's, so they fit light and dark."""

import html
from collections.abc import Sequence

import numpy as np

from mic_tf.evaluation.markup import Markup

_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 26, 44


class _Plane:
    """Places of values in the picture."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]):
        self._x, self._y = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self._x
        share = (value - low) / max(high - low, 1e-12)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        share = (value - low) / max(high - low, 1e-12)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def points(self, x: Sequence[float], y: Sequence[float]) -> str:
        return " ".join(
            f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in zip(x, y, strict=True)
        )

    def frame(self, x_title: str, y_title: str) -> str:
        parts = []
        for i in range(6):
            at_y = self._y[0] + (self._y[1] - self._y[0]) * i / 5
            at_x = self._x[0] + (self._x[1] - self._x[0]) * i / 5
            y, x = self.y(at_y), self.x(at_x)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" '
                f'y2="{y:.1f}"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" '
                f'text-anchor="end">{at_y:.3g}</text>'
                f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
                f'text-anchor="middle">{at_x:.3g}</text>'
            )
        base = _HEIGHT - _BOTTOM
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" '
            f'y2="{base}"/><text x="{middle:.0f}" y="{_HEIGHT - 8}" '
            f'text-anchor="middle">{html.escape(x_title)}</text>'
            f'<text x="4" y="14">{html.escape(y_title)}</text>'
        )
        return "".join(parts)


def learning_curve(
    epochs: Sequence[float], curves: dict[str, Sequence[float]], title: str
) -> Markup:
    """One or two curves over the epochs.

    Args:
      epochs: [epochs].
      curves: values by name, each [epochs].
      title: of the vertical axis, and what the picture is called.
    """
    values = np.concatenate([np.asarray(v, float) for v in curves.values()])
    low = min(0.0, float(np.nanmin(values)))
    high = max(float(np.nanmax(values)), low + 1e-6)
    # Shares end at 1, so that runs can be compared by eye.
    plane = _Plane((0, max(epochs)), (low, 1.0 if 0.5 < high <= 1.0 else high))
    parts = [plane.frame("epoch", title)]
    for number, (name, curve) in enumerate(curves.items()):
        parts.append(
            f'<polyline class="line{number}" fill="none" stroke-width="2" '
            f'{_DASHES[number]} points="{plane.points(epochs, curve)}"/>'
            f'<line class="line{number}" stroke-width="2" {_DASHES[number]} '
            f'x1="{220 + 130 * number}" x2="{244 + 130 * number}" y1="10" y2="10"/>'
            f'<text x="{250 + 130 * number}" y="14">{html.escape(name)}</text>'
        )
    last = ", ".join(f"{name} {curve[-1]:.3f}" for name, curve in curves.items())
    return _svg(f"{title} over {len(epochs)} epochs; at the end {last}", parts)


def calibration(confidence: Sequence, accuracy: Sequence, n: Sequence) -> Markup:
    """How often the answers of each confidence were right; grey bars are counts."""
    plane = _Plane((0, 1), (0, 1))
    parts = [plane.frame("confidence", "share that was right")]
    width = (plane.x(1) - plane.x(0)) / len(n)
    for i, count in enumerate(n):
        height = 0.3 * count / max(max(n), 1) * (plane.y(0) - plane.y(1))
        parts.append(
            f'<rect class="bar" x="{plane.x(i / len(n)) + 1:.1f}" '
            f'y="{plane.y(0) - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}"/>'
        )
    parts.append(
        f'<polyline class="axis" fill="none" stroke-dasharray="4 4" '
        f'points="{plane.points([0, 1], [0, 1])}"/>'
    )
    seen = [i for i, count in enumerate(n) if count]
    x, y = [confidence[i] for i in seen], [accuracy[i] for i in seen]
    parts.append(
        f'<polyline class="line0" fill="none" stroke-width="2" '
        f'points="{plane.points(x, y)}"/>'
    )
    parts += [
        f'<circle class="dot" r="4" cx="{plane.x(a):.1f}" cy="{plane.y(b):.1f}"/>'
        for a, b in zip(x, y, strict=True)
    ]
    return _svg("calibration: share of right answers against confidence", parts)


_DASHES = ("", 'stroke-dasharray="6 3"')


def bars(names: Sequence[str], values: Sequence[float], title: str) -> Markup:
    """Horizontal bars from zero, one below the other, each with its name and value.

    Args:
      names: of the bars.
      values: their lengths; negative ones go to the left.
      title: what is measured, with its unit.
    """
    step, left, right = 22, 130, 60
    low, high = min(0.0, *values), max(0.0, *values)
    scale = (_WIDTH - left - right) / max(high - low, 1e-9)
    zero = left - low * scale
    parts = [f'<text x="4" y="14">{html.escape(title)}</text>']
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        top = _TOP + number * step
        start, width = zero + min(value, 0.0) * scale, abs(value) * scale
        parts.append(
            f'<text x="4" y="{top + 14}">{html.escape(name)}</text>'
            f'<rect class="loss" x="{start:.1f}" y="{top + 2}" width="{width:.1f}" '
            f'height="{step - 6}"/>'
            f'<text x="{start + width + 6:.1f}" y="{top + 14}">{value:.1f}</text>'
        )
    bottom = _TOP + len(names) * step
    parts.append(
        f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="{_TOP}" '
        f'y2="{bottom}"/>'
    )
    shown = ", ".join(f"{n} {v:.1f}" for n, v in zip(names, values, strict=True))
    return _svg(f"{title}: {shown}", parts, bottom + 6)


def _svg(label: str, parts: Sequence[str], height: int = _HEIGHT) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>'
    )
