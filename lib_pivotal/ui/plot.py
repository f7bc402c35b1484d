"""The plot of the losses as inline SVG, colored by the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from lib_pivotal.ui.escape import escape_html

__all__ = ["draw_losses"]

_WIDTH, _HEIGHT = 600, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 26
_TICKS = 4
_LINE_HEIGHT = 16


_Measured = Mapping[str, Sequence[tuple[float, float]]]


def draw_losses(
    points: Sequence[Sequence[float]],
    *,
    validation: _Measured | None = None,
    total_steps: int = 0,
    title: str = "Loss",
) -> str:
    """An SVG element with the raw and the smoothed loss over the steps, and with the losses of validation images.

    The vertical range follows the 2 % and 98 % quantiles of the raw values, so that a single spike does not flatten
    the rest; the other lines always fit.

    Args:
        points: (step, loss, smoothed loss), steps ascending; losses dimensionless. NaN and infinite points are
            left out.
        validation: label of a line → its (step, loss) points, steps ascending. NaN and infinite points are left out.
        total_steps: right end of the horizontal axis; 0 ends at the last point.
        title: plain text for screen readers.

    Returns:
        An ``<svg>`` element as text, empty if fewer than two points are left. Colors come from the CSS classes
        ``pivotal-plot-raw``, ``-smooth``, ``-grid`` and ``-text``, and ``-line-1`` to ``-line-3`` for validation.
    """
    finite = [(float(s), float(raw), float(smooth)) for s, raw, smooth in points if math.isfinite(raw + smooth)]
    if len(finite) < 2:
        return ""
    lines = {
        label: [(float(step), float(loss)) for step, loss in line if math.isfinite(loss)]
        for label, line in (validation or {}).items()
    }
    measured = [point for line in lines.values() for point in line]
    low, high = _range(
        [raw for _, raw, _ in finite], [*(smooth for _, _, smooth in finite), *(loss for _, loss in measured)]
    )
    first = min(finite[0][0], *(step for step, _ in measured)) if measured else finite[0][0]
    last = max(finite[-1][0], float(total_steps))

    def place(step: float, value: float) -> str:
        x = _LEFT + (step - first) / max(last - first, 1e-12) * (_WIDTH - _LEFT - _RIGHT)
        y = _y(min(max(value, low), high), low, high)
        return f"{x:.1f},{y:.1f}"

    parts = [_axes(low, high, first, last)]
    raw_line = " ".join(place(step, raw) for step, raw, _ in finite)
    smooth_line = " ".join(place(step, smooth) for step, _, smooth in finite)
    parts.append(f'<polyline class="pivotal-plot-raw" fill="none" points="{raw_line}"/>')
    parts.append(f'<polyline class="pivotal-plot-smooth" fill="none" points="{smooth_line}"/>')
    parts += _validation(lines, place)
    label = escape_html(title)
    return (
        f'<svg class="pivotal-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _validation(lines: _Measured, place: Callable[[float, float], str]) -> list[str]:
    """Lines with a mark at every measurement, and their labels below each other at the top right."""
    parts = []
    for number, (label, line) in enumerate(lines.items(), start=1):
        if not line:
            continue
        kind = f"pivotal-plot-line-{number}"
        places = [place(step, loss) for step, loss in line]
        parts.append(f'<polyline class="{kind}" fill="none" points="{" ".join(places)}"/>')
        for x, y in (spot.split(",") for spot in places):
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="2.5"/>')
        y = _TOP + _LINE_HEIGHT * number
        right = _WIDTH - _RIGHT - 4
        parts.append(f'<line class="{kind}" x1="{right - 20}" x2="{right}" y1="{y - 4}" y2="{y - 4}"/>')
        parts.append(
            f'<text class="pivotal-plot-text" x="{right - 26}" y="{y}" text-anchor="end">{escape_html(label)}</text>'
        )
    return parts


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
