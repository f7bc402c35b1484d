"""The bundle tools of the tab, for files in the webui's Lora folder, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lib_pivotal.core.bundle.names import EMBEDDING_SUFFIXES, IMAGE_SUFFIXES, check_file_name
from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.core.folder_walk import files_below
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from lib_pivotal.core.bundle.file import Written

__all__ = ["BundleLibrary", "BundleToolsHost", "Destination", "ToolResult", "chosen_file", "find_bundle"]

_BUNDLE = ".safetensors"


class BundleToolsHost(Protocol):
    """What the bundle tools need from a webui; any webui with a Lora folder can provide it."""

    def lora_folder(self) -> Path:
        """The folder of LoRAs and bundles."""
        ...

    def embedding_folder(self) -> Path:
        """The folder of ordinary embedding files."""
        ...

    def split_folder(self) -> Path:
        """The folder for split bundles, one subfolder per bundle; created when needed."""
        ...

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """The loaded model's tokenizer (text → token ids), or None while no model is loaded."""
        ...

    def load_safely(self, path: Path) -> Mapping[str, Any]:
        """Contents of a ``.pt`` or ``.bin`` file, read without executing any code that is in it.

        Raises:
            Exception: the file cannot be read safely.
        """
        ...

    def files_changed(self) -> None:
        """Let the webui find new files."""
        ...


@dataclass(frozen=True)
class Destination:
    """Where a tool writes.

    Attributes:
        name: of the new bundle in the Lora folder, without suffix; if empty, the old name with a number.
        overwrite: replace an existing file with this name.
    """

    name: str = ""
    overwrite: bool = False


@dataclass(frozen=True)
class ToolResult:
    """What a tool did.

    Attributes:
        name: of the new bundle, as :meth:`BundleLibrary.bundles` lists it; empty if the files are in another folder.
        paths: files written.
        problems: what the user should know.
    """

    name: str
    paths: list[Path]
    problems: list[Problem]


class BundleLibrary:
    """Applies the tools to files given by name; only listed files can be reached.

    Every method that takes a name raises :class:`BundleError` if there is no such file, and everything that the tool of
    the same name in ``core.bundle`` raises.

    Args:
        host: the webui.
    """

    def __init__(self, host: BundleToolsHost) -> None:
        self._host = host

    def bundles(self) -> list[str]:
        """LoRA files in the Lora folder and its subfolders, as relative paths without suffix."""
        return sorted(_listed(self._host.lora_folder(), (_BUNDLE,)), key=str.lower)

    def embedding_files(self) -> list[str]:
        """Files in the embeddings folder and its subfolders, as relative paths; preview images are omitted."""
        return sorted(self._embedding_files(), key=str.lower)

    def describe(self, name: str) -> dict[str, Any]:
        """Contents of a file, as ``core.bundle.inspection.describe`` returns them."""
        from lib_pivotal.core.bundle.inspection import describe

        return describe(self._bundle(name))

    def verify(self, name: str) -> list[Problem]:
        """All problems of a file."""
        from lib_pivotal.core.bundle.inspection import verify

        return verify(self._bundle(name), tokenizer=self._host.tokenizer())

    def rename(self, name: str, old: str, new: str, target: Destination) -> ToolResult:
        """Rename one embedding."""
        from lib_pivotal.core.bundle.tools import rename

        path, out = self._bundle(name), self._out(name, target)
        tokenizer = self._host.tokenizer()
        return self._done(rename(path, {old: new.strip()}, out, tokenizer=tokenizer, overwrite=target.overwrite))

    def remove(self, name: str, removed: Sequence[str], target: Destination) -> ToolResult:
        """Remove embeddings."""
        from lib_pivotal.core.bundle.tools import remove

        path, out = self._bundle(name), self._out(name, target)
        return self._done(remove(path, removed, out, overwrite=target.overwrite))

    def merge(self, name: str, other: str, target: Destination) -> ToolResult:
        """Add another bundle's embeddings."""
        from lib_pivotal.core.bundle.tools_add import merge

        path, out = self._bundle(name), self._out(name, target)
        return self._done(merge(path, self._bundle(other), out, overwrite=target.overwrite))

    def pack(self, name: str, files: Sequence[str], new: str, target: Destination) -> ToolResult:
        """Put embedding files into a LoRA or bundle.

        Args:
            name: LoRA or bundle.
            files: see :meth:`embedding_files`.
            new: name of the embedding if there is only one file; empty keeps the file's own name.
            target: where to write.
        """
        from lib_pivotal.core.bundle.embedding_file import embedding_name
        from lib_pivotal.core.bundle.tools_add import pack

        known = self._embedding_files()
        path, out = self._bundle(name), self._out(name, target)
        named: dict[str, Path] = {}
        for file in files:
            chosen = _chosen(known, file)
            own = new.strip() if new.strip() and len(files) == 1 else embedding_name(chosen)
            if own in named:
                text = "Two of the files have this name."
                raise ConfigError([Problem(printable(own), "error", text, "Pack them one at a time.")])
            named[own] = chosen
        tokenizer, load = self._host.tokenizer(), self._host.load_safely
        return self._done(pack(path, named, out, load_other=load, tokenizer=tokenizer, overwrite=target.overwrite))

    def split(self, name: str, target: Destination) -> ToolResult:
        """Write the LoRA and every embedding as separate files, in a folder that the webui does not list.

        They are for programs that cannot read bundles, and must not change prompts in this webui.
        """
        from lib_pivotal.core.bundle.tools import split

        path = self._bundle(name)
        folder = self._host.split_folder() / path.stem
        written = split(path, folder, overwrite=target.overwrite)
        return ToolResult("", written.paths, written.problems)

    def _embedding_files(self) -> dict[str, Path]:
        listed = _listed(self._host.embedding_folder(), (*EMBEDDING_SUFFIXES, *IMAGE_SUFFIXES))
        embeddings = {path.with_suffix("") for path in listed.values() if path.suffix.lower() in EMBEDDING_SUFFIXES}
        return {name: path for name, path in listed.items() if not _is_preview(path, embeddings)}

    def _bundle(self, name: str) -> Path:
        return find_bundle(self._host.lora_folder(), name)

    def _out(self, name: str, target: Destination) -> Path:
        """The file to write: next to the old one, or in the Lora folder under the requested name."""
        from lib_pivotal.core.atomic_file import free_name

        if not target.name.strip():
            return free_name(self._bundle(name))
        return chosen_file(self._host.lora_folder(), target.name)

    def _done(self, written: Written) -> ToolResult:
        self._host.files_changed()
        (path,) = written.paths
        return ToolResult(_name(path, self._host.lora_folder(), (_BUNDLE,)), written.paths, written.problems)


