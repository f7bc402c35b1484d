"""The text of a caption at a step: one of its lines, with its choices made, in a template."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from lib_pivotal.core.data.caption_choices import Choices, Choose, lines_of
from lib_pivotal.core.data.caption_template import fill, with_name

__all__ = ["CaptionTexts"]

_MAX_CACHED = 50_000
"""Maximum number of captions whose lines are remembered."""

_MAX_VARIANTS = 64


class CaptionTexts:
    """Chooses the text of captions.

    Args:
        templates: put around the text of a caption; none keeps the text.
        name: stands for ``[name]``; None puts the names of the caption into templates and keeps the rest.
        names_in: returns the names that a text mentions.
        has_choices: whether lines are alternatives and ``{a|b}`` is a choice.
    """

    def __init__(
        self,
        templates: Sequence[str],
        name: str | None,
        names_in: Callable[[str], Sequence[str]],
        *,
        has_choices: bool,
    ) -> None:
        self._templates = [Choices(template) for template in templates]
        self._name = name
        self._names_in = names_in
        self._has_choices = has_choices
        self._lines: dict[str, list[Choices]] = {}

    def chosen(self, caption: str, choose: Choose) -> str:
        """The text of one line, with its choices made, in a template if there are any.

        Args:
            caption: of the image.
            choose: called only where there are at least two options.
        """
        lines = self._lines_of(caption)
        line = lines[choose(len(lines))] if len(lines) > 1 else lines[0]
        return self._in_template(line.text(choose), choose)

    def variants(self, caption: str) -> list[str]:
        """Texts that together contain each line, template and option at least once, up to 64 of them.

        Args:
            caption: of the image.
        """
        lines = _each_variant(self._lines_of(caption))
        templates = _each_variant(self._templates)
        count = max(len(lines), len(templates))
        texts = [lines[number % len(lines)] for number in range(count)]
        if templates:
            texts = [self._filled(templates[number % len(templates)], text) for number, text in enumerate(texts)]
        return list(dict.fromkeys(texts))

    def _lines_of(self, caption: str) -> list[Choices]:
        lines = self._lines.get(caption)
        if lines is None:
            if len(self._lines) >= _MAX_CACHED:
                self._lines.clear()
            texts = lines_of(caption) if self._has_choices else [caption]
            lines = [Choices(with_name(text, self._name), is_plain=not self._has_choices) for text in texts]
            self._lines[caption] = lines
        return lines

    def _in_template(self, text: str, choose: Choose) -> str:
        if not self._templates:
            return text
        template = self._templates[choose(len(self._templates)) if len(self._templates) > 1 else 0]
        return self._filled(template.text(choose), text)

    def _filled(self, template: str, text: str) -> str:
        return fill(template, text, self._name if self._name is not None else ", ".join(self._names_in(text)))


def _each_variant(sources: Sequence[Choices]) -> list[str]:
    """The variants of each source, as many as are tried."""
    found = (source.variant(number) for source in sources for number in range(source.variants))
    return list(itertools.islice(found, _MAX_VARIANTS))
