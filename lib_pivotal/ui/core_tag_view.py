"""HTML for core tags to choose from; every text from a file is made printable and escaped here."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from lib_pivotal.app.core_tag_choice import CoreTags
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.image_view import line, show_changes
from lib_pivotal.ui.text.images import CORE_TAG_TABLE, IMAGE_MESSAGES, TAG_STATES

__all__ = ["show_core_tags"]


def show_core_tags(found: CoreTags) -> str:
    """The tags of each concept with boxes to tick, and captions before and after."""
    report = found.report
    if report["reason"]:
        return line("no_tags") + f"<div>{escape_html(report['reason'])}</div>"
    texts = {concept.name: concept.init_text for concept in found.config.concepts}
    parts = [_concept(item, found, texts[item["name"]]) for item in report["concepts"]]
    if report["examples"]:
        heading = escape_html(IMAGE_MESSAGES["examples"])
        parts.append(f'<h4 class="pivotal-heading">{heading}</h4>{show_changes(report["examples"])}')
    return "".join(parts)


def _concept(item: Mapping[str, Any], found: CoreTags, own_text: str) -> str:
    heading = escape_html(IMAGE_MESSAGES["concept_tags"].format(**item))
    lines = [f'<h4 class="pivotal-heading">{heading}</h4>']
    if own_text.strip():
        lines.append(line("own_text", text=own_text))
    lines.append(line("init_text", text=item["init_text"]) if item["init_text"] else line("no_init_text"))
    lines += [f'<div class="pivotal-hint">{escape_html(hint)}</div>' for hint in item["hints"]]
    lines += [
        line("look_tags", name=look["name"], count=look["count"], tags=", ".join(look["tags"]))
        for look in item["looks"]
    ]
    rows = "".join(_row(item["name"], row) for row in found.listed(item["name"]))
    if rows:
        head = "".join(f"<th>{escape_html(title)}</th>" if title else "<td></td>" for title in CORE_TAG_TABLE)
        lines.append(f'<table class="pivotal-table"><tr>{head}</tr>{rows}</table>')
    return "".join(lines)


def _row(concept: str, row: Mapping[str, Any]) -> str:
    label = escape_html(IMAGE_MESSAGES["use_tag"].format(tag=row["tag"], name=concept))
    data = "".join(
        f' data-pivotal-{name}="{html.escape(value, quote=True)}"'
        for name, value in (("concept", concept), ("tag", row["tag"]))
    )
    box = f'<input type="checkbox"{data} aria-label="{label}"{" checked" if row["is_used"] else ""}>'
    if "state" not in row:
        cells = (row["tag"], "", "", "", "", "")
    else:
        removed = IMAGE_MESSAGES["tag_removed"].format(count=row["removed"])
        shares = (f"{row['share']:.0%}", f"{row['elsewhere']:.0%}")
        cells = (row["tag"], row["tag_class"], *shares, removed, row["hint"] or TAG_STATES[row["state"]])
    return f"<tr><td>{box}</td>{''.join(f'<td>{escape_html(cell)}</td>' for cell in cells)}</tr>"
