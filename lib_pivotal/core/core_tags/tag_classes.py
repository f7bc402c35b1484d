"""Sorts tags into classes by the rules of a text file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.data.caption_tags import plain_words
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["FILE_NAME", "OTHER", "TagClass", "TagClasses", "load_tag_classes", "read_tag_classes"]

FILE_NAME = "tag_classes.txt"
"""Name of the file with the rules, here and in the data folder."""

USES = ("permanent", "ask", "changing")
MARKS = ("rivals", "look", "worn", "as-written")

_MAX_TAG_LENGTH = 100
"""Longer tags are in no class; patterns would be slow on them."""
_MAX_BYTES = 2**20
_PART = re.compile(r"\{(\w+)\} = (.+)")
_HEADER = re.compile(r"\[([^\[\]]+)\]((?: [\w-]+)+)")
_USED_PART = re.compile(r"\{([a-z]\w*)\}")


@dataclass(frozen=True)
class TagClass:
    """A class of tags.

    Attributes:
        name: as in the file.
        use: ``permanent`` (a core tag if frequent), ``ask`` (only if the user says so) or ``changing`` (never).
        rivals: whether somebody has only one tag of the class at a time.
        look: whether its tags tell apart the looks of one character.
        worn: whether its tags can be taken off.
    """

    name: str
    use: str
    rivals: bool = False
    look: bool = False
    worn: bool = False


OTHER = TagClass("other", "ask")
"""The class of tags that no rule knows."""


class TagClasses:
    """Finds the class of a tag: the first one with a pattern that fits.

    Args:
        rules: each class with its pattern and whether that is searched in the tag as it is written.
    """

    def __init__(self, rules: Iterable[tuple[TagClass, re.Pattern[str], bool]]) -> None:
        self._rules = tuple(rules)
        self._known: dict[str, TagClass] = {}

    def of(self, tag: str) -> TagClass:
        """The class of a tag as it is written in a caption; :data:`OTHER` if no rule fits."""
        found = self._known.get(tag)
        if found is None:
            found = self._known[tag] = self._find(tag)
        return found

    def _find(self, tag: str) -> TagClass:
        if len(tag) > _MAX_TAG_LENGTH:
            return OTHER
        plain, written = plain_words(tag), tag.strip().lower()
        for kind, pattern, is_written in self._rules:
            if pattern.search(written if is_written else plain):
                return kind
        return OTHER


def load_tag_classes(folder: Path | None = None) -> TagClasses:
    """The user's rules if the folder has a file of them, otherwise those of the extension.

    Args:
        folder: the extension's data folder.

    Raises:
        ConfigError: the user's file cannot be read or used.
    """
    own = None if folder is None else folder / FILE_NAME
    if own is None or not own.is_file():
        return read_tag_classes(Path(__file__).with_name(FILE_NAME).read_text(encoding="utf-8"))
    hint = f"Save it as UTF-8 text, or remove it: without it, the extension's own {FILE_NAME} is used."
    try:
        raw = own.read_bytes()
        text = raw.decode("utf-8-sig") if len(raw) <= _MAX_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError([Problem(str(own), "error", f"It cannot be read ({reason}).", hint)]) from error
    return read_tag_classes(text, str(own))


def read_tag_classes(text: str, shown: str = FILE_NAME) -> TagClasses:
    """Read rules.

    Args:
        text: see the head of ``tag_classes.txt``.
        shown: name of the file for messages.

    Raises:
        ConfigError: a line is not as described there, or there are no classes.
    """
    reader = _Reader()
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if line and not line.startswith("#"):
            try:
                reader.take(line)
            except _WrongLine as error:
                raise ConfigError([Problem(shown, "error", f"Line {number}: {error.message}", error.hint)]) from error
    if not reader.rules:
        hint = f"Copy the extension's own {FILE_NAME} and edit the copy."
        raise ConfigError([Problem(shown, "error", "It has no classes of tags.", hint)])
    return TagClasses(reader.rules)


class _WrongLine(Exception):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class _Reader:
    """Takes one line after another."""

    def __init__(self) -> None:
        self.rules: list[tuple[TagClass, re.Pattern[str], bool]] = []
        self._parts: dict[str, str] = {}
        self._class: TagClass | None = None
        self._is_written = False
        self._names: set[str] = set()

    def take(self, line: str) -> None:
        part = _PART.fullmatch(line)
        if part is not None:
            self._parts[part[1]] = self._filled(part[2])
        elif line.startswith("[") and line.partition("]")[2].startswith(" "):
            self._begin(line)
        elif self._class is None:
            raise _WrongLine("This pattern comes before the first class.", "Begin a class: [name] permanent.")
        else:
            self.rules.append((self._class, _compiled(self._filled(line)), self._is_written))

    def _begin(self, line: str) -> None:
        header = _HEADER.fullmatch(line)
        use, *marks = header[2].split() if header is not None else [""]
        if header is None or use not in USES:
            raise _WrongLine(f"A class needs a use: {', '.join(USES)}.", "Write it like [hair color] permanent.")
        unknown = [mark for mark in marks if mark not in MARKS]
        if unknown:
            raise _WrongLine(f"There is no mark {unknown[0]}.", f"Use {', '.join(MARKS)}.")
        if header[1] in self._names:
            raise _WrongLine(f"The class {header[1]} is there already.", "Put its patterns into one class.")
        self._names.add(header[1])
        worn = "worn" in marks
        self._class = TagClass(header[1], use, rivals="rivals" in marks, look=worn or "look" in marks, worn=worn)
        self._is_written = "as-written" in marks

    def _filled(self, text: str) -> str:
        """The text with named parts filled in; other braces belong to the pattern."""

        def fill(match: re.Match[str]) -> str:
            if match[1] not in self._parts:
                raise _WrongLine(f"There is no part {match[0]}.", f"Define it above: {match[0]} = text.")
            return self._parts[match[1]]

        return _USED_PART.sub(fill, text)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _WrongLine(f"This is not a regular expression ({error}).", "Check its brackets.") from error
