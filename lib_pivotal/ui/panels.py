"""HTML for problems, messages and the state of a run; all text from outside is escaped here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib_pivotal.core.config.schema import concept_field_info, field_info
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.ui.duration import duration
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.text.bundles import BUNDLE_FIELDS
from lib_pivotal.ui.text.concepts import CONCEPT_LABELS, concept_label
from lib_pivotal.ui.text.presets import PRESET_FIELDS
from lib_pivotal.ui.text.runs import RUN_FIELDS
from lib_pivotal.ui.text.training import CONCEPT_TABLE, LABELS, MESSAGES, STATES

if TYPE_CHECKING:
    from lib_pivotal.core.importers.found import ImportResult

__all__ = [
    "show_concept_table",
    "show_error",
    "show_import",
    "show_memory",
    "show_message",
    "show_problems",
    "show_result",
    "show_status",
    "show_warnings",
]

_GIB = 2**30
_KINDS = {"failed": "bad", "done": "good", "stopped": "good"}
_STATES_WITH_RESULT = ("done", "stopped", "failed")


def show_message(text: str, kind: str = "plain", hint: str = "") -> str:
    """A message box; ``kind`` is plain, good or bad."""
    tail = f"<br>{escape_html(hint)}" if hint else ""
    return f'<div class="pivotal-box pivotal-{kind}" role="status">{escape_html(text)}{tail}</div>'


def show_error(error: Exception) -> str:
    """An error as the user should read it; never a traceback."""
    if isinstance(error, ConfigError):
        return show_problems(error.problems)
    if isinstance(error, PivotalError):
        return show_message(error.message, "bad", error.hint)
    text = MESSAGES["unexpected"].format(error=f"{type(error).__name__}: {error}")
    return show_message(text, "bad", MESSAGES["unexpected_hint"])


_VERDICTS = {
    "train": ("no_problems", "errors", "only_warnings"),
    "use": ("file_is_good", "file_errors", "file_warnings"),
    "look": ("images_are_good", "file_errors", "images_warnings"),
}
"""Purpose → keys of the messages for no problems, for errors, and for warnings only."""


def show_problems(problems: Sequence[Problem], *, purpose: str = "train", heading: str = "") -> str:
    """Problems grouped by field, errors first.

    Args:
        problems: to show.
        purpose: ``train`` for settings, ``use`` for a file, ``look`` for images.
        heading: instead of the usual one.
    """
    good, bad, fair = _VERDICTS[purpose]
    if not problems:
        return show_message(MESSAGES[good], "good")
    errors = [problem for problem in problems if problem.is_error]
    warnings = [problem for problem in problems if not problem.is_error]
    kind = "bad" if errors else "plain"
    heading = heading or MESSAGES[bad if errors else fair]
    body = _problem_list(errors, "error") + _problem_list(warnings, "warning")
    return f'<div class="pivotal-box pivotal-{kind}" role="status"><b>{escape_html(heading)}</b>{body}</div>'


def _problem_list(problems: list[Problem], kind: str) -> str:
    by_field: dict[str, list[Problem]] = {}
    for problem in problems:
        by_field.setdefault(problem.field, []).append(problem)
    items = []
    for field, found in by_field.items():
        lines = "".join(
            f'<div>{escape_html(item.message)} <span class="pivotal-hint">{escape_html(item.hint)}</span></div>'
            for item in found
        )
        items.append(f"<li><b>{escape_html(_field_label(field))}</b>{lines}</li>")
    return f'<ul class="pivotal-{kind}s">{"".join(items)}</ul>' if items else ""


def _field_label(field: str) -> str:
    """The label of a field on the tab; files and folders stay as they are."""
    cell = re.fullmatch(r"concepts\[(\d+)\](?:\.(\w+))?", field)
    if cell and (not cell[2] or cell[2] in concept_field_info()):
        return concept_label(int(cell[1]), cell[2] or "")
    if field in field_info():
        return str(field_info()[field]["label"])
    for fields in (BUNDLE_FIELDS, PRESET_FIELDS, RUN_FIELDS):
        if field in fields:
            return fields[field][0]
    return LABELS.get(field) or CONCEPT_LABELS.get(field, field)


def show_concept_table(table: dict[str, Any]) -> str:
    """What each concept gets from the run, one row per concept; unusual rows are marked."""
    title = MESSAGES["table_title"].format(**table)
    head = "".join(f"<th>{escape_html(text)}</th>" for text in CONCEPT_TABLE)
    rows = "".join(_concept_row(row) for row in table["rows"])
    return (
        f'<div class="pivotal-box pivotal-plain"><b>{escape_html(title)}</b>'
        f'<table class="pivotal-table"><tr>{head}</tr>{rows}</table></div>'
    )


def show_memory(estimate: dict[str, Any]) -> str:
    """The estimated GPU memory of a run."""
    amounts = {name: f"{estimate[name] / _GIB:.1f}" for name in ("encoding", "training", "available")}
    text = MESSAGES["memory_estimate"].format(**amounts)
    if estimate["saves"]:
        text += MESSAGES["memory_will_save"]
    return f'<div class="pivotal-box pivotal-plain">{escape_html(text)}</div>'


def _concept_row(row: dict[str, Any]) -> str:
    fewest, most = round(row["fewest_views"]), round(row["most_views"])
    times = "times" if fewest == most else "times_range"
    cells = (
        row["name"] or MESSAGES["no_concept"],
        str(row["images"]),
        str(row["alone"]),
        str(row["with_others"]),
        f"{100 * row['share']:.1f} %",
        str(row["samples"]),
        MESSAGES[times].format(count=most, fewest=fewest, most=most),
    )
    style = ' class="pivotal-unusual"' if row["remark"] else ""
    return f"<tr{style}>{''.join(f'<td>{escape_html(cell)}</td>' for cell in cells)}</tr>"


def show_import(result: ImportResult) -> str:
    """What was imported: warnings, and every key and file that is not used."""
    heading = MESSAGES["imported"].format(kind=result.kind)
    body = _problem_list(list(result.problems), "warning")
    if result.unused:
        items = "".join(f"<li>{escape_html(key)}</li>" for key in result.unused)
        summary = escape_html(MESSAGES["not_used"].format(count=len(result.unused)))
        body += f"<details open><summary>{summary}</summary><ul>{items}</ul></details>"
    return f'<div class="pivotal-box pivotal-good" role="status"><b>{escape_html(heading)}</b>{body}</div>'


def show_status(status: dict[str, Any]) -> str:
    """State, step, loss and time left, memory, then the error."""
    state = status["state"]
    is_empty = state == "stopped" and not status["bundle_path"]
    parts = [MESSAGES["stopped_early"] if is_empty else STATES[state]]
    if status["is_active"] and status["stage"]:
        parts.append(status["stage"])
    if status["total_steps"]:
        parts.append(MESSAGES["step"].format(step=status["step"], total=status["total_steps"]))
    if status["loss"] is not None:
        parts.append(MESSAGES["loss"].format(loss=f"{status['loss']:.4f}"))
    if status["is_active"] and status["seconds_per_step"] is not None:
        parts.append(MESSAGES["pace"].format(seconds=f"{status['seconds_per_step']:.2g}"))
    if status["eta_s"] is not None and state == "training":
        parts.append(MESSAGES["left"].format(time=duration(status["eta_s"])))
    if status["is_stopping"]:
        parts.append(MESSAGES["is_stopping"])
    lines = [f"<div><b>{escape_html(parts[0])}</b> {escape_html(' · '.join(parts[1:]))}</div>"]
    lines.append(_memory_line(status["memory"]))
    if status["message"]:
        lines.append(f"<div>{escape_html(status['message'])} {escape_html(status['hint'])}</div>")
    if state == "failed":
        lines.append(f'<div class="pivotal-path">{escape_html(MESSAGES["log"].format(path=status["log_path"]))}</div>')
    kind = _KINDS.get(state, "plain")
    return f'<div class="pivotal-box pivotal-{kind}" role="status">{"".join(lines)}</div>'


def show_warnings(status: dict[str, Any]) -> str:
    """The warnings of a run; empty if there are none."""
    if not status["warnings"]:
        return ""
    items = "".join(f"<li>{escape_html(text)}</li>" for text in status["warnings"])
    heading = escape_html(MESSAGES["warnings"].format(count=len(status["warnings"])))
    details = f'<details data-keep="warnings"><summary>{heading}</summary><ul>{items}</ul></details>'
    return f'<div class="pivotal-box pivotal-plain">{details}</div>'


def _memory_line(memory: dict[str, Any] | None) -> str:
    if not memory or memory["free_mib"] is None:
        return ""
    amounts = {name: f"{memory[f'{name}_mib'] / 1024:.1f}" for name in ("needed", "free")}
    text = MESSAGES["memory"].format(**amounts)
    if memory["saves"]:
        text += MESSAGES["memory_saves"]
    if memory["peak_mib"] is not None:
        text += MESSAGES["memory_peak"].format(peak=f"{memory['peak_mib'] / 1024:.1f}")
    return f'<div class="pivotal-path">{escape_html(text)}</div>'


def show_result(status: dict[str, Any]) -> str:
    """The paths of a finished run's results; empty while there are none."""
    if status["is_active"] or status["state"] not in _STATES_WITH_RESULT:
        return ""
    lines = []
    if status["bundle_path"]:
        lines.append(MESSAGES["bundle"].format(path=status["bundle_path"]))
    else:
        lines.append(MESSAGES["nothing_saved"])
    lines.append(MESSAGES["run_folder"].format(path=status["run_folder"]))
    return "".join(f'<div class="pivotal-path">{escape_html(line)}</div>' for line in lines)
