"""Finds problems with captions: missing, too long, with prompt syntax, or without the names to train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import TRAIN
from lib_pivotal.core.data.caption import CaptionOutlook
from lib_pivotal.core.data.caption_settings import caption_setting_problems
from lib_pivotal.core.data.caption_syntax import syntax_problems
from lib_pivotal.core.data.folder_captions import caption_makers
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed, shown_path
from lib_pivotal.core.data.token_count import TokenCounter, chunks_of
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import CHUNK_TOKENS
from lib_pivotal.core.printable import printable

__all__ = ["caption_problems"]

_MAX_TOKENS = 300
"""Four prompt chunks. The longest caption of a batch decides how many chunks all of them use."""
_COUNTED_LETTERS = 20_000
"""Characters; only this much of a longer caption is tokenized to estimate its length."""


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
    makers = caption_makers(images, config)
    outlooks = [(image, makers[image.subset].outlook(image.caption or "")) for image in images]
    problems = caption_setting_problems(config)
    # Templates may need no words of their own.
    bare = [image for image, outlook in outlooks if not image.caption and not outlook.longest]
    problems += _missing([image for image in bare if image.subset.captions != "template"], images, folder)
    captioned = [(image, outlook) for image, outlook in outlooks if image.caption or outlook.longest]
    problems += _generation_data([image for image, _ in captioned])
    problems += syntax_problems([image for image, _ in captioned], config)
    problems += _long(captioned, config, tokenizer)
    return problems + _concepts([pair for pair in captioned if pair[0].subset.kind == TRAIN], config)


def _names(images: Sequence[DatasetImage]) -> str:
    return listed([image.shown for image in images])


def _missing(bare: Sequence[DatasetImage], images: Sequence[DatasetImage], folder: Path) -> list[Problem]:
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


def _long(
    outlooks: Sequence[tuple[DatasetImage, CaptionOutlook]],
    config: TrainConfig,
    tokenizer: Callable[[str], list[int]] | None,
) -> list[Problem]:
    counter = None if tokenizer is None else TokenCounter(tokenizer, config.concepts)
    found = []
    for image, outlook in outlooks:
        count = _length(outlook.longest, counter)
        if count > _MAX_TOKENS:
            chunks = f", {chunks_of(count)} chunks" if counter is not None else ""
            found.append(f"{image.shown} (about {count}{chunks})")
    if not found:
        return []
    what = "tokens" if tokenizer is not None else "words"
    text = f"Captions of more than {_MAX_TOKENS} {what} make steps slow and use a lot of memory: {listed(found)}."
    return [Problem("data_folder", "warning", text, f"Shorten them. A prompt chunk has {CHUNK_TOKENS} tokens.")]


def _length(caption: str, counter: TokenCounter | None) -> int:
    """Number of tokens of a caption, estimated for very long ones; number of words if there is no tokenizer."""
    # A token is at least one byte; only names have more tokens than bytes.
    if len(caption.encode()) + (0 if counter is None else counter.most_added) <= _MAX_TOKENS:
        return 0
    text = caption[:_COUNTED_LETTERS]
    count = counter.count(text) if counter is not None else len(text.split())
    return count * len(caption) // len(text)


def _concepts(outlooks: Sequence[tuple[DatasetImage, CaptionOutlook]], config: TrainConfig) -> list[Problem]:
    if not outlooks or not any(concept.name.strip() for concept in config.concepts):
        return []
    mentioned = set().union(*(outlook.names for _, outlook in outlooks))
    problems = [
        Problem(
            f"concepts[{index}].name",
            "error",
            f"No caption mentions {concept.name}, so it would not be trained.",
            'Add the name to captions, or list a tag that stands for it under "Caption tags".',
        )
        for index, concept in enumerate(config.concepts)
        if concept.name.strip() and concept.name not in mentioned
    ]
    without = [image for image, outlook in outlooks if not outlook.names]
    if mentioned and 2 * len(without) > len(outlooks):
        text = f"{len(without)} of {len(outlooks)} captions mention no concept: {_names(without)}."
        hint = 'Add the name of what they show, or list a tag that stands for it under "Caption tags".'
        problems.append(Problem("data_folder", "warning", text, hint))
    partly = [image for image, outlook in outlooks if outlook.names and not outlook.is_always_named]
    if partly:
        text = f"Not every line or choice of the captions of {_count(partly)} mentions a concept: {_names(partly)}."
        hint = "Each line of a caption is an alternative; add the name to all of them."
        problems.append(Problem("data_folder", "warning", text, hint))
    return problems
