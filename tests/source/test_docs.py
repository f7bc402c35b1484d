"""The documents match the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lib_pivotal import __version__
from lib_pivotal.cli.options_table import options_table
from tests.source.parsed import nodes_of, tree_of

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "lib_pivotal"


def test_options_table_is_current():
    assert (ROOT / "docs" / "options.md").read_text(encoding="utf-8") == options_table(), (
        "python -m lib_pivotal options"
    )


def test_readme_names_files_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    paths = {path for path in re.findall(r"`([\w./-]+/[\w./-]+\.(?:py|js|md|json|css))`", text) if "*" not in path}
    assert len(paths) >= 10
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]


def messages_in_code() -> list[str]:
    """Every text in the package that is long enough to be a message; an inserted value becomes a NUL."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in nodes_of(tree_of(path)):
            if isinstance(node, (ast.JoinedStr, ast.Constant)):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
                if len(text.replace("\0", "")) > 15:
                    found.append(text)
    return found


def test_readme_quotes_messages_that_exist():
    """NAME, N and the like stand for values, and … for the rest of a message."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## When something goes wrong")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(quoted) > 5
    codes = messages_in_code()
    patterns = [
        re.compile(re.escape(code).replace("\0", ".+"))
        for code in codes
        if any(all(part in message for part in code.split("\0")) for message in quoted)
    ]
    for message in quoted:
        pattern = re.compile(re.sub(r"\b[A-Z]+\b", ".+", re.escape(message)).replace("\\ …", ".*"))
        is_like_code = any(pattern.fullmatch(code.replace("\0", "X")) for code in codes)
        assert is_like_code or any(other.fullmatch(message) for other in patterns), message


def test_documents_show_every_image_of_the_repository_and_no_large_one():
    shown = {
        (path.parent / target).resolve()
        for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    }
    there = {path.resolve() for path in (ROOT / "docs" / "img").iterdir()}
    assert shown == there
    assert not [path.name for path in there if path.stat().st_size > 100_000]


NAMED = re.compile(r"\b(?:docs|tests|benchmarks|lib_pivotal|core|app|ui|cli)/[\w/-]+(?:\.(?:py|md|json|js|css))?")
PROGRAMS = sorted(path for folder in ("lib_pivotal", "benchmarks", "scripts") for path in (ROOT / folder).rglob("*.py"))
OURS = {path.name for path in PROGRAMS} | {"run.py", "install.py"}
FILE = re.compile(r"(?<![\w/])[a-z_]+\.py\b")


@pytest.mark.parametrize(
    "path",
    PROGRAMS,
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_docstrings_and_comments_name_files_that_exist(path):
    """Paths are relative to the project or to the package; lines about a host or a source name files of others."""
    text = path.read_text(encoding="utf-8")
    # A paragraph that begins with Host: or Source: continues while its lines are indented further.
    text = re.sub(
        r"^( *)(?:#\s*)?(?:\S.*)?(?:Host|Source):.*\n(?:\1 +.*\n|\1(?=[a-z`]).*\n)*", "", text, flags=re.MULTILINE
    )
    missing = [name for name in NAMED.findall(text) if not any((root / name).exists() for root in (ROOT, PACKAGE))]
    words = " ".join(re.findall(r'"""(.*?)"""|#(.*)', text, flags=re.DOTALL).__str__().split())
    missing += [name for name in FILE.findall(words) if name not in OURS]
    assert not missing


def test_changelog_knows_this_version():
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
