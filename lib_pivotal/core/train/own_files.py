"""Tracks the files that a run has written; it may overwrite only these, and only while they are unchanged.

``files.json`` in the run folder records the name and hash of each file before the file gets that name, so that a run
that was killed at any moment recognizes its own files.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.bundle.names import check_file_name

__all__ = ["OwnFiles"]

logger = logging.getLogger("pivotal.own_files")

_RECORD = "files.json"
_MAX_RECORD_BYTES = 16 * 2**20
_MAX_CONTENTS = 8
"""Hashes remembered per name; each attempt that is killed at the wrong moment adds one."""
_BUNDLE = ".safetensors"
_SUFFIXES = (_BUNDLE, ".png")


class OwnFiles:
    """Names and hashes of the bundles and card images of a run.

    Only plain file names are accepted from a record, and they only refer to the folder of the bundles.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
        warn: receives a sentence if the record cannot be written.
    """

    def __init__(self, run: Path, bundles: Path, warn: Callable[[str], None]) -> None:
        self._record = run / _RECORD
        self._bundles = bundles
        self._warn = warn
        self._has_warned = False
        self._digests: dict[str, list[str]] = {}
        self.bundle_name: str | None = None
        """Name of the bundle without step number; None until it is known."""

    def load(self, facts: Mapping[str, Any]) -> None:
        """Load the records of an earlier attempt.

        Args:
            facts: facts of its state, which is where earlier releases stored the records.
        """
        written = facts.get("written", {})
        self._add({_name_of(path): [digest] for path, digest in written.items()})
        self.bundle_name = _stem_of(_name_of(facts["bundle_path"]))
        self.load_record()

    def load_record(self) -> None:
        """Load the record in the run folder; damaged entries are left out."""
        record = _read(self._record)
        files = record.get("files")
        if isinstance(files, dict):
            self._add(files)
        name = record.get("bundle")
        self.bundle_name = (_stem_of(name + _BUNDLE) if isinstance(name, str) else None) or self.bundle_name

    def claim(self, path: Path, contents: Path) -> None:
        """Record that ``path`` is about to get ``contents``; a failure only gives a warning, once.

        Args:
            path: final name, in the folder of the bundles.
            contents: a complete file.
        """
        # Earlier hashes stay on record: until the file is renamed, the old contents are still there.
        known = self._digests.get(path.name, [])
        self._digests[path.name] = [*known, _digest(contents)][-_MAX_CONTENTS:]
        record = {"version": 1, "bundle": self.bundle_name, "files": self._digests}
        try:
            with replacing(self._record, keep=False) as partial:
                partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        except OSError as error:
            logger.warning("%s cannot be written", self._record, exc_info=True)
            if not self._has_warned:
                self._has_warned = True
                text = f"{self._record} cannot be written ({error.strerror or error})."
                self._warn(f"{text} If the run is killed now, resuming it will choose a new name for the bundle.")

    def has(self, path: Path) -> bool:
        """Whether ``path`` is unchanged since this run wrote it; False if that cannot be determined."""
        known = self._digests.get(path.name, [])
        try:
            return bool(known) and path.is_file() and _digest(path) in known
        except OSError as error:
            logger.warning("%s cannot be read: %s", path, error)
            return False

    def names(self) -> list[str]:
        """Names of all recorded files; some may have been removed or changed since."""
        return list(self._digests)

    def facts(self) -> dict[str, str]:
        """Path → sha256, to be stored in the run's state."""
        folder = self._bundles.absolute()
        return {str(folder / name): digests[-1] for name, digests in self._digests.items()}

    def _add(self, files: Mapping[str, Any]) -> None:
        for name, digests in files.items():
            if (
                _stem_of(name) is not None
                and isinstance(digests, list)
                and all(isinstance(digest, str) for digest in digests)
            ):
                known = self._digests.setdefault(name, [])
                known += [digest for digest in digests if digest not in known]


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_RECORD_BYTES:
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return {}
    return record if isinstance(record, dict) else {}


def _name_of(path: str) -> str:
    """File name of a path from any operating system."""
    return PureWindowsPath(path).name


def _stem_of(name: str) -> str | None:
    """The name without its suffix if a run could have written it, else None."""
    for suffix in _SUFFIXES:
        stem = name.removesuffix(suffix)
        if stem != name and not check_file_name(stem):
            return stem
    return None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