def chosen_file(folder: Path, name: str) -> Path:
    """The file that a name means to write: a listed one, or a new one in the Lora folder.

    Raises:
        ConfigError: it is neither listed nor a file name.
    """
    wanted = name.strip()
    known = _listed(folder, (_BUNDLE,))
    if wanted in known:
        return known[wanted]
    problems = check_file_name(wanted)
    if problems:
        raise ConfigError(problems)
    return folder / f"{wanted}{_BUNDLE}"


def find_bundle(folder: Path, name: str) -> Path:
    """The file in a Lora folder with a name that :meth:`BundleLibrary.bundles` lists.

    Raises:
        BundleError: there is none.
    """
    return _chosen(_listed(folder, (_BUNDLE,)), name)


def _listed(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files in a folder and its subfolders, by the name that the page shows."""
    wanted = (path for path in files_below(folder) if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return {_name(path, folder, suffixes): path for path in wanted}


def _is_preview(path: Path, embeddings: set[Path]) -> bool:
    """Whether an image is only the preview of an embedding.

    Host: modules/ui_extra_networks.py, ``find_preview``, A1111 1.6.1-1.10.1: ``NAME.png`` and ``NAME.preview.png`` are
        the image of the card of ``NAME``.
    """
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    return path.stem.lower().endswith(".preview") or path.with_suffix("") in embeddings


def _name(path: Path, folder: Path, suffixes: Sequence[str]) -> str:
    """The name that the page shows for a file; printable, since a name that is not UTF-8 could not even be sent."""
    relative = path.relative_to(folder)
    return printable((relative.with_suffix("") if len(suffixes) == 1 else relative).as_posix(), None)


def _chosen(known: Mapping[str, Path], name: str) -> Path:
    if not name:
        raise BundleError("No file is selected.", hint="Select one in the list.")
    if name not in known:
        raise BundleError(f"The file {printable(name, 200)} no longer exists.", hint="Refresh the list.")
    return known[name]
