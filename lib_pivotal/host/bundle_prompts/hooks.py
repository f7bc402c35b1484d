"""Standing in the webui's functions, and leaving again."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Hooks", "guarded"]

_log = logging.getLogger("pivotal.loader")
_Result = TypeVar("_Result")
_told: set[tuple[str, str]] = set()


class Hooks:
    """Functions of the webui that call ours in their place; all come off together.

    Another extension may have put its own wrapper over ours meanwhile. Then ours stays where it is and does
    nothing more.
    """

    def __init__(self) -> None:
        self._is_on = True
        self._places: list[tuple[Any, str, Any, Any]] = []

    def wrap(self, owner: Any, name: str, replacement: Callable[..., Any]) -> bool:
        """Let ``replacement(original, *arguments, **options)`` take the place of a function.

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
        def standing_in(*arguments: Any, **options: Any) -> Any:
            if not self._is_on:
                return original(*arguments, **options)
            return replacement(original, *arguments, **options)

        setattr(owner, name, standing_in)
        self._places.append((owner, name, original, standing_in))
        return True

    def remove(self) -> None:
        """Put every function back."""
        self._is_on = False
        for owner, name, original, standing_in in reversed(self._places):
            if getattr(owner, name, None) is standing_in:
                setattr(owner, name, original)
        self._places.clear()


def guarded(what: str, action: Callable[[], _Result], otherwise: _Result) -> _Result:
    """Run a part of ours inside the webui's work; whatever goes wrong in it is logged and stops nothing.

    Args:
        what: for the log, what was being done.
        action: the part.
        otherwise: result when it fails.
    """
    try:
        return action()
    except Exception as error:
        # A failure of ours must never stop a generation, whatever it is. Some parts run for every token.
        if (what, type(error).__name__) not in _told:
            _told.add((what, type(error).__name__))
            _log.exception("Bundle loader failed %s; the generation goes on without.", what)
        return otherwise
