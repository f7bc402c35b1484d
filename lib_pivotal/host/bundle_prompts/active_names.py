"""The names that prompts know now; all hooks ask it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lib_pivotal.core.prompt_names.options import NameOptions
from lib_pivotal.core.prompt_names.table import TokenTable
from lib_pivotal.host.bundle_prompts.encoders import Encoders
from lib_pivotal.host.bundle_prompts.files import BundleFiles
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
        self.encoders = encoders
        self.is_paused = False
        """Whether activations are ignored, see :meth:`pause`."""
        self._find = find
        self._settings = settings
        self._tables = NameTables(self.files, find)
        self._built = BuiltTable()
        self._seen: tuple[Any, ...] = ()
        self._options: dict[str, NameOptions] = {}
        self._known = KnownNames()
        self._kept: tuple[ActiveLora, ...] = ()
        self._thread = threading.local()

    def pause(self) -> None:
        """Ignore activations until :meth:`resume`; the names of now stay active until :meth:`begin_pass`."""
        self._kept = tuple(self._loras())
        self.is_paused = True

    def resume(self) -> None:
        """Follow activations again."""
        self.is_paused = False

    def begin_pass(self) -> None:
        """A new pass begins: only its own LoRAs count."""
        self._kept = ()

    def set_options(self, options: Mapping[str, NameOptions]) -> None:
        """Note what the prompt's tags say about names, by LoRA label."""
        self._options = dict(options)

    def sync(self) -> TokenTable:
        """Bring the table up to date; needed before prompts are encoded, and cheap if nothing changed."""
        try:
            self._built = self._up_to_date()
        except Exception:
            # No name of an earlier prompt may stay active.
            self._built = BuiltTable()
            raise
        return self._built.table

    def _up_to_date(self) -> BuiltTable:
        loras, encoders = self._loras(), self.encoders()
        self._seen = _active_fingerprint(loras, encoders)
        tagged = [TaggedLora(lora.label, lora.path, self._options.get(lora.label, NameOptions())) for lora in loras]
        built = self._tables.up_to_date(self._built, tagged, encoders, self._settings())
        if built is not self._built:
            self._known.add(built.table.entries, {lora.label: lora.path for lora in loras})
        return built

    def current(self) -> TokenTable:
        """The table for this thread: the one in :meth:`counting`, or the one of the active LoRAs."""
        counting = getattr(self._thread, "table", None)
        if counting is not None:
            return counting
        # Something may have changed the LoRAs or the model without passing any of our hooks.
        if _active_fingerprint(self._loras(), self.encoders()) != self._seen:
            self.sync()
        return self._built.table

    def inactive_names(self, texts: Sequence[str]) -> dict[str, str]:
        """Names in texts that belong to a LoRA of an earlier prompt which is not active now: name → LoRA.

        Args:
            texts: the prompts of the pass that begins.
        """
        if not self._settings().is_on:
            return {}
        return self._known.inactive(
            texts,
            active=[entry.name for entry in self._built.table.entries],
            files={lora.path for lora in self._loras()},
            is_embedding=self._is_embedding,
        )

    def cond_key(self) -> tuple[Any, ...] | None:
        """What encodings depend on besides the webui's own key; None where there is nothing to add."""
        table = self.sync()
        if not self._built.files:
            return None
        installed = tuple(self._built.installed.items())
        return (self._built.files, multipliers(), table.identity(), installed, self._settings())

    def table_of(self, loras: Sequence[TaggedLora]) -> TokenTable:
        """The table as it would be if these LoRAs were active."""
        return self._tables.build(loras, self.encoders(), self._settings())

    @contextlib.contextmanager
    def counting(self, table: TokenTable) -> Iterator[None]:
        """Within the context this thread uses a table of its own."""
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
