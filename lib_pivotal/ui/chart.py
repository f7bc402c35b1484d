"""The chart of a run: losses, validation, norms and changes of weights, with a legend and values to point at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.plot import Line, Plot, draw_plot
from lib_pivotal.ui.text.chart import CHART, VALIDATION_LINES

__all__ = ["show_chart"]

_MAX_NAMES = 6
"""Names with a line of their own; of more, the extremes and the mean are shown."""


def show_chart(status: Mapping[str, Any]) -> str:
    """The chart, or a placeholder until there is something to draw.

    Args:
        status: of the run, see ``app.status``.
    """
    losses = status["losses"]
    lines = [
        Line(CHART["raw"], "pivotal-plot-raw", [(step, raw) for step, raw, _ in losses], is_rough=True),
        Line(CHART["smooth"], "pivotal-plot-smooth", [(step, smooth) for step, _, smooth in losses]),
        *_validation(status["validation"]),
        *_norms(status["norms"]),
        *_changes(status["weight_changes"]),
    ]
    lines = [line for line in lines if line.points]
    plot = draw_plot(lines, total_steps=status["total_steps"], title=CHART["title"])
    if plot is None:
        return f'<div class="pivotal-later">{escape_html(CHART["later"])}</div>'
    legend = "".join(_legend_item(line) for line in lines)
    return (
        f'<figure class="pivotal-chart" data-chart="{escape_html(_data(plot, lines))}">{plot.svg}'
        f'<figcaption class="pivotal-chart-values" aria-live="polite" data-hint="{escape_html(CHART["hint"])}">'
        f"{escape_html(CHART['hint'])}</figcaption>"
        f'<ul class="pivotal-chart-legend">{legend}</ul></figure>'
    )


def _validation(measured: Sequence[Mapping[str, Any]]) -> list[Line]:
    found = []
    for number, (kind, label) in enumerate(VALIDATION_LINES.items(), start=1):
        points = [(item["step"], item[kind]) for item in measured if item[kind] is not None]
        found.append(Line(label, f"pivotal-plot-line-{number}", points, has_marks=True))
    return found


def _norms(norms: Mapping[str, Any]) -> list[Line]:
    steps, columns = norms["steps"], dict(norms["names"])
    if len(columns) > _MAX_NAMES:
        rows = [[value for value in row if value is not None] for row in zip(*columns.values(), strict=True)]
        columns = {
            CHART["highest_norm"]: [max(row, default=None) for row in rows],
            CHART["mean_norm"]: [sum(row) / len(row) if row else None for row in rows],
            CHART["lowest_norm"]: [min(row, default=None) for row in rows],
        }
    else:
        columns = {CHART["norm"].format(name=name): values for name, values in columns.items()}
    found = []
    for number, (label, values) in enumerate(columns.items(), start=1):
        points = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
        found.append(Line(label, f"pivotal-plot-norm pivotal-plot-norm-{number}", points, on_right=True))
    return found


def _changes(changes: Mapping[str, Any]) -> list[Line]:
    found = []
    for number, (name, values) in enumerate(changes["names"].items(), start=1):
        points = [(step, value) for step, value in zip(changes["steps"], values, strict=True) if value is not None]
        label = CHART["change"].format(name=name)
        found.append(Line(label, f"pivotal-plot-change pivotal-plot-norm-{number}", points, on_right=True))
    return found


def _legend_item(line: Line) -> str:
    sample = (
        f'<svg width="22" height="8" aria-hidden="true"><line class="{line.kind}" x1="1" x2="21" y1="4" y2="4"/></svg>'
    )
    return f"<li>{sample}{escape_html(line.label)}</li>"


def _data(plot: Plot, lines: Sequence[Line]) -> str:
    """What the page's script needs to show the values of a step."""
    values = [
        {"label": line.label, "points": [[step, float(f"{value:.4g}")] for step, value in line.finite]}
        for line in lines
    ]
    place = {"first": plot.first, "last": plot.last, "left": plot.left, "right": plot.right}
    return json.dumps({**place, "step": CHART["step"], "lines": values}, ensure_ascii=False, separators=(",", ":"))
