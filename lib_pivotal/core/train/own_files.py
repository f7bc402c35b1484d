"""Which files a run has written and nobody has changed since: only these it may write again unasked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

__all__ = ["OwnFiles"]


class OwnFiles:
    """Paths and contents of what a run wrote.

    Args:
        digests: of an earlier attempt that is being resumed, see :meth:`facts`.
    """

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._digests = dict(digests)

    def note(self, path: Path) -> None:
        """Remember a file as it is now."""
        self._digests[str(path)] = _digest(path)

    def has(self, path: Path) -> bool:
        """Whether ``path`` is as this run left it; somebody may have put another file there meanwhile."""
        return str(path) in self._digests and path.exists() and _digest(path) == self._digests[str(path)]

    def facts(self) -> dict[str, str]:
        """Path → sha256, for the state of the run."""
        return dict(self._digests)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
