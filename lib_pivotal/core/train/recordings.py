"""What has been recorded of a network, and when something is to be recorded."""

from __future__ import annotations

import logging
from typing import Any, Generic, TypeVar

import torch

from lib_pivotal.core.train.cuda_graph import Recorder

__all__ = ["Recordings"]

logger = logging.getLogger("pivotal.train")

Made = TypeVar("Made")

_RECORD_AT = 3
"""How often inputs of a kind are seen until they are recorded; kinds that are rarer are not worth it."""
_MAX_KINDS = 12
"""Maximum number of kinds that are recorded."""


class Recordings(Generic[Made]):
    """Recordings of a network's work by kind of input.

    Args:
        network: recorded work reads its weights from where they were.
        recorder: makes the recordings.

    Attributes:
        is_usable: false once something has gone wrong; then nothing is recorded any more.
    """

    def __init__(self, network: torch.nn.Module, recorder: Recorder) -> None:
        # Not the parameters themselves: a webui that moves a network may replace them, and they would keep their
        # memory.
        self._weights = [
            (module._parameters, name)
            for module in network.modules()
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        self._recorder = recorder
        self._places: list[int] = []
        self._seen: dict[Any, int] = {}
        self._made: dict[Any, Made] = {}
        self.is_usable = self._may_record = True

    def __len__(self) -> int:
        """Number of kinds that are recorded."""
        return len(self._made)

    def find(self, kind: Any) -> Made | None:
        """What is recorded for inputs of a kind; all recordings are dropped if a weight has moved since the last call.

        Args:
            kind: hashable, equal for inputs that the same recording can take.
        """
        places = [own[name].data_ptr() for own, name in self._weights]  # type: ignore[union-attr]
        if places != self._places:
            self._places = places
            self.clear()
        return self._made.get(kind)

    def is_due(self, kind: Any) -> bool:
        """Whether to record inputs of a kind now, each of which is to be asked about once."""
        self._seen[kind] = self._seen.get(kind, 0) + 1
        if self._seen[kind] < _RECORD_AT or len(self._made) >= _MAX_KINDS or not self._may_record:
            return False
        # Asked only once, because that empties torch's cache.
        self._may_record = self._recorder.has_room()
        if not self._may_record:
            logger.info("There is no memory for more CUDA graphs (%d so far).", len(self))
        return self._may_record

    def keep(self, kind: Any, made: Made) -> None:
        """Use a recording from now on."""
        self._made[kind] = made

    def make_room(self) -> None:
        """Drop all recordings if little memory is left for other work, such as previews."""
        if self._made and not self._recorder.has_room():
            self.clear()

    def clear(self) -> None:
        """Drop all recordings and their memory; further inputs are recorded again."""
        self._may_record = self.is_usable
        if self._made:
            self._made.clear()
            self._recorder.clear()

    def give_up(self) -> None:
        """Drop all recordings, and make no more."""
        self.is_usable = False
        self.clear()
