"""Renames concepts whose names do not follow our rules; the old name becomes a caption tag of the concept."""

from __future__ import annotations

from typing import Any

from lib_pivotal.core.bundle.names import Tokenizer, name_problems, suggest_name, token_key

__all__ = ["follow_rules"]


def follow_rules(
    concepts: list[dict[str, Any]], subsets: list[dict[str, Any]], tokenizer: Tokenizer | None
) -> dict[str, str]:
    """Rename concepts that break the rules or have the name of an earlier one, also where folders mention them.

    Args:
        concepts: changed in place.
        subsets: changed in place.
        tokenizer: text → token ids; without it, names are not compared to the vocabulary.

    Returns:
        Old name → new name.
    """
    renamed: dict[str, str] = {}
    taken: set[str] = set()
    for concept in concepts:
        old = concept["name"]
        is_wrong = any(problem.is_error for problem in name_problems([old], tokenizer))
        if is_wrong or token_key(old) in taken:
            others = taken | {token_key(other["name"]) for other in concepts if other is not concept}
            renamed[old] = concept["name"] = suggest_name(old, tokenizer, others)
            aliases = concept.setdefault("aliases", [])
            if old.strip() and old not in aliases:
                aliases.append(old)
        taken.add(token_key(concept["name"]))
    for subset in subsets:
        if "always" in subset:
            subset["always"] = [renamed.get(name, name) for name in subset["always"]]
    return renamed
