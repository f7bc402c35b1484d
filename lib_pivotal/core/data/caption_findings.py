"""Finds problems with captions: missing, too long, with prompt syntax, or without the names to train."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed, shown_path
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["caption_problems"]

_MAX_EXAMPLE_LENGTH = 40
_MAX_TOKENS = 300
"""Four prompt chunks. The longest caption of a batch decides how many chunks all of them use."""
_COUNTED_LETTERS = 20_000
"""Characters; only this much of a longer caption is tokenized to estimate its length."""

_SYNTAX = (
    (
        "Emphasis",
        r"(?<!\\)\((?:\\.|[^()\\]){1,99}(?:(?<!\d):\s?\d+|:\s?-?\d*\.\d+)\s?\)"
        r"|(?<!\\)\({2}(?:\\.|[^()\\]){1,99}\)+|(?<!\\)\[{2}[^\[\]]{1,99}\]+|\{{2}[^{}]{1,99}\}+",
    ),
    ("Prompt editing", r"(?<!\\)\[[^\[\]]{0,99}:[^\[\]]{0,99}:\s?\d*\.?\d+\s?\]"),
    ("Random choice", r"(?<!\\)\[[^\[\]|]{0,99}\|[^\[\]]{0,99}\]|\{[^{}|]{0,99}\|[^{}]{0,99}\}"),
    ("The separator |||", r"\|\|\|"),
    ("A wildcard", r"__[^\W_][\w/*-]{0,99}?__"),
    ("An extra network tag", r"<(?:lora|lyco|hypernet):[^<>]{0,99}>"),
    ("A prompt keyword", r"\b(?:BREAK|AND)\b"),
)
"""Syntax that means something in prompts or to other trainers but is plain text in a caption. Repetitions are bounded
so that searching very long captions stays fast."""


def caption_problems(
    images: Sequence[DatasetImage],
    folder: Path,
    config: TrainConfig,
    tokenizer: Callable[[str], list[int]] | None,
) -> list[Problem]:
    """Find all problems with the captions of the images.

    Args:
        images: the usable images.
        folder: the data folder, for messages.
        config: its concepts are used.
        tokenizer: text → token ids; None counts words instead.
    """
    # Templates may need no words of their own.
    has_template = bool(config.caption_template.strip())
    problems = [] if has_template else _missing([i for i in images if i.subset.captions != "template"], folder)
    captioned = [image for image in images if image.caption]
    problems += _generation_data(captioned)
    problems += _syntax(captioned)
    problems += _long(captioned, tokenizer)
    return problems + _concepts(captioned, config)


def _names(images: Sequence[DatasetImage]) -> str:
    return listed([image.shown for image in images])


def _missing(images: Sequence[DatasetImage], folder: Path) -> list[Problem]:
    bare = [image for image in images if not image.caption]
    if not bare:
        return []
    similar = list(dict.fromkeys(name for image in bare for name in image.lookalikes))
    what = "Put a .txt file of the same name next to each image, with the concept's name, then what varies."
    if similar:
        there = listed([printable(name) for name in similar])
        what = f"There are {there}, but a caption needs exactly the name of its image with the suffix .txt."
    if len(bare) == len(images):
        text = f"No image in {shown_path(folder)} has a caption."
        return [Problem("data_folder", "error", text, what)]
    text = f"No caption: {_names(bare)}."
    return [Problem("data_folder", "warning", text, f"They are trained with an empty caption. {what}")]


def _generation_data(images: Sequence[DatasetImage]) -> list[Problem]:
    cut = [image for image in images if image.is_cut]
    if not cut:
        return []
    text = f"The captions of {_count(cut)} contain the webui's generation data: {_names(cut)}."
    hint = 'Only the prompt is used; everything from "Negative prompt:" or "Steps:" on is ignored.'
    return [Problem("data_folder", "warning", text, hint)]


def _count(images: Sequence[DatasetImage]) -> str:
    return f"{len(images)} image{'s' if len(images) != 1 else ''}"


def _syntax(images: Sequence[DatasetImage]) -> list[Problem]:
    problems = []
    for what, pattern in _SYNTAX:
        found = [(image, match) for image in images if (match := re.search(pattern, image.caption or ""))]
        if found:
            example = printable(found[0][1].group(), _MAX_EXAMPLE_LENGTH)
            example = "" if example in what else f" such as {example}"
            affected = [image for image, _ in found]
            text = f"{what}{example} is trained as written in the captions of {_count(affected)}: {_names(affected)}."
            problems.append(
                Problem("data_folder", "warning", text, "It has no special meaning in a caption, so remove it.")
            )
    return problems


def _long(images: Sequence[DatasetImage], tokenizer: Callable[[str], list[int]] | None) -> list[Problem]:
    counts = {image.shown: _length(image.caption or "", tokenizer) for image in images}
    found = [f"{name} (about {count})" for name, count in counts.items() if count > _MAX_TOKENS]
    if not found:
        return []
    what = "tokens" if tokenizer is not None else "words"
    text = f"Captions of more than {_MAX_TOKENS} {what} make steps slow and use a lot of memory: {listed(found)}."
    return [Problem("data_folder", "warning", text, "Shorten them.")]


def _length(caption: str, tokenizer: Callable[[str], list[int]] | None) -> int:
    """Number of tokens of a caption, estimated for very long ones; number of words if there is no tokenizer."""
    # A token is at least one byte.
    if len(caption.encode()) <= _MAX_TOKENS:
        return 0
    text = caption[:_COUNTED_LETTERS]
    count = len(tokenizer(text)) if tokenizer is not None else len(text.split())
    return count * len(caption) // len(text)


def _concepts(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    concepts = [concept for concept in config.concepts if concept.name.strip()]
    if not images or not concepts:
        return []
    maker = CaptionMaker(concepts, config)
    found = [maker.concepts_in(image.caption or "") for image in images]
    mentioned = set().union(*found)
    problems = [
        Problem(
            f"concepts[{index}].name",
            "error",
            f"No caption mentions {concept.name}, so it would not be trained.",
            "Add the name to captions, or list a tag that stands for it as an alias.",
        )
        for index, concept in enumerate(config.concepts)
        if concept.name.strip() and concept.name not in mentioned
    ]
    without = [image for image, names in zip(images, found, strict=True) if not names]
    if mentioned and 2 * len(without) > len(images):
        text = f"{len(without)} of {len(images)} captions mention no concept: {_names(without)}."
        hint = "Add the name of what they show, or list a tag that stands for it as an alias."
        problems.append(Problem("data_folder", "warning", text, hint))
    return problems
