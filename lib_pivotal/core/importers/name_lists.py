"""Files that list embeddings by name: ``emb_init.json``, ``core_tags.json`` and CSV tables of names.

Source: https://github.com/cyber-meow/anime_screenshot_pipeline, docs and anime2sd, and its utilities for HCP-Diffusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.concept_lines import read_concept_lines
from lib_pivotal.core.importers.found import Found, mapping
from lib_pivotal.core.importers.initialization import initialization
from lib_pivotal.core.importers.source_file import read_text, refusal
from lib_pivotal.core.printable import printable

__all__ = ["add_core_tags", "add_initializations", "add_names", "is_core_tags", "is_initializations", "name_of_form"]

_PARTS = "|"
_OWN_EMBEDDING = "_"


def is_core_tags(values: Any) -> bool:
    """Whether a file lists the core tags of characters by kept and removed tags."""
    return (
        isinstance(values, Mapping)
        and bool(values)
        and all(isinstance(value, Mapping) and "kept" in value for value in values.values())
    )


def is_initializations(values: Any) -> bool:
    """Whether a file maps names to lists of words."""
    return (
        isinstance(values, Mapping)
        and bool(values)
        and all(isinstance(value, list) and all(isinstance(word, str) for word in value) for value in values.values())
    )


def add_initializations(values: Mapping[str, Any], found: Found) -> None:
    """Add a concept for each name of ``emb_init.json``.

    Args:
        values: name → words.
        found: receives the concepts.
    """
    for name, words in values.items():
        concept = concept_of(found, name)
        concept.update(initialization(found, name, " ".join(word for word in words if isinstance(word, str))))


def add_core_tags(values: Mapping[str, Any], found: Found) -> None:
    """Add the core tags of each character; a character with several forms gets the tags that all of them have.

    Args:
        values: name or form → tags, or → removed tags and initialization tags.
        found: its concepts are completed, and new ones are added.
    """
    forms: dict[str, list[list[str]]] = {}
    starts: dict[str, list[str]] = {}
    for form, value in values.items():
        tags = mapping(value)
        start, removed = _words(tags.get("emb_init")), _words(tags.get("dropped"))
        name = name_of_form(form)
        forms.setdefault(name, []).append([*removed, *start] if tags else _words(value))
        starts.setdefault(name, start)
    for name, lists in forms.items():
        concept = concept_of(found, name)
        concept["core_tags"] = [tag for tag in dict.fromkeys(lists[0]) if all(tag in other for other in lists[1:])]
        if starts[name] and not concept.get("init_text"):
            concept["init_text"] = " ".join(starts[name])
        if len(lists) > 1:
            text = f"{printable(name)} has {len(lists)} forms; its core tags are those that all forms have."
            found.warn(name, text, "Add a concept for each form that is to have a name of its own.")


def name_of_form(form: str) -> str:
    """Name of the embedding of a form ``name|appearance|outfits|…``; ``_x`` as appearance has one of its own."""
    name, _, rest = form.partition(_PARTS)
    appearance = rest.partition(_PARTS)[0].strip()
    return name.strip() + (appearance if appearance.startswith(_OWN_EMBEDDING) else "")


def add_names(path: Path, found: Found) -> None:
    """Add the concepts of a table in the notation of ``core.config.concept_lines``, such as the tab exports.

    Tables of other programs have a name and an initialization text in each line, which may ask for noise.

    Raises:
        ConfigError: it cannot be read, or has no names.
    """
    read = read_concept_lines(read_text(path))
    for problem in read.problems:
        found.warn(path.name, problem.message, problem.hint)
    for line, row in zip(read.lines, read.rows, strict=True):
        if not row.get("name"):
            found.warn(path.name, f"Line {line}: There is no name, so the line is left out.", "Write one.")
            continue
        concept = concept_of(found, row["name"])
        if "vectors" not in row and row.get("init_text"):
            row.update(initialization(found, row["name"], row["init_text"]))
        concept.update(row)
    if not found.concepts:
        reason = read.problems[0].message if read.problems else "The table has no names."
        raise refusal(path, reason, "Write a name and its initialization text in each line.")


def concept_of(found: Found, name: str) -> dict[str, Any]:
    """The concept of a name, which is added if it is new."""
    for concept in found.concepts:
        if concept["name"] == name:
            return concept
    found.concepts.append({"name": name})
    return found.concepts[-1]


def _words(value: Any) -> list[str]:
    return [word.strip() for word in value if isinstance(word, str) and word.strip()] if isinstance(value, list) else []
