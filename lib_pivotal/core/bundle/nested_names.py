"""Finds names that are part of other names to the tokenizer: of the same run, or of installed embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["nested_names", "parts_of_installed"]

Runs = Mapping[int, tuple[int, ...]]
"""Index of a concept → token ids of its name."""

_SHOWN_NAMES = 3


def nested_names(names: Sequence[str], runs: Runs) -> list[Problem]:
    """Find names whose token ids are part of another name's, in time proportional to the number of names.

    Args:
        names: of all concepts.
        runs: those of the names to check.
    """
    whole = {run for run in runs.values() if run}
    lengths = sorted({len(run) for run in whole})
    longer: dict[tuple[int, ...], list[str]] = {}
    for index, run in runs.items():
        parts = {run[at : at + size] for size in lengths if size < len(run) for at in range(len(run) - size + 1)}
        for part in parts & whole:
            longer.setdefault(part, []).append(names[index])
    hint = "It works, because longer names are matched first, but choose clearer names if you can."
    return [
        Problem(f"concepts[{index}].name", "warning", f"{names[index]} is part of {_listed(longer[run])}.", hint)
        for index, run in runs.items()
        if run in longer
    ]


def parts_of_installed(
    names: Sequence[str], runs: Runs, installed: Mapping[str, str], tokenizer: Callable[[str], Sequence[int]]
) -> list[Problem]:
    """Find names whose token ids are part of an installed embedding's name, which wins where it is written.

    Args:
        names: of all concepts.
        runs: those of the names to check.
        installed: name of each installed embedding → the form in which names are compared.
        tokenizer: text → token ids.
    """
    problems = []
    for index, run in runs.items():
        word = " ".join(names[index].lower().split())
        # Tokenizing thousands of names would take seconds.
        longer = [name for name, key in installed.items() if run and word in key and word != key]
        found = [printable(name) for name in longer if _has_part(tuple(tokenizer(name)), run)]
        if found:
            text = f"{names[index]} is part of the installed embedding {_listed(found)}."
            hint = "It works, except where a prompt has the longer name; choose another one if you can."
            problems.append(Problem(f"concepts[{index}].name", "warning", text, hint))
    return problems


def _has_part(run: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(run[at : at + len(part)] == part for at in range(len(run) - len(part) + 1))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "") + " as the tokenizer sees it"
