"""The loss curve as SVG."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from lib_pivotal.ui.plot import draw_losses


def lines(svg: str) -> list[list[tuple[float, float]]]:
    """Points of the raw and of the smoothed line."""
    root = ElementTree.fromstring(svg)
    found = [item.attrib["points"] for item in root.iter("polyline")]
    return [[tuple(map(float, pair.split(","))) for pair in text.split()] for text in found]


def ramp(count: int) -> list[tuple[int, float, float]]:
    return [(step, 1.0 - step / count, 1.0 - step / count) for step in range(1, count + 1)]


def test_lines_run_from_left_to_right_and_fall_with_the_loss():
    raw, smooth = lines(draw_losses(ramp(20)))
    assert len(raw) == len(smooth) == 20
    assert [x for x, _ in raw] == sorted(x for x, _ in raw)
    assert raw[0][1] < raw[-1][1], "a falling loss goes down, and y counts downwards"


def test_a_spike_does_not_flatten_the_rest():
    points = [(step, 0.5 + 0.01 * (step % 2), 0.5) for step in range(1, 201)]
    points[100] = (101, 1e6, 0.5)
    heights = [y for _, y in lines(draw_losses(points))[0]]
    spike = heights.pop(100)
    assert max(heights) - min(heights) > 50
    assert spike < min(heights)
    assert spike > 0, "clipped at the edge, not drawn outside"


def test_nan_losses_are_left_out():
    points = [*ramp(5), (6, math.nan, 0.1), (7, math.inf, 0.1), (8, 0.1, 0.1)]
    assert [len(line) for line in lines(draw_losses(points))] == [6, 6]


def test_too_few_points_draw_nothing():
    assert draw_losses([]) == ""
    assert draw_losses([(1, 0.5, 0.5)]) == ""
    assert draw_losses([(1, 0.5, 0.5), (2, math.nan, 0.5)]) == ""


def test_constant_loss_and_title():
    svg = draw_losses([(1, 0.5, 0.5), (2, 0.5, 0.5)], total_steps=100, title='a <b> & "c"')
    assert "nan" not in svg
    assert ElementTree.fromstring(svg).attrib["aria-label"] == 'a <b> & "c"'
    xs = [x for x, _ in lines(svg)[0]]
    assert xs[-1] < 70, "the axis goes on to the end of the run"


def test_colors_are_left_to_the_page():
    assert not re.search(r"#[0-9a-f]{3}|rgb|stroke=", draw_losses(ramp(5)))


def test_validation_has_lines_marks_and_labels_of_its_own():
    measured = {"full <caption>": [(0, 5.0), (10, 0.2), (20, math.nan)], "name only": [(0, 2.0), (10, 1.0)], "none": []}
    svg = draw_losses(ramp(20), validation=measured)
    root = ElementTree.fromstring(svg)
    _, _, caption, name = lines(svg)
    assert len(caption) == len(name) == 2 and caption[0][0] < lines(svg)[0][0][0], "they begin before the first step"
    assert 0 < caption[0][1] < name[0][1] < 220, "a high loss is still inside"
    assert len(list(root.iter("circle"))) == 4
    labels = [item.text for item in root.iter("text")]
    assert "full <caption>" in labels and "name only" in labels and "none" not in labels
    assert {item.attrib["class"] for item in root.iter("circle")} == {"pivotal-plot-line-1", "pivotal-plot-line-2"}
    assert draw_losses(ramp(20), validation={}) == draw_losses(ramp(20))
