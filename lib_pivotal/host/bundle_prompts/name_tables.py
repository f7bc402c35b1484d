"""From active LoRAs to the table of their names, built only when something changed that decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lib_pivotal.core.bundle.embeddings import paired_files
from lib_pivotal.core.prompt_names.options import NameOptions
from lib_pivotal.core.prompt_names.table import ActiveBundle, Notice, TokenTable, build_table
from lib_pivotal.host.bundle_prompts.database import installed_name
from lib_pivotal.host.bundle_prompts.encoders import Encoders, Run
from lib_pivotal.host.bundle_prompts.files import BundleFiles, FileState, file_state
from lib_pivotal.host.bundle_prompts.settings import NameSettings

__all__ = ["BuiltTable", "NameTables", "TaggedLora"]


@dataclass(frozen=True)
class TaggedLora:
    """A LoRA that a prompt names.

    Attributes:
        label: its name in the prompt.
        path: of its file.
        options: what the tag says about names.
    """

    label: str
    path: str
    options: NameOptions = field(default_factory=NameOptions)


class _Fingerprint(NamedTuple):
    """Everything that decides a table, besides the webui's own embeddings; equal for equal tables."""

    loras: tuple[TaggedLora, ...]
    files: tuple[FileState | None, ...]
    paired: tuple[FileState | None, ...]
    encoders: Encoders | None
    settings: NameSettings


@dataclass(frozen=True)
class BuiltTable:
    """A table and what it was built from.

    Attributes:
        table: the names.
        files: states of the LoRAs' files, as far as they exist.
        installed: token run → name of the webui's own embedding, for every run that the table decided about.
    """

    table: TokenTable = field(default_factory=TokenTable)
    files: tuple[FileState, ...] = ()
    installed: Mapping[Run, str] = field(default_factory=dict)
    fingerprint: _Fingerprint | None = None


class NameTables:
    """Builds tables.

    Args:
        files: reads embeddings.
        find: the webui's own look-up of a token run: embedding and length, or None twice.
    """

    def __init__(self, files: BundleFiles, find: Callable[[Sequence[int]], tuple[Any, Any]]) -> None:
        self._files = files
        self._find = find

    def up_to_date(
        self, known: BuiltTable, loras: Sequence[TaggedLora], encoders: Encoders | None, settings: NameSettings
    ) -> BuiltTable:
        """``known`` if nothing has changed since it was built, else a new table.

        Args:
            known: the last result.
            loras: in the prompt's order.
            encoders: of the loaded model; None while there is none, then no name is active.
            settings: the user's.
        """
        paired = [path for lora in loras for path in paired_files(Path(lora.path))] if settings.with_paired else []
        fingerprint = _Fingerprint(
            tuple(loras),
            tuple(file_state(lora.path) for lora in loras),
            tuple(file_state(str(path)) for path in paired),
            encoders,
            settings,
        )
        if fingerprint == known.fingerprint and self._still_installed(known.installed):
            return known
        files = tuple(state for state in fingerprint.files if state is not None)
        installed: dict[Run, str] = {}
        table = self.build(loras, encoders, settings, installed)
        return BuiltTable(table, files, installed, fingerprint)

    def build(
        self,
        loras: Sequence[TaggedLora],
        encoders: Encoders | None,
        settings: NameSettings,
        installed: dict[Run, str] | None = None,
    ) -> TokenTable:
        """The table of the names of some LoRAs.

        Args:
            loras: in the prompt's order.
            encoders: of the loaded model.
            settings: the user's.
            installed: takes token run → name of the webui's own embedding, for every run of the table.
        """
        if encoders is None or not settings.is_on:
            return TokenTable()
        bundles, notices = [], []
        for lora in loras:
            read = self._files.read(lora.path, with_paired=settings.with_paired)
            notices += [Notice(f"LoRA {lora.label}: {problem.message}") for problem in read.problems]
            if read.embeddings:
                bundles.append(ActiveBundle(lora.label, lora.path, read.embeddings, lora.options))
        if not bundles:
            return TokenTable((), notices)
        asked: dict[Run, str] = {} if installed is None else installed

        def installed_as(run: Run) -> str:
            if run not in asked:
                asked[run] = installed_name(self._find(run), run)
            return asked[run]

        table = build_table(
            bundles,
            widths=encoders.widths,
            tokenize=encoders.runs,
            installed=installed_as,
            bundle_wins=settings.bundle_wins,
        )
        for entry in table.entries:
            installed_as(entry.ids)
        return TokenTable(table.entries, [*notices, *table.notices]) if notices else table

    def _still_installed(self, installed: Mapping[Run, str]) -> bool:
        """Whether the webui's own embeddings are as they were: files come and go."""
        return all(installed_name(self._find(run), run) == name for run, name in installed.items())
