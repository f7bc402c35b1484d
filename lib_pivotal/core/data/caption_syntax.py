"""Finds syntax in captions that means something elsewhere but is trained as it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.caption_choices import Choices, lines_of, unused_braces
from lib_pivotal.core.data.caption_template import placeholder
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["syntax_problems"]

_MAX_EXAMPLE_LENGTH = 40

_EMPHASIS = (
    r"(?<!\\)\((?:\\.|[^()\\]){1,99}(?:(?<!\d):\s?\d+|:\s?-?\d*\.\d+)\s?\)"
    r"|(?<!\\)\({2}(?:\\.|[^()\\]){1,99}\)+|(?<!\\)\[{2}[^\[\]]{1,99}\]+"
)
_BRACES = r"\{{2}[^{}]{1,99}\}+"
_PLAIN = "It has no special meaning in a caption, so remove it."

_Find = Callable[[str], "str | None"]


def syntax_problems(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    """One finding for each kind of syntax, with an example and the images.

    Args:
        images: images with captions.
        config: its settings say which syntax has a meaning.
    """
    problems = []
    for what, find, hint in _kinds(config):
        found = [(image, example) for image in images if (example := find(image.caption or ""))]
        if not found:
            continue
        example = printable(found[0][1], _MAX_EXAMPLE_LENGTH)
        example = "" if example in what else f" such as {example}"
        count = f"{len(found)} image{'s' if len(found) != 1 else ''}"
        names = listed([image.shown for image, _ in found])
        text = f"{what}{example} is trained as written in the captions of {count}: {names}."
        problems.append(Problem("data_folder", "warning", text, hint))
    return problems + _unnamed(images, config)


def _kinds(config: TrainConfig) -> list[tuple[str, _Find, str]]:
    """What to look for: its name, a function that returns an example or None, and what to do.

    Repetitions in the patterns are bounded so that searching very long captions stays fast.
    """
    kinds: list[tuple[str, _Find, str]] = []
    if not config.emphasis:
        pattern = _EMPHASIS if config.random_choices else f"{_EMPHASIS}|{_BRACES}"
        kinds.append(("Emphasis", _search(pattern), 'Remove it, or turn on "Emphasis in captions".'))
    kinds += [
        ("Prompt editing", _search(r"(?<!\\)\[[^\[\]]{0,99}:[^\[\]]{0,99}:\s?\d*\.?\d+\s?\]"), _PLAIN),
        ("Random choice", _search(r"(?<!\\)\[[^\[\]|]{0,99}\|[^\[\]]{0,99}\]"), "Write {red|blue} for a choice."),
    ]
    if config.random_choices:
        hint = "Put | between the options of a choice, of which a line can have 32; write {{ and }} for braces."
        kinds.append(("Text in braces", lambda text: _first(unused_braces, lines_of(text)), hint))
    else:
        hint = 'Remove it, or turn on "Random choices".'
        kinds += [("Random choice", _choice, hint), ("A line break", _search(r"(?<=\S)\s*\n"), hint)]
    kinds += [
        (f"The separator {sign}", _search(re.escape(sign)), f'Remove it, or enter it under "{label}".')
        for own, label, sign in (
            (config.keep_separator, "Keep separator", "|||"),
            (config.group_separator, "Group separator", ";;;"),
        )
        if own.strip() != sign
    ]
    return [
        *kinds,
        ("A wildcard", _search(r"__[^\W_][\w/*-]{0,99}?__"), _PLAIN),
        ("An extra network tag", _search(r"<(?:lora|lyco|hypernet):[^<>]{0,99}>"), _PLAIN),
        ("A prompt keyword", _search(r"\b(?:BREAK|AND)\b"), _PLAIN),
    ]


def _unnamed(images: Sequence[DatasetImage], config: TrainConfig) -> list[Problem]:
    """A finding about ``[name]`` in captions for which no name is known."""
    if len(config.concepts) == 1:
        return []
    found = [image for image in images if not image.subset.always and placeholder(image.caption or "")]
    if not found:
        return []
    names = listed([image.shown for image in found])
    text = f"{placeholder(found[0].caption or '')} stands for no name in the captions of {names}."
    hint = "Give the names that always apply to this folder, or write the name."
    return [Problem("data_folder", "warning", text, hint)]


def _search(pattern: str) -> _Find:
    compiled = re.compile(pattern)
    return lambda text: match.group() if (match := compiled.search(text)) else None


def _choice(text: str) -> str | None:
    match = re.search(r"\{[^{}|]{0,99}\|[^{}]{0,99}\}", text)
    return match.group() if match and Choices(text).count else None


def _first(find: _Find, texts: Sequence[str]) -> str | None:
    return next((found for text in texts if (found := find(text))), None)
