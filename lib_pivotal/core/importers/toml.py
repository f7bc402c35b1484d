"""Reads TOML, which Python itself reads only from 3.11 on; dates and times are refused, because settings have none."""

from __future__ import annotations

import re
from typing import Any, NoReturn

__all__ = ["TomlError", "parse_toml"]

_MAX_DEPTH = 60
"""Maximum nesting of arrays and inline tables."""
_MAX_DIGITS = 300

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f"
_BLANK = re.compile(r"[ \t]*")
_COMMENT = re.compile(rf"#[^\n{_CONTROL}]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(rf'"((?:[^"\\\n{_CONTROL}]|\\.)*)"')
_LITERAL = re.compile(rf"'([^'\n{_CONTROL}]*)'")
_LONG_BASIC = re.compile(rf'"""\n?((?:[^\\{_CONTROL}]|\\.)*?"{{0,2}})"""(?!")', re.DOTALL)
_LONG_LITERAL = re.compile(rf"'''\n?([^{_CONTROL}]*?'{{0,2}})'''(?!')", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})|([ \t]*\n[ \t\n]*)|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}

_DIGITS = r"[0-9](?:_?[0-9])*"
_NUMBER = re.compile(
    rf"(?P<prefixed>0x[0-9A-Fa-f](?:_?[0-9A-Fa-f])*|0o[0-7](?:_?[0-7])*|0b[01](?:_?[01])*)"
    rf"|(?P<special>[+-]?(?:inf|nan))"
    rf"|(?P<whole>[+-]?(?:0|[1-9](?:_?[0-9])*))(?P<rest>(?:\.{_DIGITS})?(?:[eE][+-]?{_DIGITS})?)"
)
_AFTER_VALUE = re.compile(r"[ \t]*(?=[,\]}#\n]|\Z)")

_PATH_HINT = r"Write paths in single quotes: 'D:\images'."


class TomlError(ValueError):
    """A text is not TOML, or has a date.

    Args:
        line: number of the line, from 1.
        message: what is wrong.
    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"Line {line}: {message}")
        self.line = line


class _Table(dict[str, Any]):
    """A table; ``origin`` says which parts of the file may still add to it."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self.origin = origin


class _Tables(list[_Table]):
    """An array of tables, made by headers in double brackets."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML 1.0 except dates and times.

    Args:
        text: the file's text.

    Raises:
        TomlError: a syntax error, a key or table defined twice, or a date; it names the line.
    """
    return _Parser(text.replace("\r\n", "\n")).parse()


class _Parser:
    """Reads a text from the beginning to the end; ``_at`` is the position of the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._root = _Table("header")
        self._table = self._root

    def parse(self) -> dict[str, Any]:
        while True:
            self._skip_lines()
            if self._at == len(self._text):
                return self._root
            if self._peek() == "[":
                self._read_header()
            else:
                self._read_pair(self._table)
            self._end_line()

    def _fail(self, message: str) -> NoReturn:
        raise TomlError(self._text.count("\n", 0, self._at) + 1, message)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, expected: str) -> bool:
        """Whether the text goes on with ``expected``, which is then skipped."""
        is_there = self._text.startswith(expected, self._at)
        self._at += len(expected) * is_there
        return is_there

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match

    def _skip_blank(self) -> None:
        self._match(_BLANK)

    def _skip_lines(self) -> None:
        """Skip blanks, comments and line breaks."""
        while True:
            self._skip_blank()
            if not (self._match(_COMMENT) or self._take("\n")):
                return

    def _end_line(self) -> None:
        self._skip_blank()
        self._match(_COMMENT)
        if self._at < len(self._text) and not self._take("\n"):
            self._fail("this line should have ended here.")

    def _read_header(self) -> None:
        is_array = self._take("[[")
        if not is_array:
            self._at += 1
        keys = self._read_keys()
        if not self._take("]]" if is_array else "]"):
            self._fail("a bracket is missing.")
        table = self._root
        for key in keys[:-1]:
            inner = table.setdefault(key, _Table("path"))
            table = inner[-1] if isinstance(inner, _Tables) else inner
            if not isinstance(table, _Table) or table.origin == "inline":
                self._fail(f"{key} has a value already, so it cannot be a table.")
        self._table = self._add_element(table, keys[-1]) if is_array else self._open_table(table, keys[-1])

    def _add_element(self, table: _Table, key: str) -> _Table:
        elements = table.setdefault(key, _Tables())
        if not isinstance(elements, _Tables):
            self._fail(f"{key} is defined twice.")
        elements.append(_Table("header"))
        return elements[-1]

    def _open_table(self, table: _Table, key: str) -> _Table:
        inner = table.setdefault(key, _Table("path"))
        if not isinstance(inner, _Table) or inner.origin != "path":
            self._fail(f"{key} is defined twice.")
        inner.origin = "header"
        return inner

    def _read_pair(self, table: _Table, depth: int = 0) -> None:
        keys = self._read_keys()
        if not self._take("="):
            self._fail(f"there is no = after {keys[-1]}.")
        self._skip_blank()
        for key in keys[:-1]:
            table = table.setdefault(key, _Table("dotted"))
            if not isinstance(table, _Table) or table.origin not in ("dotted", "path"):
                self._fail(f"{key} is defined twice.")
            table.origin = "dotted"
        if keys[-1] in table:
            self._fail(f"{keys[-1]} is defined twice.")
        table[keys[-1]] = self._read_value(depth)

    def _read_keys(self) -> list[str]:
        """A key, or several keys joined by dots."""
        keys = []
        while True:
            self._skip_blank()
            keys.append(self._read_key())
            self._skip_blank()
            if not self._take("."):
                return keys

    def _read_key(self) -> str:
        match = self._match(_BARE_KEY)
        if match:
            return match.group()
        match = self._match(_LITERAL)
        if match:
            return match.group(1)
        match = self._match(_BASIC)
        if not match:
            self._fail("a key is missing or has characters that need quotes.")
        return self._unescaped(match.group(1), is_long=False)

    def _read_value(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            self._fail("brackets are nested too deeply.")
        first = self._peek()
        if first == "[":
            return self._read_array(depth)
        if first == "{":
            return self._read_inline_table(depth)
        if first in ('"', "'"):
            return self._read_string()
        for word, value in (("true", True), ("false", False)):
            if self._take(word):
                return value
        return self._read_number()

    def _read_string(self) -> str:
        for opening, pattern in (("'''", _LONG_LITERAL), ("'", _LITERAL)):
            if self._text.startswith(opening, self._at):
                match = self._match(pattern)
                return match.group(1) if match else self._fail("a text has no end, or a character that is not allowed.")
        is_long = self._text.startswith('"""', self._at)
        match = self._match(_LONG_BASIC if is_long else _BASIC)
        if not match:
            self._fail("a text has no end, or a character that is not allowed.")
        return self._unescaped(match.group(1), is_long=is_long)

    def _unescaped(self, text: str, *, is_long: bool) -> str:
        def replace(match: re.Match[str]) -> str:
            code, line_break, letter = match.groups()
            if code:
                number = int(code[1:], 16)
                if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                    self._fail(f"\\{code} is not a character.")
                return chr(number)
            if line_break and is_long:
                return ""
            if letter not in _ESCAPES:
                self._fail(f"\\{letter or ' '} has no meaning in a text. {_PATH_HINT}")
            return _ESCAPES[letter]

        return _ESCAPE.sub(replace, text)

    def _read_number(self) -> float | int:
        match = self._match(_NUMBER)
        if not match or not _AFTER_VALUE.match(self._text, self._at):
            self._fail("this is not a value. Texts need quotes, and dates are not supported.")
        text = match.group().replace("_", "")
        if len(text) > _MAX_DIGITS:
            self._fail("the number is too long.")
        if match["prefixed"]:
            return int(text, 0)
        return int(text) if match["whole"] and not match["rest"] else float(text)

    def _read_array(self, depth: int) -> list[Any]:
        self._at += 1
        values: list[Any] = []
        while True:
            self._skip_lines()
            if self._take("]"):
                return values
            values.append(self._read_value(depth + 1))
            self._skip_lines()
            if not self._take(",") and self._peek() != "]":
                self._fail("a comma or ] is missing.")

    def _read_inline_table(self, depth: int) -> _Table:
        self._at += 1
        table = _Table("path")
        self._skip_blank()
        while not self._take("}"):
            self._read_pair(table, depth + 1)
            self._skip_blank()
            if self._take(","):
                self._skip_blank()
                if self._peek() == "}":
                    self._fail("there is a comma too many.")
            elif self._peek() != "}":
                self._fail("a comma or } is missing.")
        table.origin = "inline"
        return table
