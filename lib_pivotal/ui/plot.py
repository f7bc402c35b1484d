"""The loss plot as inline SVG, colored by the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lib_pivotal.ui.escape import escape_html

__all__ = ["draw_losses"]

_WIDTH, _HEIGHT = 600, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 26
_TICKS = 4


def draw_losses(points: Sequence[Sequence[float]], *, total_steps: int = 0, title: str = "Loss") -> str:
    """An SVG element with the raw and the smoothed loss over the steps.

    The vertical range follows the 2 % and 98 % quantiles of the raw values, so that a single spike does not flatten
    the rest; the smoothed line always fits.

    Args:
        points: (step, loss, smoothed loss), steps ascending; losses dimensionless. NaN and infinite points are
            left out.
        total_steps: right end of the horizontal axis; 0 ends at the last point.
        title: plain text for screen readers.

    Returns:
        An ``<svg>`` element as text, empty if fewer than two points are left. Colors come from the CSS classes
        ``pivotal-plot-raw``, ``-smooth``, ``-grid`` and ``-text``.
    """
    finite = [(float(s), float(raw), float(smooth)) for s, raw, smooth in points if math.isfinite(raw + smooth)]
    if len(finite) < 2:
        return ""
    low, high = _range([raw for _, raw, _ in finite], [smooth for _, _, smooth in finite])
    first, last = finite[0][0], max(finite[-1][0], float(total_steps))

    def place(step: float, value: float) -> str:
        x = _LEFT + (step - first) / max(last - first, 1e-12) * (_WIDTH - _LEFT - _RIGHT)
        y = _y(min(max(value, low), high), low, high)
        return f"{x:.1f},{y:.1f}"

    parts = [_axes(low, high, first, last)]
    raw_line = " ".join(place(step, raw) for step, raw, _ in finite)
    smooth_line = " ".join(place(step, smooth) for step, _, smooth in finite)
    parts.append(f'<polyline class="pivotal-plot-raw" fill="none" points="{raw_line}"/>')
    parts.append(f'<polyline class="pivotal-plot-smooth" fill="none" points="{smooth_line}"/>')
    label = escape_html(title)
    return (
        f'<svg class="pivotal-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _range(raw: list[float], smooth: list[float]) -> tuple[float, float]:
    ordered = sorted(raw)
    last = len(ordered) - 1
    low = min(ordered[round(0.02 * last)], *smooth)
    high = max(ordered[round(0.98 * last)], *smooth)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _y(value: float, low: float, high: float) -> float:
    return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(low: float, high: float, first: float, last: float) -> str:
    parts = []
    for tick in range(_TICKS + 1):
        value = low + (high - low) * tick / _TICKS
        y = _y(value, low, high)
        parts.append(
            f'<line class="pivotal-plot-grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="pivotal-plot-text" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for tick in range(_TICKS + 1):
        share = tick / _TICKS
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        anchor = "end" if tick == _TICKS else "middle"
        step = first + share * (last - first)
        parts.append(
            f'<text class="pivotal-plot-text" x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{step:.0f}</text>'
        )
    return "".join(parts)
