"""Which files a run has written and nobody has changed since: only these it may write again unasked.

``files.json`` in the run folder records each name and content before the file gets that name, so that a run that was
killed at any moment knows its own files again.
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
_LONGEST_RECORD = 16 * 2**20
_MOST_CONTENTS = 8
"""Contents of a name that are remembered; each attempt that is killed at the wrong moment adds one."""
_BUNDLE = ".safetensors"
_SUFFIXES = (_BUNDLE, ".png")


class OwnFiles:
    """Names and contents of the bundles and card images of a run.

    Whatever a record says, only plain file names are taken from it, and only for the folder of the bundles.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
        warn: takes a sentence when the record cannot be written.
    """

    def __init__(self, run: Path, bundles: Path, warn: Callable[[str], None]) -> None:
        self._record = run / _RECORD
        self._bundles = bundles
        self._warn = warn
        self._has_warned = False
        self._digests: dict[str, list[str]] = {}
        self.bundle_name: str | None = None
        """Name of the bundle, without numbers of steps; None until it is known."""

    def load(self, facts: Mapping[str, Any]) -> None:
        """Take over what an earlier attempt wrote.

        Args:
            facts: of its state, where earlier releases kept all of this.
        """
        written = facts.get("written", {})
        self._take({_name_of(path): [digest] for path, digest in written.items()})
        self.bundle_name = _stem_of(_name_of(facts["bundle_path"]))
        record = _read(self._record)
        files = record.get("files")
        if isinstance(files, dict):
            self._take(files)
        name = record.get("bundle")
        self.bundle_name = (_stem_of(name + _BUNDLE) if isinstance(name, str) else None) or self.bundle_name

    def claim(self, path: Path, contents: Path) -> None:
        """Record that ``path`` is about to get ``contents``; when that fails, say so once and go on.

        Args:
            path: final name, in the folder of the bundles.
            contents: a complete file.
        """
        # What the name had so far stays on record: until the file is renamed, that is what is there.
        known = self._digests.get(path.name, [])
        self._digests[path.name] = [*known, _digest(contents)][-_MOST_CONTENTS:]
        record = {"version": 1, "bundle": self.bundle_name, "files": self._digests}
        try:
            with replacing(self._record, keep=False) as partial:
                partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        except OSError as error:
            logger.warning("%s cannot be written", self._record, exc_info=True)
            if not self._has_warned:
                self._has_warned = True
                text = f"{self._record} cannot be written ({error.strerror or error})."
                self._warn(f"{text} If the run is killed now, its next attempt chooses a new name for the bundle.")

    def has(self, path: Path) -> bool:
        """Whether ``path`` is as this run left it; somebody may have put another file there meanwhile."""
        known = self._digests.get(path.name, [])
        return bool(known) and path.is_file() and _digest(path) in known

    def facts(self) -> dict[str, str]:
        """Path → sha256, for the state of the run."""
        folder = self._bundles.absolute()
        return {str(folder / name): digests[-1] for name, digests in self._digests.items()}

    def _take(self, files: Mapping[str, Any]) -> None:
        for name, digests in files.items():
            if (
                _stem_of(name) is not None
                and isinstance(digests, list)
                and all(isinstance(one, str) for one in digests)
            ):
                known = self._digests.setdefault(name, [])
                known += [one for one in digests if one not in known]


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST_RECORD:
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return {}
    return record if isinstance(record, dict) else {}


def _name_of(path: str) -> str:
    """File name of a path of any system."""
    return PureWindowsPath(path).name


def _stem_of(name: str) -> str | None:
    """The name without its ending where it is one that a run writes, else None."""
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
