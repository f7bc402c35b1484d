"""What the page shows of a bundle file, as HTML; every foreign text is escaped here."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lib_pivotal.ui.text import BUNDLE_TABLE, MESSAGES

__all__ = ["show_bundle", "show_written"]

_LONGEST = 300


def show_bundle(described: Mapping[str, Any]) -> str:
    """LoRA, embeddings, problems and metadata of a file.

    Args:
        described: see ``core.bundle.inspection.describe``.
    """
    parts = [f"<div>{_escape(_lora(described['lora']))}</div>", _table(described)]
    if described["problems"]:
        items = "".join(f"<li>{_escape(text)}</li>" for text in described["problems"])
        parts.append(f'<ul class="pivotal-errors">{items}</ul>')
    rows = "".join(f"<tr><th>{_escape(key)}</th><td>{_escape(_short(value))}</td></tr>"
                   for key, value in sorted(described["metadata"].items()))  # fmt: skip
    if rows:
        heading = _escape(MESSAGES["metadata"])
        parts.append(f'<details><summary>{heading}</summary><table class="pivotal-table">{rows}</table></details>')
    return f'<div class="pivotal-box">{"".join(parts)}</div>'


def _lora(lora: Mapping[str, Any]) -> str:
    if not lora["layers"]:
        return MESSAGES["no_lora"]
    ranks = ", ".join(lora["ranks"])
    alphas = ", ".join(f"{alpha:g}" for alpha in lora["alphas"])
    return MESSAGES["lora"].format(layers=lora["layers"], ranks=ranks, alphas=alphas or "–")


def _table(described: Mapping[str, Any]) -> str:
    if not described["embeddings"]:
        return f"<div>{_escape(MESSAGES['no_embeddings'])}</div>"
    head = "".join(f"<th>{_escape(title)}</th>" for title in BUNDLE_TABLE)
    rows = []
    for name, encoders in described["embeddings"].items():
        facts = list(encoders.values())
        norms = "; ".join(_norms(item["norms"]) for item in facts)
        cells = (name, described["families"][name], str(facts[0]["vectors"]), norms, described["hashes"][name])
        rows.append("<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in cells) + "</tr>")
    return f'<table class="pivotal-table"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _norms(norms: Sequence[float]) -> str:
    low, high = min(norms), max(norms)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} – {high:.2f}"


def show_written(paths: Sequence[Any], problems: Sequence[Any]) -> str:
    """Where the results of a tool are, and what should be known of them."""
    lines = "".join(f'<div class="pivotal-path">{_escape(str(path))}</div>' for path in paths)
    notes = "".join(f"<li>{_escape(str(problem))}</li>" for problem in problems)
    tail = f'<ul class="pivotal-warnings">{notes}</ul>' if notes else ""
    heading = _escape(MESSAGES["written"])
    return f'<div class="pivotal-box pivotal-good" role="status"><b>{heading}</b>{lines}{tail}</div>'


def _escape(text: str) -> str:
    return html.escape(text)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
