"""LoRA files that Forge and its relatives could not read."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.host.bundle_prompts.files import FileStates, file_state

__all__ = ["BrokenLoras"]


class BrokenLoras(FileStates):
    """Remembers which files could not be read, until they are replaced."""

    def add(self, path: str) -> None:
        """Remember a file that could not be read just now; Forge may have renamed it."""
        self.note(path, file_state(path))

    def has(self, path: str) -> bool:
        """Whether this file could not be read."""
        return path in self._states

    def new_name(self, path: str) -> str:
        """The name that the webui has given to a file that it could not read; empty if it has left it as it is.

        Host: modules_forge/patch_basic.py, ``build_loaded``, Forge: appends ``.corrupted`` to the name of a file that
            it could not read, and replaces an earlier file of that name.
        """
        renamed = Path(f"{path}.corrupted")
        is_gone = path in self._states and self._states[path] is None
        return renamed.name if is_gone and renamed.exists() else ""
