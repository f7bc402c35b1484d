"""Wrapping functions of the webui, and taking the wrappers off again."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Hooks", "guarded"]

_log = logging.getLogger("pivotal.bundle_prompts")
_Result = TypeVar("_Result")
_logged: set[tuple[str, str]] = set()


class Hooks:
    """Functions of the webui that call ours instead; all of them are put back together.

    Another extension may have wrapped our wrapper meanwhile. Then ours stays in place and only calls the original.
    """

    def __init__(self) -> None:
        self._is_on = True
        self._wrapped: list[tuple[Any, str, Any, Any]] = []

    def wrap(self, owner: Any, name: str, replacement: Callable[..., Any]) -> bool:
        """Call ``replacement(original, *arguments, **options)`` instead of a function.

        Args:
            owner: module or class.
            name: of the function in it.
            replacement: ours; it calls ``original`` itself.

        Returns:
            False where the webui has no such function.
        """
        original = getattr(owner, name, None)
        if original is None:
            return False

        @functools.wraps(original)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if not self._is_on:
                return original(*arguments, **options)
            return replacement(original, *arguments, **options)

        setattr(owner, name, wrapper)
        self._wrapped.append((owner, name, original, wrapper))
        return True

    def remove(self) -> None:
        """Put every function back."""
        self._is_on = False
        for owner, name, original, wrapper in reversed(self._wrapped):
            if getattr(owner, name, None) is wrapper:
                setattr(owner, name, original)
        self._wrapped.clear()


def guarded(what: str, action: Callable[[], _Result], otherwise: _Result) -> _Result:
    """Run a part of ours inside the webui's work; an error in it is logged and stops nothing.

    Args:
        what: for the log, what was being done, such as ``reading tags``.
        action: the part.
        otherwise: result when it fails.
    """
    try:
        return action()
    except Exception as error:
        # An error of ours must never stop a generation. Some parts run for every token, so each is logged once.
        if (what, type(error).__name__) not in _logged:
            _logged.add((what, type(error).__name__))
            _log.exception("Bundled embeddings: an error while %s. The generation goes on without it.", what)
        return otherwise
