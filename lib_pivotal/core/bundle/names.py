"""Rules for the names of embeddings and files, with a remedy for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from lib_pivotal.core.bundle.everyday_words import is_everyday_tag
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import Problem

__all__ = ["check_file_name", "check_names", "suggest_name"]

_GOOD = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z _-]*[0-9A-Za-z])?")
_LONGEST = 60
_RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}
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
            problems.append(
                Problem(field, "error", f"{concept.name} is there twice (capitals make no difference).", "Rename one.")
            )
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
    if not _GOOD.fullmatch(name):
        allowed = "Letters, digits, space, _ and - are allowed; it begins and ends with a letter or digit"
        return [
            Problem(field, "error", f"{name!r} cannot be a name. {allowed}.", f"Use {suggest_name(name, tokenizer)}.")
        ]
    if len(name) > _LONGEST:
        return [Problem(field, "error", f"{name[:20]}… is longer than {_LONGEST} letters.", "Shorten it.")]
    cut = _GRAMMAR.search(name)
    if cut:
        text = f"{cut.group()} cuts a prompt in two, so {name} would never be found."
        return [Problem(field, "error", text, f"Use {suggest_name(name, tokenizer)}.")]
    return []


def _check_tokens(concepts: Sequence[Concept], tokenizer: Callable[[str], list[int]]) -> list[Problem]:
    """A name is found as a run of token ids: single words of the vocabulary and runs within runs clash."""
    problems = []
    runs = [tuple(tokenizer(concept.name)) for concept in concepts]
    for index, (concept, run) in enumerate(zip(concepts, runs, strict=True)):
        field = f"concepts[{index}].name"
        if not concept.name.strip():
            continue
        if not run:
            problems.append(Problem(field, "error", f"{concept.name!r} means nothing to the tokenizer.", "Rename it."))
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
        elif is_everyday_tag(concept.name, tokenizer, rare_from=_RARE_FROM):
            text = f"{concept.name} is a tag of many prompts, and would be found where nobody means the concept."
            problems.append(Problem(field, "warning", text, f"Use {suggest_name(concept.name)}_v1."))
        for other, other_run in zip(concepts, runs, strict=True):
            if run and len(run) < len(other_run) and _contains(other_run, run):
                problems.append(
                    Problem(
                        field,
                        "warning",
                        f"{concept.name} is part of {other.name} as the tokenizer sees it.",
                        "It works, as the longer name is looked for first, but choose clearer names if you can.",
                    )
                )
    return problems


def _contains(longer: tuple[int, ...], shorter: tuple[int, ...]) -> bool:
    return any(longer[at : at + len(shorter)] == shorter for at in range(len(longer) - len(shorter) + 1))


def check_file_name(name: str) -> list[Problem]:
    """Problems with the output name: it must be a plain file name on every system and fit ``<lora:NAME:1>``."""
    field = "output_name"
    if not name.strip():
        return [Problem(field, "error", "The output name is empty.", "Give the bundle a name.")]
    kept = re.sub(r"[^0-9A-Za-z_. -]+", "_", name).strip("_. -") or "my_bundle"
    if kept != name or name.partition(".")[0].lower() in _RESERVED:
        return [Problem(field, "error", f"{name!r} is no good file name for a prompt.", f"Use {kept}.")]
    if len(name) > 100:
        return [Problem(field, "error", "The output name is longer than 100 letters.", "Shorten it.")]
    return []
