"""Finds problems with the settings of captions."""

from __future__ import annotations

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.data.caption_names import NameFinder
from lib_pivotal.core.data.caption_tags import bad_patterns
from lib_pivotal.core.errors import Problem

__all__ = ["caption_setting_problems"]


def caption_setting_problems(config: TrainConfig) -> list[Problem]:
    """Invalid patterns, and names of folders that are not concepts.

    Args:
        config: the settings.
    """
    problems = [
        Problem(field, "error", f"{shown(entry)} is not a valid regular expression ({reason}).", "Correct it.")
        for field in ("drop_tags", "protected_tags")
        for entry, reason in bad_patterns(getattr(config, field))
    ]
    finder = NameFinder(config.concepts)
    for index, subset in enumerate(config.subsets):
        for name in subset.always:
            if finder.name_of(name) is None:
                text = f"{shown(name)} is not a concept."
                hint = "Use the name of a concept, or add it to the concepts."
                problems.append(Problem(f"subsets[{index}].always", "error", text, hint))
    separators = (config.keep_separator.strip(), config.group_separator.strip())
    if separators[0] and separators[0] == separators[1]:
        text = "The group separator is the same as the keep separator."
        problems.append(Problem("group_separator", "error", text, "Use another one."))
    problems += [
        Problem(field, "error", "A comma already separates tags.", "Use other signs, such as ||| or ;;;.")
        for field, sign in zip(("keep_separator", "group_separator"), separators, strict=True)
        if "," in sign
    ]
    return problems
