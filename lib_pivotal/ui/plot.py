"""Lines over the steps of a run as inline SVG, colored by the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib_pivotal.ui.escape import escape_html

__all__ = ["Line", "Plot", "draw_plot"]

_WIDTH, _HEIGHT = 600, 220
_LEFT, _TOP, _BOTTOM = 52, 12, 26
_RIGHT, _RIGHT_WITH_AXIS = 10, 46
_TICKS = 4


@dataclass(frozen=True)
class Line:
    """One line of the plot.

    Attributes:
        label: for the legend.
        kind: CSS class.
        points: (step, value), steps ascending; points that are not finite are left out.
        has_marks: draw a mark at every point.
        is_rough: the vertical range follows the 2 % and 98 % quantiles of its values, so that a single spike does not
            flatten the rest; other lines always fit.
        on_right: use the axis on the right.
    """

    label: str
    kind: str
    points: Sequence[tuple[float, float]]
    has_marks: bool = False
    is_rough: bool = False
    on_right: bool = False

    @property
    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(float(step), float(value)) for step, value in self.points if math.isfinite(value)]


@dataclass(frozen=True)
class Plot:
    """A drawn plot.

    Attributes:
        svg: an ``<svg>`` element as text.
        first: step at ``left``.
        last: step at ``right``.
        left: in units of the drawing.
        right: in units of the drawing.
    """

    svg: str
    first: float
    last: float
    left: int
    right: int


def draw_plot(lines: Sequence[Line], *, total_steps: int = 0, title: str = "") -> Plot | None:
    """Draw lines over the steps; None if the first line has fewer than two points.

    Args:
        lines: the first one decides whether there is anything to draw.
        total_steps: right end of the horizontal axis; 0 ends at the last point.
        title: plain text for screen readers.

    Returns:
        Colors come from CSS: the lines' classes, ``pivotal-plot-grid`` and ``-text``.
    """
    drawn = [line for line in lines if line.finite]
    if not lines or len(lines[0].finite) < 2:
        return None
    steps = [step for line in drawn for step, _ in line.finite]
    has_right = any(line.on_right for line in drawn)
    right = _WIDTH - (_RIGHT_WITH_AXIS if has_right else _RIGHT)
    plot = Plot("", min(steps), max(*steps, float(total_steps)), _LEFT, right)
    parts = []
    for on_right in (False, True):
        own = [line for line in drawn if line.on_right == on_right]
        if own:
            low, high = _range(own)
            parts.append(_vertical_axis(low, high, right, on_right=on_right))
            parts += [_draw(line, plot, low, high) for line in own]
    parts.insert(1, _horizontal_axis(plot))
    label = escape_html(title)
    svg = (
        f'<svg class="pivotal-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" tabindex="0">'
        f"{''.join(parts)}</svg>"
    )
    return Plot(svg, plot.first, plot.last, plot.left, plot.right)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    ends = []
    for line in lines:
        values = sorted(value for _, value in line.finite)
        cut = round(0.02 * (len(values) - 1)) if line.is_rough else 0
        ends += [values[cut], values[len(values) - 1 - cut]]
    low, high = min(ends), max(ends)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _draw(line: Line, plot: Plot, low: float, high: float) -> str:
    places = []
    for step, value in line.finite:
        x = plot.left + (step - plot.first) / max(plot.last - plot.first, 1e-12) * (plot.right - plot.left)
        places.append((f"{x:.1f}", f"{_y(min(max(value, low), high), low, high):.1f}"))
    marks = "".join(f'<circle class="{line.kind}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in places)
    points = " ".join(f"{x},{y}" for x, y in places)
    return f'<polyline class="{line.kind}" fill="none" points="{points}"/>{marks if line.has_marks else ""}'


def _y(value: float, low: float, high: float) -> float:
    return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _vertical_axis(low: float, high: float, right: int, *, on_right: bool) -> str:
    parts = []
    for tick in range(_TICKS + 1):
        value = low + (high - low) * tick / _TICKS
        y = _y(value, low, high)
        if not on_right:
            parts.append(f'<line class="pivotal-plot-grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        x, anchor = (right + 6, "start") if on_right else (_LEFT - 6, "end")
        parts.append(
            f'<text class="pivotal-plot-text" x="{x}" y="{y + 4:.1f}" text-anchor="{anchor}">{value:.3g}</text>'
        )
    return "".join(parts)


def _horizontal_axis(plot: Plot) -> str:
    parts = []
    for tick in range(_TICKS + 1):
        share = tick / _TICKS
        x = plot.left + share * (plot.right - plot.left)
        anchor = "end" if tick == _TICKS else "middle"
        step = plot.first + share * (plot.last - plot.first)
        parts.append(
            f'<text class="pivotal-plot-text" x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{step:.0f}</text>'
        )
    return "".join(parts)
