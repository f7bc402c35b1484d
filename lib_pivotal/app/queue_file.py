"""The file that keeps the queue over a restart."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from lib_pivotal.core.atomic_file import free_name, replacing

__all__ = ["QueueItem", "load_queue", "save_queue"]

logger = logging.getLogger("pivotal.queue")

_VERSION = 1
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class QueueItem:
    """A run of the queue.

    Attributes:
        id: identifies it, also after a restart.
        config: its settings as plain values.
        state: ``waiting``, ``running``, or how it ended: ``done``, ``stopped``, ``discarded``, ``failed``, or
            ``interrupted`` if the webui was closed meanwhile.
        digest: of its images and captions when it was added.
        resume: folder of the run that is to continue; empty for a new run.
        run_folder: where it was or is running.
        message: why it failed.
    """

    id: str
    config: Mapping[str, Any] = field(default_factory=dict)
    state: str = "waiting"
    digest: str = ""
    resume: str = ""
    run_folder: str = ""
    message: str = ""

    @property
    def output_name(self) -> str:
        """Name of the bundle that it writes."""
        return str(self.config.get("output_name", ""))

    def as_dict(self) -> dict[str, Any]:
        """Plain values that are serializable as JSON."""
        return asdict(self)


def load_queue(path: Path) -> tuple[list[QueueItem], str]:
    """The runs of the file, and a message if it was damaged; it is then kept under another name.

    A run that was in progress is over, since the webui was restarted.
    """
    try:
        if not path.exists():
            return [], ""
        return _read(path), ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        logger.warning("the queue cannot be read: %s", error)
    kept = free_name(path.with_name(f"{path.name}.damaged"))
    try:
        path.rename(kept)
    except OSError as error:
        return [], f"The list of waiting runs cannot be read ({error.strerror or error}), so it is empty now."
    return [], f"The list of waiting runs was damaged, so it is empty now; the old file is kept as {kept.name}."


def _read(path: Path) -> list[QueueItem]:
    # Opening a pipe would never end.
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        message = "it is not the file of a queue"
        raise ValueError(message)
    items = [_item(values) for values in json.loads(path.read_text(encoding="utf-8"))["items"]]
    return [replace(item, state="interrupted") if item.state == "running" else item for item in items]


def _item(values: Mapping[str, Any]) -> QueueItem:
    names = {item.name for item in fields(QueueItem)}
    known = {name: value for name, value in values.items() if name in names}
    for name, value in known.items():
        if not isinstance(value, dict if name == "config" else str):
            message = f"{name} has the wrong type"
            raise TypeError(message)
    return QueueItem(**known)


def save_queue(path: Path, items: Sequence[QueueItem]) -> str:
    """Write the runs; returns a message if that fails, otherwise an empty string."""
    values = {"version": _VERSION, "items": [item.as_dict() for item in items]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, keep=False) as partial:
            partial.write_text(json.dumps(values), encoding="utf-8")
    except OSError as error:
        logger.warning("the queue cannot be saved", exc_info=True)
        return f"The queue cannot be saved ({error.strerror or error}), so a restart would lose it."
    return ""
