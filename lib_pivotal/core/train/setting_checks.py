"""Settings that are wrong by themselves, whatever the images and the model are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lib_pivotal.core.config.negative import has_negatives
from lib_pivotal.core.config.schema import TrainConfig, concept_field_info, field_info, subset_field_info
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.data.caption_tags import plain_words
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["check_settings", "with_parse_problems"]

_MIN_TIMESTEP_SPAN = 0.01


def check_settings(config: TrainConfig) -> list[Problem]:
    """Find values out of range, unknown choices, and settings that contradict each other."""
    problems = []
    for name, info in field_info().items():
        problems += _check_value(name, getattr(config, name), info)
    problems += _check_concepts(config)
    for index, subset in enumerate(config.subsets):
        for name, info in subset_field_info().items():
            problems += _check_value(f"subsets[{index}].{name}", getattr(subset, name), info)
    has_lora = config.rank or config.conv_rank or config.text_encoder_rank
    if not config.concepts and not has_lora:
        problems.append(
            Problem("concepts", "error", "There is nothing to train.", "Add a concept, or give the LoRA a rank.")
        )
    if has_lora and config.alpha == 0 and config.lora_kind not in ("lokr", "dora"):
        problems.append(Problem("alpha", "error", "With alpha 0 the LoRA does nothing.", "Use half the rank."))
    problems += _check_dora(config) if has_lora and config.lora_kind == "dora" else []
    if config.negative_rank and not any(problem.field == "negative_rank" for problem in problems):
        problems += _check_negative_lora(config)
    has_range = not any(problem.field in ("min_timestep", "max_timestep") for problem in problems)
    if has_range and config.max_timestep - config.min_timestep < _MIN_TIMESTEP_SPAN:
        text = f"Nothing is between the noise levels {config.min_timestep:g} and {config.max_timestep:g}."
        problems.append(Problem("max_timestep", "error", text, 'Use 1, or a value above "Lowest noise level".'))
    return problems


def with_parse_problems(parse_problems: Sequence[Problem], found: Sequence[Problem]) -> list[Problem]:
    """Join the problems of :func:`lib_pivotal.core.config.io.read_dict` with those that the checks found elsewhere.

    Where a value could not be read, its default was checked instead; problems of that default are dropped.
    """
    reported = {problem.field for problem in parse_problems}
    return [
        *parse_problems,
        *(item for item in found if not reported & {item.field, item.field.partition("].")[0] + "]"}),
    ]


def _check_value(field: str, value: Any, info: Mapping[str, Any]) -> list[Problem]:
    """Check that a value is one of its choices and within its limits."""
    low, high, choices = info["low"], info["high"], info["choices"]
    if choices and value not in choices and not info["allows_others"]:
        return [Problem(field, "error", f"{shown(value)} is not a valid choice.", f"Use one of {', '.join(choices)}.")]
    if low is None or (low < value <= high) or (value == low and not info["is_low_excluded"]):
        return []
    allowed = f"a number above {low:g}, up to {high:g}" if info["is_low_excluded"] else f"{low:g} to {high:g}"
    return [Problem(field, "error", f"{shown(value)} is out of range.", f"Use {allowed}.")]


def _check_concepts(config: TrainConfig) -> list[Problem]:
    problems = []
    claimed = {plain_words(concept.name): concept.name for concept in config.concepts}
    for index, concept in enumerate(config.concepts):
        field = f"concepts[{index}]."
        for name, info in concept_field_info().items():
            problems += _check_value(field + name, getattr(concept, name), info)
        for alias in concept.aliases:
            plain = plain_words(alias)
            if not plain:
                problems.append(Problem(field + "aliases", "error", f"{shown(alias)} is not a tag.", "Remove it."))
            elif claimed.setdefault(plain, concept.name) != concept.name:
                problems.append(
                    Problem(
                        field + "aliases",
                        "error",
                        f"The tag {printable(alias)} already stands for {printable(claimed[plain])}.",
                        "A tag can stand for one concept only.",
                    )
                )
    return problems


def _check_negative_lora(config: TrainConfig) -> list[Problem]:
    problems = []
    if not has_negatives(config.concepts):
        text = "A negative LoRA is trained together with negative embeddings, and there are none."
        problems.append(Problem("negative_rank", "error", text, "Give a concept negative vectors, or set it to 0."))
    if config.lora_kind == "dora":
        text = "A DoRA changes the weights themselves, so it cannot act on the negative prompt alone."
        problems.append(Problem("negative_rank", "error", text, "Set it to 0, or choose another kind of LoRA."))
    return problems


def _check_dora(config: TrainConfig) -> list[Problem]:
    """Say who can use a DoRA, and what does not go with it."""
    text = "A1111 before 1.9 ignores the magnitudes of a DoRA and makes different images without a message."
    hint = "Use lora if the file is for others; A1111 from 1.9 on, Forge and ComfyUI compute it as trained."
    problems = [Problem("lora_kind", "warning", text, hint)]
    if config.max_weight_change:
        text = "The change of a DoRA is not a product of matrices, so it cannot be scaled down."
        problems.append(Problem("max_weight_change", "error", text, "Set it to 0, or use another kind of LoRA."))
    return problems
