"""The code uses the field's own words in American spelling, and retired words do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".md", ".js", ".css", ".toml", ".ini"}
FOLDERS = ("lib_pivotal", "scripts", "javascript", "docs", "tests", "benchmarks")

RETIRED = {
    r"picture": "image",
    r"\bcodecs?\b": "VAE",
    r"optimis|tokenis|normalis|recognis|initialis|serialis|materialis|synchronis|summaris|capitalis|authoris"
    r"|colour|behaviour|favour|neighbour|\bcentre|\bgrey\b|\blearnt\b|\bburnt\b|\blicence\b|labelled": "American spelling",
    r"\banew\b": "again, new",
    r"\bbeside\b": "next to",
    r"\btold\b": "reported, given, known",
    r"fetch (it|the file) again": "Download it again.",
    r"\bno numbers?\b": "NaN",
    r"(?<!here )\b(is|are|was|were) no (?!longer\b|more\b|one\b|different\b)": "is not a, has no",
    r"\b(one|two|once) an? (item|step|line|image|encoder|name|concept|file|process)\b": "per",
    r"\bm?s a step\b": "s/step",
    r"same breath|\bat hand\b|\brest_text\b|\bResting\b|\bawake\b|\brests\b": "offload, on the device",
    r"\bstart words?\b": "initialization text",
    r"\bmisread\b|\bsleeping_names\b|\bshelf\b|\blent\b|\bintake\b": "a plain name, see the code nearby",
    r"so many steps": "every N steps",
}

KEPT = {
    # Keys in users' files.
    "pyproject.toml": {"optimiser"},
    # A module of the standard library.
    "lib_pivotal/core/config/settings_file.py": {"codecs"},
    "lib_pivotal/core/train/output.py": {"optimiser/"},
    "tests/runs/test_train.py": {"optimiser/"},
    "tests/runs/test_states.py": {"optimiser/"},
    "lib_pivotal/core/data/caption_encoding.py": {"codecs"},
    "tests/unit/test_caption_encoding.py": {"codecs"},
    # A heading in users' tables.
    "lib_pivotal/core/config/concept_lines.py": {"start words"},
    "tests/unit/test_concept_lines.py": {"start words"},
    # A parameter of hypothesis.
    "tests/unit/test_hostile_settings.py": {"codec=None"},
}


def texts() -> list[tuple[str, str]]:
    """Every text file of the project: its relative path, and its contents in lower case without the exceptions in KEPT."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    paths += [path for path in ROOT.iterdir() if path.suffix in SUFFIXES]
    found = []
    for path in sorted(paths):
        name = path.relative_to(ROOT).as_posix()
        if path == Path(__file__).resolve() or "node_modules" in name:
            continue
        text = path.read_text(encoding="utf-8")
        for kept in KEPT.get(name, ()):
            text = text.replace(kept, "")
        found.append((name, text.lower()))
    return found


@pytest.fixture(scope="module")
def all_texts() -> list[tuple[str, str]]:
    return texts()


@pytest.mark.parametrize("pattern", RETIRED)
def test_retired_words_do_not_come_back(all_texts, pattern):
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name, text in all_texts
        for match in re.finditer(pattern.lower(), text)
    ]
    assert not found, f"better: {RETIRED[pattern]}\n" + "\n".join(found[:20])
