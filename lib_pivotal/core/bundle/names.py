"""Rules for the names of embeddings and files, with a remedy for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.config.shown import shown, visible
from lib_pivotal.core.config.user_path import RESERVED_NAMES
from lib_pivotal.core.errors import Problem

__all__ = ["check_file_name", "check_names", "suggest_name"]

_GOOD = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z _-]*[0-9A-Za-z])?")
_LONGEST = 60
_LONGEST_FILE_NAME = 100
_MOST_LISTED = 3
_GRAMMAR = re.compile(r"\b(?:AND|BREAK)\b")
"""Words that cut a prompt in pieces.

Host: modules/prompt_parser.py, ``re_AND`` and ``re_break``, A1111 1.6.1-1.10.1: in capitals, between any two letters
    that belong to no word.
"""
_RARE_FROM = 30_000
"""CLIP's vocabulary is in order of frequency: from this id on words are rare."""


def suggest_name(name: str, tokenizer: Callable[[str], list[int]] | None = None) -> str:
    """A name close to ``name`` that follows the rules.

    Args:
        name: that does not follow them.
        tokenizer: token ids of a text; with it the suggestion is no single word of the vocabulary.
    """
    kept = re.sub(r"[^0-9A-Za-z_-]+", "_", name.strip()).strip("_- ") or "my_concept"
    is_one_word = tokenizer is not None and len(tokenizer(kept)) == 1
    return f"{kept}_v1" if is_one_word or _GRAMMAR.fullmatch(kept) else _GRAMMAR.sub(_lowered, kept)


def _lowered(match: re.Match[str]) -> str:
    return match.group().lower()


def check_names(
    concepts: Sequence[Concept],
    *,
    taken: Mapping[str, str],
    tokenizer: Callable[[str], list[int]] | None,
) -> list[Problem]:
    """Every problem with the names of the concepts.

    Args:
        concepts: to check; field names in the findings are ``concepts[i].name``.
        taken: names of installed embeddings in lower case → where each is from.
        tokenizer: token ids of a text; None skips what needs it.
    """
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, concept in enumerate(concepts):
        field = f"concepts[{index}].name"
        problems += _check_spelling(field, concept.name, tokenizer)
        lower = concept.name.strip().lower()
        if lower in seen:
            text = f"{visible(concept.name)} is there twice (capitals make no difference)."
            problems.append(Problem(field, "error", text, "Rename one."))
        elif lower in taken:
            problems.append(
                Problem(
                    field,
                    "warning",
                    f"An installed embedding ({taken[lower]}) has the same name and would hide this one.",
                    f"Rename it, for example {suggest_name(concept.name)}_v2.",
                )
            )
        seen.setdefault(lower, index)
    if tokenizer is not None:
        problems += _check_tokens(concepts, tokenizer)
    return problems


def _check_spelling(field: str, name: str, tokenizer: Callable[[str], list[int]] | None) -> list[Problem]:
    if not name.strip():
        return [Problem(field, "error", "The name is empty.", "Give the word that you will type in prompts.")]
    if len(name) > _LONGEST:
        return [Problem(field, "error", f"{shown(name[:20])}… is longer than {_LONGEST} letters.", "Shorten it.")]
    if not _GOOD.fullmatch(name):
        allowed = "Letters, digits, space, _ and - are allowed; it begins and ends with a letter or digit"
        return [
            Problem(field, "error", f"{name!r} cannot be a name. {allowed}.", f"Use {suggest_name(name, tokenizer)}.")
        ]
    cut = _GRAMMAR.search(name)
    if cut:
        text = f"{cut.group()} cuts a prompt in two, so {name} would never be found."
        return [Problem(field, "error", text, f"Use {suggest_name(name, tokenizer)}.")]
    return []


def _check_tokens(concepts: Sequence[Concept], tokenizer: Callable[[str], list[int]]) -> list[Problem]:
    """A name is found as a run of token ids: single words of the vocabulary and runs within runs clash."""
    problems = []
    # A name that is too long is refused anyway, and tokenizers are slow with very long ones.
    runs = [tuple(tokenizer(concept.name[: _LONGEST + 1])) for concept in concepts]
    longer = _longer_names(concepts, runs)
    for index, (concept, run) in enumerate(zip(concepts, runs, strict=True)):
        field = f"concepts[{index}].name"
        if not concept.name.strip():
            continue
        if not run:
            text = f"{shown(concept.name)} means nothing to the tokenizer."
            problems.append(Problem(field, "error", text, "Rename it."))
        elif len(run) == 1:
            is_common = run[0] < _RARE_FROM
            problems.append(
                Problem(
                    field,
                    "error" if is_common else "warning",
                    f"{concept.name} is one word of the model's vocabulary, which would be lost in every prompt.",
                    f"Use {suggest_name(concept.name)}_v1." + ("" if is_common else " The word is rare, so it may do."),
                )
            )
        if run in longer:
            problems.append(
                Problem(
                    field,
                    "warning",
                    f"{visible(concept.name)} is part of {longer[run]} as the tokenizer sees it.",
                    "It works, as the longer name is looked for first, but choose clearer names if you can.",
                )
            )
    return problems


def _longer_names(concepts: Sequence[Concept], runs: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], str]:
    """Runs of token ids that are parts of other names' runs → those names, the first few of them.

    Takes time in proportion to the number of names, which may be thousands.
    """
    whole = {run for run in runs if run}
    lengths = sorted({len(run) for run in whole})
    found: dict[tuple[int, ...], list[str]] = {}
    for concept, run in zip(concepts, runs, strict=True):
        parts = {
            run[at : at + length] for length in lengths if length < len(run) for at in range(len(run) - length + 1)
        }
        for part in parts & whole:
            found.setdefault(part, []).append(visible(concept.name))
    return {part: _listed(names) for part, names in found.items()}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def check_file_name(name: str) -> list[Problem]:
    """Problems with the output name: it must be a plain file name on every system and fit ``<lora:NAME:1>``."""
    field = "output_name"
    if not name.strip():
        return [Problem(field, "error", "The output name is empty.", "Give the bundle a name.")]
    if len(name) > _LONGEST_FILE_NAME:
        text = f"The output name is longer than {_LONGEST_FILE_NAME} letters."
        return [Problem(field, "error", text, "Shorten it.")]
    kept = re.sub(r"[^0-9A-Za-z_. -]+", "_", name).strip("_. -") or "my_bundle"
    if kept != name or name.partition(".")[0].strip().lower() in RESERVED_NAMES:
        return [Problem(field, "error", f"{name!r} is no good file name for a prompt.", f"Use {kept}.")]
    return []
