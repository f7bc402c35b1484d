"""The chart of a run: legend, norms, and the values for the page's script."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from lib_pivotal.app.status import IDLE
from lib_pivotal.ui.chart import show_chart


def chart(**values: Any) -> Any:
    """The parsed chart of a status."""
    losses = [[step, 0.5 / step, 0.4 / step] for step in range(1, 11)]
    return ElementTree.fromstring(show_chart({**IDLE, "losses": losses, "total_steps": 20, **values}))


def legend(figure: Any) -> list[str]:
    return ["".join(item.itertext()) for item in figure.iter("li")]


def data(figure: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(figure.attrib["data-chart"])
    return values


def test_before_there_are_two_steps_a_text_says_so():
    assert "during training" in show_chart({**IDLE, "losses": [[1, 0.5, 0.5]]})


def test_every_line_is_in_the_legend_and_has_its_values():
    measured = [{"step": 0, "caption": 0.7, "name_only": None, "initialization": 0.9}]
    figure = chart(validation=measured, norms={"steps": [1, 10], "names": {"<zog>": [1.0, 1.25], "mib": [1.0, None]}})
    labels = ["Loss per step", "Loss, smoothed", "Validation: full caption",
              "Validation: initialization text instead of the name", "Norm of <zog> (right)", "Norm of mib (right)"]  # fmt: skip
    assert legend(figure) == labels
    lines = {line["label"]: line["points"] for line in data(figure)["lines"]}
    assert list(lines) == labels
    assert lines["Loss per step"][1] == [2, 0.25]
    assert lines["Validation: full caption"] == [[0, 0.7]]
    assert (lines["Norm of <zog> (right)"], lines["Norm of mib (right)"]) == ([[1, 1.0], [10, 1.25]], [[1, 1.0]])
    classes = [line.attrib["class"] for item in figure.iter("li") for line in item.iter("line")]
    assert len(set(classes)) == len(classes)


def test_changes_of_the_weights_have_lines_of_their_own():
    figure = chart(weight_changes={"steps": [1, 10], "names": {"unet": [0.0, 0.125]}})
    assert legend(figure)[2:] == ["Largest change of a weight, unet (right)"]
    assert data(figure)["lines"][2]["points"] == [[1, 0.0], [10, 0.125]]


def test_of_many_names_the_extremes_and_the_mean_are_shown():
    names = {f"name{number}": [1.0, 1.0 + number / 10] for number in range(9)}
    figure = chart(norms={"steps": [1, 10], "names": {**names, "odd": [None, None]}})
    values = {line["label"].split()[0]: line["points"][1][1] for line in data(figure)["lines"][2:]}
    assert values == {"Highest": 1.8, "Mean": 1.4, "Lowest": 1.0}


def test_the_chart_can_be_reached_with_the_keyboard_and_announces_values():
    figure = chart()
    svg = next(figure.iter("svg"))
    assert svg.attrib["tabindex"] == "0" and svg.attrib["aria-label"]
    caption = next(figure.iter("figcaption"))
    assert caption.attrib["aria-live"] == "polite" and caption.text == caption.attrib["data-hint"]
    assert {"first", "last", "left", "right", "step"} <= set(data(figure))
