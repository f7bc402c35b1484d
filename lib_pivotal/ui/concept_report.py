"""What is known about each concept, as JSON for the table: after a check, and while it is edited."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lib_pivotal.core.errors import Problem
from lib_pivotal.ui.concept_rows import read_rows
from lib_pivotal.ui.text.training import MESSAGES

__all__ = ["REPORT", "report_concepts"]

REPORT = "concepts_report"
"""Name of the hidden component that holds the report."""


def report_concepts(
    values: Mapping[str, Any],
    problems: Sequence[Problem],
    table: Mapping[str, Any] | None = None,
    *,
    is_live: bool = False,
) -> str:
    """The report.

    Args:
        values: of the concepts on the tab.
        problems: of the settings, before ``fields.in_rows``; those of concepts are reported.
        table: see ``core.train.concept_table.ConceptTable.as_dict``; None if it could not be made.
        is_live: whether the problems are those of the names only; then what a check found stays in the table.
    """
    names = read_rows(values)
    called = [str(item.get("name", "")) if isinstance(item, Mapping) else "" for item in names.concepts()]
    found = []
    for item in problems:
        match = re.fullmatch(r"concepts\[(\d+)\](?:\.(\w+))?", item.field)
        if match:
            at, text = int(match[1]), f"{item.message} {item.hint}".strip()
            place = {"row": names.used[at], "name": called[at], "field": match[2] or "name"}
            found.append({**place, "severity": item.severity, "text": text})
    report: dict[str, Any] = {"problems": found, "rows": None, "summary": "", "is_live": is_live}
    if table is not None:
        of_name = {row["name"]: row for row in table["rows"]}
        pairs = [(row, name) for row, name in zip(names.used, called, strict=True) if name in of_name]
        report["rows"] = [{"row": row, "name": name, **_cells(of_name[name])} for row, name in pairs]
        report["summary"] = MESSAGES["table_title"].format(**table)
    return json.dumps(report)


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the table shows of a row."""
    fewest, most = round(row["fewest_views"]), round(row["most_views"])
    return {
        "images": str(row["images"]),
        "alone": str(row["alone"]),
        "share": f"{100 * row['share']:.1f} %",
        "views": f"{most}" if fewest == most else f"{fewest}–{most}",
        "is_unusual": bool(row["remark"]),
    }
