"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from lib_pivotal import __version__
from lib_pivotal.cli.options_table import options_table

ROOT = Path(__file__).parents[2]


def test_options_table_is_current():
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == options_table(), (
        "python -m lib_pivotal options"
    )


def test_readme_names_files_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paths = {path for path in re.findall(r"`([\w./-]+/[\w./-]+\.(?:py|js|md|json|css))`", text) if "*" not in path}
    assert len(paths) >= 10
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (ROOT / picture).stat().st_size <= 100_000, picture


def test_changelog_knows_this_version():
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
