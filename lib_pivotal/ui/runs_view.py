"""HTML for past runs; every text from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib_pivotal.core.config.schema import concept_field_info, field_info
from lib_pivotal.ui.chart import show_chart
from lib_pivotal.ui.duration import size
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.text.runs import RUN_COLUMNS, RUN_MESSAGES, RUN_STATES, STEP_COLUMNS
from lib_pivotal.ui.thumbnails import show_image

__all__ = ["show_comparison", "show_may_change", "show_run", "show_runs", "show_steps"]

_LIST_SIDE, _SAMPLE_SIDE = 72, 160
_MAX_SAMPLES = 8
_MAX_VALUE_LENGTH = 400


def show_runs(runs: Sequence[Mapping[str, Any]], total: int) -> str:
    """The table of runs with a button to select each.

    Args:
        runs: summaries, see ``app.run_history``.
        total: number of all runs.
    """
    if not runs:
        return f'<div class="pivotal-later">{escape_html(RUN_MESSAGES["none"])}</div>'
    rows = "".join(_row(run) for run in runs)
    shown = escape_html(RUN_MESSAGES["shown"].format(shown=len(runs), total=total))
    return f'<div class="pivotal-wide">{_table(RUN_COLUMNS, rows)}</div><div class="pivotal-hint">{shown}</div>'


def _table(columns: Iterable[str], rows: str) -> str:
    head = "".join(f'<th scope="col">{escape_html(column)}</th>' if column else "<td></td>" for column in columns)
    return f'<table class="pivotal-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(run: Mapping[str, Any]) -> str:
    name = run["name"]
    button = (
        f'<button type="button" class="pivotal-select" data-pivotal-run="{escape_html(name)}" '
        f'aria-label="{escape_html(RUN_MESSAGES["select_run"].format(name=name))}">'
        f"{escape_html(RUN_MESSAGES['select'])}</button>"
    )
    cells = [
        show_image(run["sample"], _LIST_SIDE, RUN_MESSAGES["sample_of"].format(name=name)),
        escape_html(name),
        escape_html(run["model"] or "–"),
        escape_html(_date(run)),
        escape_html(RUN_MESSAGES["steps"].format(step=run["step"], total=run["total_steps"] or "?")),
        escape_html(_number(run["loss"])),
        escape_html(_number(run["validation"])),
        _state(run["state"]),
        button,
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _date(run: Mapping[str, Any]) -> str:
    return str(run["date"])[:16].replace("T", " ")


def _state(state: str) -> str:
    return f'<span class="pivotal-state pivotal-state-{escape_html(state)}">{escape_html(RUN_STATES[state])}</span>'


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def show_run(run: Mapping[str, Any]) -> str:
    """A run: state, problems, curves and its last samples.

    Args:
        run: see ``app.run_history.RunHistory.one``.
    """
    lines = [f"<div><b>{escape_html(run['name'])}</b> {_state(run['state'])}</div>"]
    if run["message"]:
        lines.append(f"<div>{escape_html(RUN_MESSAGES['failed'].format(message=run['message']))}</div>")
    if run["problem"]:
        lines.append(f"<div>{escape_html(RUN_MESSAGES['unreadable'].format(problem=run['problem'][:500]))}</div>")
    states = RUN_MESSAGES["no_states"]
    if run["states"]:
        states = RUN_MESSAGES["states"].format(
            step=run["states"][0], count=len(run["states"]), size=size(run["states_bytes"])
        )
    lines.append(f"<div>{escape_html(states)}</div>")
    if run["steps_bytes"]:
        lines.append(f"<div>{escape_html(RUN_MESSAGES['kept_steps'].format(size=size(run['steps_bytes'])))}</div>")
    # A click selects the whole path, to be copied.
    path = f'<span class="pivotal-whole">{escape_html(run["folder"])}</span>'
    lines.append(f'<div class="pivotal-path">{escape_html(RUN_MESSAGES["folder"])} {path}</div>')
    kind = "bad" if run["state"] == "failed" else "plain"
    box = f'<div class="pivotal-box pivotal-{kind}">{"".join(lines)}</div>'
    return box + _curves(run) + _last_samples(run)


def _curves(run: Mapping[str, Any]) -> str:
    if len(run["losses"]) < 2:
        return ""
    norms: dict[str, Any] = {"steps": [], "names": {}}
    return show_chart({**run, "norms": norms, "weight_changes": norms})


def _last_samples(run: Mapping[str, Any]) -> str:
    last = max((sample["step"] for sample in run["samples"]), default=0)
    paths = [sample["path"] for sample in run["samples"] if sample["step"] == last]
    return _images(sorted(paths), last)


def _images(paths: Sequence[str], step: int) -> str:
    text = RUN_MESSAGES["sample_at"].format(step=step)
    images = "".join(show_image(path, _SAMPLE_SIDE, text) for path in paths[:_MAX_SAMPLES])
    return f'<div class="pivotal-samples">{images}</div>' if images else ""


def show_steps(run: Mapping[str, Any]) -> str:
    """The steps whose bundles a run has kept, with the least validation loss marked."""
    if not run["steps"]:
        return f'<div class="pivotal-hint">{escape_html(RUN_MESSAGES["no_steps"])}</div>'
    rows = []
    for item in run["steps"]:
        value = RUN_MESSAGES["no_validation"] if item["validation"] is None else _number(item["validation"])
        mark = f" ★ {RUN_MESSAGES['best']}" if item["is_best"] else ""
        style = ' class="pivotal-best"' if item["is_best"] else ""
        images = _images(sorted(item["samples"]), item["step"])
        rows.append(f"<tr{style}><td>{item['step']}</td><td>{escape_html(value + mark)}</td><td>{images}</td></tr>")
    return _table(STEP_COLUMNS, "".join(rows))


def show_comparison(compared: Mapping[str, Any]) -> str:
    """Two runs side by side.

    Args:
        compared: see ``app.run_history.RunHistory.compare``.
    """
    runs = compared["runs"]
    if compared["differences"]:
        rows = "".join(
            f'<tr><th scope="row">{escape_html(_label(item["setting"]))}</th>'
            + "".join(f"<td>{escape_html(_value(value))}</td>" for value in item["values"])
            + "</tr>"
            for item in compared["differences"]
        )
        table = _table((RUN_MESSAGES["setting"], *(run["name"] for run in runs)), rows)
    else:
        table = f"<div>{escape_html(RUN_MESSAGES['no_differences'])}</div>"
    columns = "".join(f"<div>{show_run(run)}</div>" for run in runs)
    heading = escape_html(RUN_MESSAGES["differences"])
    return f'<h3 class="pivotal-heading">{heading}</h3>{table}<div class="pivotal-columns">{columns}</div>'


def _label(name: str) -> str:
    return str(field_info()[name]["label"]) if name in field_info() else name


def _value(value: Any) -> str:
    if isinstance(value, list):
        # Concepts and folders: only what differs from the defaults says something.
        defaults = {name: info["default"] for name, info in concept_field_info().items()}
        text = "; ".join(
            ", ".join(f"{key}={part}" for key, part in item.items() if part not in (defaults.get(key), "", []))
            if isinstance(item, Mapping)
            else str(item)
            for item in value
        )
    else:
        text = "–" if value is None else str(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"


def show_may_change(names: Iterable[str]) -> str:
    """What may differ when a run continues.

    Args:
        names: of the settings.
    """
    known = field_info()
    # The webui translates whole texts of elements, so each label has its own.
    labels = ", ".join(f"<span>{escape_html(known[name]['label'])}</span>" for name in known if name in set(names))
    exact, title = escape_html(RUN_MESSAGES["exact"]), escape_html(RUN_MESSAGES["may_change"])
    return f'<div class="pivotal-hint">{exact}<details><summary>{title}</summary>{labels}</details></div>'
