"""Checks the fields of a request's JSON body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

__all__ = ["read_body"]

_KINDS = {dict: "an object", int: "an integer", str: "a string", bool: "true or false", list: "a list"}


def read_body(body: Any, known: Mapping[str, type], required: str = "") -> dict[str, Any]:
    """The fields of a body.

    Args:
        body: as parsed from JSON.
        known: field → type.
        required: a field that must be there.

    Raises:
        ConfigError: with all unknown fields, wrong types and the missing field.
    """
    problems = []
    for name, value in body.items() if isinstance(body, Mapping) else ():
        if name not in known:
            text = f"Use {', '.join(known)}."
            problems.append(Problem(printable(str(name)), "error", "It is unknown.", text))
        elif type(value) is not known[name]:
            problems.append(Problem(name, "error", f"It must be {_KINDS[known[name]]}.", "Correct it."))
    if not isinstance(body, Mapping) or (required and required not in body):
        field = required or "config"
        problems.append(Problem(field, "error", "It is missing.", f"Send a JSON object with {', '.join(known)}."))
    if problems:
        raise ConfigError(problems)
    return dict(body)
