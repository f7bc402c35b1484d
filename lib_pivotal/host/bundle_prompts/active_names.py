"""The names that currently work in prompts; used by all hooks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lib_pivotal.core.prompt_names.options import NameOptions
from lib_pivotal.core.prompt_names.table import TokenTable
from lib_pivotal.host.bundle_prompts.broken_loras import BrokenLoras
from lib_pivotal.host.bundle_prompts.encoders import Encoders
from lib_pivotal.host.bundle_prompts.files import BundleFiles, FileStates
from lib_pivotal.host.bundle_prompts.known_names import KnownNames
from lib_pivotal.host.bundle_prompts.name_tables import BuiltTable, NameTables, TaggedLora
from lib_pivotal.host.bundle_prompts.settings import NameSettings
from lib_pivotal.host.webui.lora_extension import ActiveLora, active_loras, multipliers

__all__ = ["ActiveNames"]


class ActiveNames:
    """Which embedding each name stands for, in step with the webui's list of active LoRAs.

    Nothing is written into the webui's store of embeddings: its look-up asks this table first. So nothing has to be
    taken out again, whatever reloads, clears or rescans the store.

    Args:
        find: the webui's own look-up of a token run, without our hook: embedding and length, or None twice.
        encoders: gives the text encoders of the loaded model, which tokenize without our hook, or None.
        settings: reads the user's settings.
    """

    def __init__(
        self,
        find: Callable[[Sequence[int]], tuple[Any, Any]],
        encoders: Callable[[], Encoders | None],
        settings: Callable[[], NameSettings],
    ) -> None:
        self.files = BundleFiles()
        self.broken = BrokenLoras()
        self.merged = FileStates()
        """LoRA files that Forge or a relative has read; every model in memory may have them in its weights."""
        self.encoders = encoders
        self.is_paused = False
        """Whether activations are ignored, see :meth:`pause`."""
        self._find = find
        self._settings = settings
        self._tables = NameTables(self.files, find)
        self._latest: tuple[tuple[Any, ...], BuiltTable] = ((), BuiltTable())
        """The latest table and the fingerprint it belongs to: one value, since threads share it."""
        self._options: dict[str, NameOptions] = {}
        self._known = KnownNames()
        self._kept: tuple[ActiveLora, ...] = ()
        self._thread = threading.local()

    def pause(self) -> None:
        """Ignore activations until :meth:`resume`; the current names stay active until :meth:`begin_pass`."""
        self._kept = tuple(self._loras())
        self.is_paused = True

    def resume(self) -> None:
        """Follow activations again."""
        self.is_paused = False

    def begin_pass(self) -> None:
        """Begin a new pass, in which only its own LoRAs count."""
        self._kept = ()

    def set_options(self, options: Mapping[str, NameOptions]) -> None:
        """Set what the prompt's tags say about names, by LoRA label."""
        self._options = dict(options)

    def sync(self) -> TokenTable:
        """Bring the table up to date; needed before prompts are encoded, and cheap if nothing changed."""
        return self._synced().table

    def _synced(self) -> BuiltTable:
        fingerprint: tuple[Any, ...] = ()
        built = BuiltTable()
        try:
            loras, encoders = self._loras(), self.encoders()
            fingerprint = _active_fingerprint(loras, encoders)
            built = self._up_to_date(loras, encoders)
        finally:
            # Also after a failure: no name of an earlier prompt may stay active.
            self._latest = (fingerprint, built)
        return built

    def _up_to_date(self, loras: Sequence[ActiveLora], encoders: Encoders | None) -> BuiltTable:
        tagged = [TaggedLora(lora.label, lora.path, self._options.get(lora.label, NameOptions())) for lora in loras]
        _, known = self._latest
        built = self._tables.up_to_date(known, tagged, encoders, self._settings())
        if built is not known:
            self._known.add(built.table.entries, {lora.label: lora.path for lora in loras})
        return built

    def current(self) -> TokenTable:
        """The table for this thread: the one in :meth:`counting`, or the one of the active LoRAs."""
        counting = getattr(self._thread, "table", None)
        if counting is not None:
            return counting
        # Something may have changed the LoRAs or the model without passing any of our hooks.
        fingerprint, built = self._latest
        if _active_fingerprint(self._loras(), self.encoders()) != fingerprint:
            return self.sync()
        return built.table

    def inactive_names(self, texts: Sequence[str]) -> dict[str, str]:
        """Names in texts that belong to an inactive LoRA of an earlier prompt: name → LoRA.

        Args:
            texts: the prompts of the pass that begins.
        """
        if not self._settings().is_on:
            return {}
        _, built = self._latest
        return self._known.inactive(
            texts,
            active=[entry.name for entry in built.table.entries],
            files={lora.path for lora in self._loras()},
            is_embedding=self._is_embedding,
        )

    def cond_key(self) -> tuple[Any, ...] | None:
        """What encodings depend on in addition to the webui's own key; None if there is nothing to add."""
        built = self._synced()
        if not built.files:
            return None
        return (built.files, multipliers(), built.table.identity(), tuple(built.installed.items()), self._settings())

    def table_of(self, loras: Sequence[TaggedLora]) -> TokenTable:
        """The table as it would be if these LoRAs were active."""
        return self._tables.build(loras, self.encoders(), self._settings())

    @contextlib.contextmanager
    def counting(self, table: TokenTable) -> Iterator[None]:
        """While in the context, this thread uses a separate table."""
        self._thread.table = table
        try:
            yield
        finally:
            self._thread.table = None

    def _loras(self) -> list[ActiveLora]:
        return active_loras() or list(self._kept)

    def _is_embedding(self, name: str) -> bool:
        encoders = self.encoders()
        runs = encoders.runs(name) if encoders is not None else ()
        return any(self._find(run)[0] is not None for run in runs)


def _active_fingerprint(loras: Sequence[ActiveLora], encoders: Encoders | None) -> tuple[Any, ...]:
    """Differs when the active LoRAs or the model have changed; computed for every token, so it reads no file."""
    return (encoders, *((lora.label, lora.path, id(lora.net)) for lora in loras))
