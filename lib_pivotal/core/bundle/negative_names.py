"""Checks the names of all embeddings of a run: those of the concepts and those of their negative embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lib_pivotal.core.bundle.names import Tokenizer, check_names, token_key
from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.negative import negative_name
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["check_trained_names"]


def check_trained_names(
    concepts: Sequence[Concept], *, taken: Mapping[str, str], tokenizer: Tokenizer | None
) -> list[Problem]:
    """Find all problems with the names of the concepts, and with those of their negative embeddings.

    Args:
        concepts: the concepts to check; problems have the field ``concepts[i].name``.
        taken: installed embeddings: name → source.
        tokenizer: text → token ids; None skips the checks that need it.
    """
    problems = check_names(concepts, taken=taken, tokenizer=tokenizer)
    faulty = {problem.field for problem in problems if problem.is_error}
    owners = {token_key(concept.name): concept.name for concept in concepts}
    for index, concept in enumerate(concepts):
        field = f"concepts[{index}].name"
        if not concept.negative_vectors or field in faulty:
            continue
        name = negative_name(concept.name)
        if token_key(name) in owners:
            text = f"{printable(owners[token_key(name)])} is also the name of a negative embedding."
            problems.append(Problem(field, "error", text, "Rename one, or train no negative embedding."))
            continue
        negative = replace(concept, name=name)
        problems += [
            Problem(field, problem.severity, problem.message, problem.hint)
            for problem in check_names([negative], taken=taken, tokenizer=tokenizer)
        ]
    return problems
