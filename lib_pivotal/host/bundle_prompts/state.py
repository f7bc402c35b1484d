"""The table of names that belongs to the LoRAs which act now; everything else asks it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lib_pivotal.core.prompt_names.names import mentioned_names
from lib_pivotal.core.prompt_names.options import NameOptions
from lib_pivotal.core.prompt_names.table import ActiveBundle, Entry, Notice, TokenTable, build_table
from lib_pivotal.host.bundle_prompts.database import HostEmbeddings, installed_name
from lib_pivotal.host.bundle_prompts.encoders import Encoders, live_encoders
from lib_pivotal.host.bundle_prompts.files import BundleFiles, FileState, file_state
from lib_pivotal.host.bundle_prompts.networks import ActiveLora, active_loras, strengths
from lib_pivotal.host.bundle_prompts.settings import LoaderSettings

__all__ = ["LoaderState"]

_EMPTY = TokenTable()
Ask = Callable[[Sequence[int]], tuple[Any, Any]]
"""Asks the webui's own store for a token run."""


class LoaderState:
    """Which names mean what, kept in step with the webui's list of acting LoRAs.

    Nothing is written into the webui's store of embeddings: its look-up asks this table first. So there is nothing
    to take out again, whatever reloads, clears or rescans the store.

    Args:
        ask: asks the webui's own store, below our hook.
        settings: reads the user's settings.
    """

    def __init__(self, ask: Ask, settings: Callable[[], LoaderSettings]) -> None:
        self.files = BundleFiles()
        self.embeddings = HostEmbeddings()
        self._ask = ask
        self._settings = settings
        self._options: dict[str, NameOptions] = {}
        self._met: dict[str, tuple[str, str]] = {}
        self._table = _EMPTY
        self._seen: tuple[Any, ...] = ()
        self._files: tuple[FileState, ...] = ()
        self._thread = threading.local()
        self._held: tuple[ActiveLora, ...] = ()
        self.is_holding = False
        """Whether activations count for nothing."""

    def hold(self) -> None:
        """Let the LoRAs of now go on naming until :meth:`release`, while the webui itself names no others."""
        self._held = tuple(self._loras())
        self.is_holding = True

    def release(self) -> None:
        """A new pass begins: only its own LoRAs name."""
        self._held = ()

    def _loras(self) -> list[ActiveLora]:
        return active_loras() or list(self._held)

    def set_options(self, options: Mapping[str, NameOptions]) -> None:
        """Take over what the prompt's tags say, by LoRA label."""
        self._options = dict(options)

    def sync(self) -> TokenTable:
        """Bring the table up to date; cheap, and needed before prompts are encoded.

        Returns:
            The table that holds now.
        """
        loras, encoders, settings = self._loras(), live_encoders(), self._settings()
        self._seen = _glance(loras, encoders)
        # Should anything below fail, no name may go on acting that belongs to an earlier prompt.
        self._table, self._files = _EMPTY, ()
        states = [(lora, file_state(lora.path)) for lora in loras]
        self._files = tuple(state for _, state in states if state is not None)
        if encoders is not None and settings.is_on:
            self._table = self._build(loras, encoders, settings)
        return self._table

    def _build(self, loras: Sequence[ActiveLora], encoders: Encoders, settings: LoaderSettings) -> TokenTable:
        bundles, notices = [], []
        for lora in loras:
            read = self.files.read(lora.path, with_paired=settings.with_paired)
            notices += [Notice(f"LoRA {lora.label}: {problem.message}") for problem in read.problems]
            if read.embeddings:
                options = self._options.get(lora.label, NameOptions())
                bundles.append(ActiveBundle(lora.label, lora.path, read.embeddings, options))
        if not bundles and not notices:
            return _EMPTY
        table = self._decide(bundles, encoders, settings)
        paths = {bundle.label: bundle.file for bundle in bundles}
        self._met.update((entry.name, (entry.label, paths[entry.label])) for entry in table.entries)
        return TokenTable(table.entries, [*notices, *table.notices])

    def sleeping_names(self, texts: Sequence[str]) -> dict[str, str]:
        """Names in texts that belong to a LoRA of an earlier prompt which does not act now: name → LoRA.

        Args:
            texts: the prompts of the pass that begins.
        """
        if not self._settings().is_on:
            return {}
        acting = {lora.path for lora in self._loras()}
        awake = {entry.name.lower() for entry in self._table.entries}
        return {
            name: self._met[name][0]
            for name in mentioned_names(texts, {**self._met, **dict.fromkeys(awake)})
            if name.lower() not in awake
            and self._met[name][1] not in acting
            # The webui is asked last, and for few names: it may look through all of its own each time.
            and not any(self._ask(run)[0] for run in self._runs(name))
        }

    def _runs(self, name: str) -> Sequence[tuple[int, ...]]:
        encoders = live_encoders()
        with self.plain():
            return encoders.runs(name) if encoders is not None else ()

    def _decide(self, bundles: Sequence[ActiveBundle], encoders: Encoders, settings: LoaderSettings) -> TokenTable:
        with self.plain():
            return build_table(
                bundles,
                widths=encoders.widths,
                tokenize=encoders.runs,
                installed=lambda run: installed_name(self._ask(run), run),
                bundle_wins=settings.bundle_wins,
            )

    def current(self) -> TokenTable:
        """The table for this thread: the one it counts tokens with, or the one of the acting LoRAs."""
        counting = getattr(self._thread, "table", None)
        if counting is not None:
            return counting
        # Somebody may have changed the LoRAs or the model without passing any of our hooks.
        if _glance(self._loras(), live_encoders()) != self._seen:
            self.sync()
        return self._table

    def object_for(self, entry: Entry) -> Any:
        """The webui's kind of object for an entry of the table."""
        encoders = live_encoders()
        assert encoders is not None, "no entry exists without a model"
        return self.embeddings.get(entry.name, entry.embedding, encoders.widths)

    def cond_key(self) -> tuple[Any, ...] | None:
        """What encodings depend on besides the webui's own key; None where there is nothing to add."""
        table = self.sync()
        if not self._files:
            return None
        taken = tuple(installed_name(self._ask(entry.ids), entry.ids) for entry in table.entries)
        return (self._files, strengths(), table.identity(), taken, self._settings())

    def table_of(self, tagged: Sequence[tuple[str, str, NameOptions]]) -> TokenTable:
        """The table that would hold if these LoRAs acted.

        Args:
            tagged: label, path and options of each LoRA.
        """
        encoders, settings = live_encoders(), self._settings()
        if encoders is None or not settings.is_on:
            return _EMPTY
        bundles = [
            ActiveBundle(label, path, self.files.read(path, with_paired=settings.with_paired).embeddings, options)
            for label, path, options in tagged
        ]
        return self._decide(bundles, encoders, settings)

    @contextlib.contextmanager
    def counting(self, table: TokenTable) -> Iterator[None]:
        """Within the context this thread uses a table of its own."""
        self._thread.table = table
        try:
            yield
        finally:
            self._thread.table = None

    @contextlib.contextmanager
    def plain(self) -> Iterator[None]:
        """Within the context this thread's texts reach the tokenizer as they are."""
        self._thread.is_plain = True
        try:
            yield
        finally:
            self._thread.is_plain = False

    def spaced(self, text: str) -> str:
        """A text on its way to the tokenizer, names set apart from punctuation."""
        return text if getattr(self._thread, "is_plain", False) else self.current().spaced(text)


def _glance(loras: Sequence[ActiveLora], encoders: Encoders | None) -> tuple[Any, ...]:
    """Differs when LoRAs or model have changed; must cost next to nothing."""
    return (encoders, *(id(lora.net) for lora in loras))
