"""What docs/guide.md shows: its settings, its commands, and the folders of its examples as files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide.md"
TEXT = GUIDE.read_text(encoding="utf-8")

CONFIGS = {
    name: json.loads(block)
    for name, block in re.findall(r"^`([\w-]+\.json)`:\n\n```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
}
"""File → settings."""

COMMANDS = re.findall(r"^python -m lib_pivotal (.+)$", TEXT, re.MULTILINE)
"""The arguments of each command."""

_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
TREES = [block for language, block in _BLOCKS if not language and block.endswith("…\n")]
"""The folder of each example: indented names, then the contents of text files."""


def make_tree(tree: str, folder: Path, draw: Callable[[Path, int], None]) -> Path:
    """Make the files of an example.

    Args:
        tree: one of :data:`TREES`.
        folder: where its first line is made.
        draw: writes an image; gets its path and its number.

    Returns:
        The folder of the example.
    """
    first, *lines = tree.splitlines()
    root = folder / first.rstrip("/")
    for number, line in enumerate(lines):
        name, _, content = line.strip().partition("  ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            draw(path, number)
        elif name.endswith(".txt"):
            path.write_text(content.strip(), encoding="utf-8")
    return root
