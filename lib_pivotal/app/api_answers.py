"""Answers of the HTTP API: JSON that every client can parse, and errors with their HTTP status."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse

from lib_pivotal.core.config.shown import HALF_PAIR
from lib_pivotal.core.errors import PivotalError, Problem

__all__ = ["Answer", "Refused", "as_dicts", "failure"]


class Refused(PivotalError):
    """A rejected request, with its HTTP status."""

    def __init__(self, status: int, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Answer(JSONResponse):
    """JSON that every client can parse, whatever strings and numbers it contains."""

    def render(self, content: Any) -> bytes:
        """The body of the answer."""
        try:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            text = json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":"))
        # File names may contain lone surrogates, which UTF-8 cannot encode; they are shown as \\udc80.
        return HALF_PAIR.sub(lambda half: f"\\\\u{ord(half.group()):x}", text).encode("utf-8")


def _finite(content: Any) -> Any:
    """The same content with null for NaN and infinity, which JSON does not have."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content


def failure(status: int, message: str, hint: str, problems: Sequence[Problem] = ()) -> JSONResponse:
    """An error.

    Args:
        status: HTTP status.
        message: what is wrong.
        hint: what to do.
        problems: of the settings.
    """
    return Answer({"message": message, "hint": hint, "problems": as_dicts(problems)}, status_code=status)


def as_dicts(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Problems as plain values."""
    return [
        {"field": item.field, "severity": item.severity, "message": item.message, "hint": item.hint}
        for item in problems
    ]
