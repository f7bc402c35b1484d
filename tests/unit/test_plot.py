"""Lines over the steps of a run as SVG."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from lib_pivotal.ui.plot import Line, Plot, draw_plot


def drawn(*lines: Line, **options) -> Plot:
    plot = draw_plot(lines, **options)
    assert plot is not None
    return plot


def losses(points) -> tuple[Line, Line]:
    """The raw and the smoothed line of (step, loss, smoothed loss)."""
    raw = Line("raw", "pivotal-plot-raw", [(step, loss) for step, loss, _ in points], is_rough=True)
    return raw, Line("smooth", "pivotal-plot-smooth", [(step, smooth) for step, _, smooth in points])


def places(plot: Plot) -> list[list[tuple[float, float]]]:
    """Points of each line."""
    found = [item.attrib["points"] for item in ElementTree.fromstring(plot.svg).iter("polyline")]
    return [[tuple(map(float, pair.split(","))) for pair in text.split()] for text in found]


def ramp(count: int) -> tuple[Line, Line]:
    return losses([(step, 1.0 - step / count, 1.0 - step / count) for step in range(1, count + 1)])


def test_lines_run_from_left_to_right_and_fall_with_the_loss():
    raw, smooth = places(drawn(*ramp(20)))
    assert len(raw) == len(smooth) == 20
    assert [x for x, _ in raw] == sorted(x for x, _ in raw)
    assert raw[0][1] < raw[-1][1], "a falling loss goes down, and y counts downwards"


def test_a_spike_does_not_flatten_the_rest():
    points = [(step, 0.5 + 0.01 * (step % 2), 0.5) for step in range(1, 201)]
    points[100] = (101, 1e6, 0.5)
    heights = [y for _, y in places(drawn(*losses(points)))[0]]
    spike = heights.pop(100)
    assert max(heights) - min(heights) > 50
    assert spike < min(heights)
    assert spike > 0, "clipped at the edge, not drawn outside"


def test_values_that_are_not_finite_are_left_out():
    points = [(step, 0.5, 0.5) for step in range(1, 6)]
    points += [(6, math.nan, 0.1), (7, math.inf, 0.1), (8, 0.1, 0.1)]
    assert [len(line) for line in places(drawn(*losses(points)))] == [6, 8]


def test_too_few_points_draw_nothing():
    assert draw_plot([]) is None
    assert draw_plot(losses([(1, 0.5, 0.5)])) is None
    assert draw_plot(losses([(1, 0.5, 0.5), (2, math.nan, 0.5)])) is None


def test_constant_loss_and_title():
    plot = drawn(*losses([(1, 0.5, 0.5), (2, 0.5, 0.5)]), total_steps=100, title='a <b> & "c"')
    assert "nan" not in plot.svg
    assert ElementTree.fromstring(plot.svg).attrib["aria-label"] == 'a <b> & "c"'
    xs = [x for x, _ in places(plot)[0]]
    assert xs[-1] < 70, "the axis goes on to the end of the run"


def test_colors_are_left_to_the_page():
    assert not re.search(r"#[0-9a-f]{3}|rgb|stroke=", drawn(*ramp(5)).svg)


def test_a_line_with_marks_may_begin_earlier_and_always_fits():
    measured = Line("full <caption>", "pivotal-plot-line-1", [(0, 5.0), (10, 0.2), (20, math.nan)], has_marks=True)
    plot = drawn(*ramp(20), measured)
    raw, _, caption = places(plot)
    assert caption[0][0] < raw[0][0], "it begins before the first step"
    assert plot.first == 0
    assert all(0 < y < 220 for _, y in caption)
    circles = list(ElementTree.fromstring(plot.svg).iter("circle"))
    assert [item.attrib["class"] for item in circles] == ["pivotal-plot-line-1"] * 2


def test_an_axis_of_its_own_on_the_right():
    plain = drawn(*ramp(20))
    plot = drawn(*ramp(20), Line("norm", "pivotal-plot-norm-1", [(1, 100.0), (20, 300.0)], on_right=True))
    assert plot.right < plain.right
    raw, _, norm = places(plot)
    assert [y for _, y in raw] == [y for _, y in places(plain)[0]], "the loss keeps its own range"
    assert norm[0][1] > norm[1][1]
    anchors = [item.attrib["text-anchor"] for item in ElementTree.fromstring(plot.svg).iter("text")]
    assert anchors.count("start") == 5
