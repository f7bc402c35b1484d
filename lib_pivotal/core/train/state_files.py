"""The state files of a run by name and header; their tensors are read in ``state.py``.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.header import MalformedHeader, parse_header

__all__ = ["STATE_HEADER", "newest_facts", "remove_states", "state_files"]

logger = logging.getLogger("pivotal.state")

STATE_HEADER = "pivotal_state"
"""Key of a state's metadata with the step and the facts, as JSON."""

_NAME = re.compile(r"state-(\d{6,12})(?:-\d+)?\.safetensors")
_MAX_HEADER_BYTES = 64 * 2**20


def state_files(folder: Path) -> list[tuple[int, Path]]:
    """Steps and files of all states, newest first.

    Args:
        folder: the run's ``states`` folder.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208  (only names are needed)
    except OSError:
        return []
    matches = [(name, _NAME.fullmatch(name)) for name in names]
    return sorted(((int(match[1]), folder / name) for name, match in matches if match), reverse=True)


def newest_facts(folder: Path) -> dict[str, Any]:
    """What the newest state with a readable header says, with its ``step``; empty if there is none.

    The tensors are not read, so whether they are intact is known only when the run continues.

    Args:
        folder: the run's ``states`` folder.
    """
    for _, path in state_files(folder):
        try:
            facts = _read_facts(path)
        except (OSError, ValueError, RecursionError) as error:
            logger.warning("the state %s cannot be read: %s", path.name, error)
            continue
        if isinstance(facts, dict) and type(facts.get("step")) is int:
            return facts
    return {}


def _read_facts(path: Path) -> Any:
    # Opening a pipe would never end.
    if not path.is_file():
        return None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            message = "its header is too long"
            raise MalformedHeader(message)
        header = parse_header(file.read(length), path.stat().st_size - 8 - length)
    return json.loads(header.metadata.get(STATE_HEADER, "null"))


def remove_states(folder: Path) -> int:
    """Remove all states of a run, so that it can no longer continue; nothing else in the folder is touched.

    Args:
        folder: the run's ``states`` folder.

    Returns:
        The number of bytes freed.

    Raises:
        OSError: a state cannot be removed; older ones may still be there.
    """
    freed = 0
    for _, path in state_files(folder):
        size = path.lstat().st_size
        path.unlink()
        freed += size
    return freed
