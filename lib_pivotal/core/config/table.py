"""The settings as a Markdown table, for ``docs/options.md``."""

from __future__ import annotations

from lib_pivotal.core.config.schema import field_info

__all__ = ["options_table"]

_HEAD = """\
# Settings

One name everywhere: field of the JSON file, key of the HTTP API, end of the element's id on the tab, key in
the bundle's metadata. Made by `python -m lib_pivotal options`; a test compares.

`concepts` is a list of objects: `name` (the word typed in prompts), `init_text` (start words), `vectors`
(1 … 75; 0 takes as many as the start words have tokens), `aliases` (caption tags that stand for it),
`lr_multiplier`, `stop_at` (fraction of the steps after which it is frozen).

| name | on the tab | default | range | what it does |
|---|---|---|---|---|
"""


def options_table() -> str:
    """Every setting with its label, level, default, range and help."""
    rows = []
    for name, info in field_info().items():
        allowed = ", ".join(info["choices"])
        if info["low"] is not None:
            allowed = f"{info['low']:g} … {info['high']:g}" + (f" {info['unit']}" if info["unit"] else "")
        place = "–" if info["level"] == "headless" else f"{info['label']} ({info['level']})"
        rows.append(f"| `{name}` | {place} | `{info['default']!r}` | {allowed} | {info['help']} |")
    return _HEAD + "\n".join(rows) + "\n"
