"""Names that belonged to an active LoRA at some time since the webui was started."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.core.prompt_names.names import mentioned_names
from lib_pivotal.core.prompt_names.table import Entry

__all__ = ["KnownNames"]


class KnownNames:
    """Remembers which LoRA each name came from, to point out a missing ``<lora:…>`` tag."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[str, str]] = {}
        """Name → the LoRA's label and file."""

    def add(self, entries: Iterable[Entry], files: Mapping[str, str]) -> None:
        """Remember names.

        Args:
            entries: names that are active now.
            files: the LoRA's label → its file.
        """
        self._sources.update((entry.name, (entry.label, files[entry.label])) for entry in entries)

    def inactive(
        self,
        texts: Sequence[str],
        *,
        active: Iterable[str],
        files: Collection[str],
        is_embedding: Callable[[str], bool],
    ) -> dict[str, str]:
        """Names in texts that belong to a LoRA which is not active now: name → the LoRA's label.

        Args:
            texts: prompts.
            active: the active names.
            files: of the active LoRAs.
            is_embedding: whether the webui itself has an embedding of a name.
        """
        taken = {token_key(name) for name in active}
        return {
            name: self._sources[name][0]
            for name in mentioned_names(texts, {**self._sources, **dict.fromkeys(taken)})
            if name in self._sources
            and token_key(name) not in taken
            and self._sources[name][1] not in files
            # The webui is asked last, about few names: it may search all of its embeddings each time.
            and not is_embedding(name)
        }
