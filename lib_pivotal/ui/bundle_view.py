"""HTML for the contents of a bundle file; every text from a file is made printable and escaped here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.text.bundles import BUNDLE_MESSAGES, BUNDLE_TABLE

__all__ = ["show_bundle", "show_written"]

_MAX_LENGTH = 300


def show_bundle(described: Mapping[str, Any]) -> str:
    """LoRA, embeddings, problems and metadata of a file.

    Args:
        described: see ``core.bundle.inspection.describe``.
    """
    parts = [f"<div>{escape_html(line)}</div>" for line in (_kind(described), *_lora(described["lora"]))]
    parts.append(_table(described))
    for name, tags in described["core_tags"].items():
        parts.append(f"<div>{escape_html(BUNDLE_MESSAGES['core_tags'].format(name=name, tags=', '.join(tags)))}</div>")
    if described["problems"]:
        items = "".join(f"<li>{escape_html(text)}</li>" for text in described["problems"])
        parts.append(f'<ul class="pivotal-errors">{items}</ul>')
    rows = "".join(f"<tr><th>{escape_html(key)}</th><td>{escape_html(_short(value))}</td></tr>"
                   for key, value in sorted(described["metadata"].items()))  # fmt: skip
    if rows:
        heading = escape_html(BUNDLE_MESSAGES["metadata"])
        parts.append(f'<details><summary>{heading}</summary><table class="pivotal-table">{rows}</table></details>')
    return f'<div class="pivotal-box">{"".join(parts)}</div>'


def _kind(described: Mapping[str, Any]) -> str:
    text = "kind_for" if described["family"] else "kind"
    return BUNDLE_MESSAGES[text].format(kind=described["kind"], family=described["family"])


def _lora(lora: Mapping[str, Any]) -> list[str]:
    if not lora["layers"]:
        return [BUNDLE_MESSAGES["no_lora"]]
    ranks = ", ".join(lora["ranks"]) or "–"
    alphas = ", ".join(f"{alpha:g}" for alpha in lora["alphas"]) or "–"
    kinds = lora["kinds"]
    if len(kinds) == 1:
        return [BUNDLE_MESSAGES["lora"].format(**kinds[0], ranks=ranks, alphas=alphas)]
    first = BUNDLE_MESSAGES["mixed_lora"].format(layers=lora["layers"], ranks=ranks, alphas=alphas)
    return [first, *(BUNDLE_MESSAGES["lora_kind"].format(**kind) for kind in kinds)]


def _table(described: Mapping[str, Any]) -> str:
    if not described["embeddings"]:
        return f"<div>{escape_html(BUNDLE_MESSAGES['no_embeddings'])}</div>"
    head = "".join(f"<th>{escape_html(title)}</th>" for title in BUNDLE_TABLE)
    rows = []
    for name, encoders in described["embeddings"].items():
        facts = list(encoders.values())
        norms = "; ".join(_norms(item["norms"]) for item in facts)
        cells = (name, described["families"][name], str(facts[0]["vectors"]), norms, described["hashes"][name])
        rows.append("<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in cells) + "</tr>")
    return f'<table class="pivotal-table"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _norms(norms: Sequence[float]) -> str:
    low, high = min(norms), max(norms)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} – {high:.2f}"


def show_written(paths: Sequence[Any], problems: Sequence[Any]) -> str:
    """The files that a tool wrote, and the problems it found."""
    lines = "".join(f'<div class="pivotal-path">{escape_html(str(path))}</div>' for path in paths)
    notes = "".join(f"<li>{escape_html(str(problem))}</li>" for problem in problems)
    tail = f'<ul class="pivotal-warnings">{notes}</ul>' if notes else ""
    heading = escape_html(BUNDLE_MESSAGES["written"])
    return f'<div class="pivotal-box pivotal-good" role="status"><b>{heading}</b>{lines}{tail}</div>'


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
