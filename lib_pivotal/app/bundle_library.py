"""The bundle tools on the files of the webui's Lora folder, by name: what the tab offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.core.folder_walk import files_below
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from lib_pivotal.core.bundle.file import Written

__all__ = ["BundleLibrary", "BundleToolsHost", "Destination", "ToolResult"]

_BUNDLE = ".safetensors"
_EMBEDDINGS = (".safetensors", ".pti", ".pt", ".bin")
_IMAGES = (".png", ".webp", ".avif", ".jxl")


class BundleToolsHost(Protocol):
    """A webui, seen by the bundle tools; any that has a Lora folder will do."""

    def lora_folder(self) -> Path:
        """Where LoRAs and bundles are."""
        ...

    def embedding_folder(self) -> Path:
        """Where ordinary embedding files are."""
        ...

    def split_folder(self) -> Path:
        """Where split bundles go, a folder each; made when needed."""
        ...

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """Ids of a text under the loaded model's tokenizer, or None while no model is loaded."""
        ...

    def load_safely(self, path: Path) -> Mapping[str, Any]:
        """Contents of a ``.pt`` or ``.bin`` file, by a reader that runs nothing of what is in it.

        Raises:
            Exception: it cannot be read so.
        """
        ...

    def files_changed(self) -> None:
        """Let the webui find new files."""
        ...


@dataclass(frozen=True)
class Destination:
    """Where a tool writes.

    Attributes:
        name: of the new bundle in the Lora folder, without suffix; empty takes a free one like the old.
        overwrite: replace a file of this name.
    """

    name: str = ""
    overwrite: bool = False


@dataclass(frozen=True)
class ToolResult:
    """What a tool did.

    Attributes:
        name: of the new bundle, as :meth:`BundleLibrary.bundles` lists it; empty when the files lie elsewhere.
        paths: files written.
        problems: what the user should know.
    """

    name: str
    paths: list[Path]
    problems: list[Problem]


class BundleLibrary:
    """The tools by the names of files, which must be among those listed: no other file can be reached.

    Every method that takes a name raises :class:`BundleError` for one that is not there, and what the tool of its name
    in ``core.bundle`` raises.

    Args:
        host: the webui.
    """

    def __init__(self, host: BundleToolsHost) -> None:
        self._host = host

    def bundles(self) -> list[str]:
        """LoRA files below the Lora folder: path in it without suffix."""
        return sorted(_listed(self._host.lora_folder(), (_BUNDLE,)), key=str.lower)

    def embedding_files(self) -> list[str]:
        """Files below the folder of embeddings: path in it. Images that are previews of another file are left out."""
        return sorted(self._embedding_files(), key=str.lower)

    def describe(self, name: str) -> dict[str, Any]:
        """Contents of a file, as ``core.bundle.inspection.describe`` gives them."""
        from lib_pivotal.core.bundle.inspection import describe

        return describe(self._bundle(name))

    def verify(self, name: str) -> list[Problem]:
        """Everything that is wrong with a file."""
        from lib_pivotal.core.bundle.inspection import verify

        return verify(self._bundle(name), tokenizer=self._host.tokenizer())

    def rename(self, name: str, old: str, new: str, target: Destination) -> ToolResult:
        """Give one embedding another name."""
        from lib_pivotal.core.bundle.tools import rename

        path, out = self._bundle(name), self._out(name, target)
        tokenizer = self._host.tokenizer()
        return self._done(rename(path, {old: new.strip()}, out, tokenizer=tokenizer, overwrite=target.overwrite))

    def remove(self, name: str, gone: Sequence[str], target: Destination) -> ToolResult:
        """Leave embeddings out."""
        from lib_pivotal.core.bundle.tools import remove

        path, out = self._bundle(name), self._out(name, target)
        return self._done(remove(path, gone, out, overwrite=target.overwrite))

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
            new: name of the embedding if there is one file; empty takes the file's own.
            target: where to.
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
                raise ConfigError([Problem(printable(own), "error", text, "Pack one by one.")])
            named[own] = chosen
        tokenizer, load = self._host.tokenizer(), self._host.load_safely
        return self._done(pack(path, named, out, load_other=load, tokenizer=tokenizer, overwrite=target.overwrite))

    def split(self, name: str, target: Destination) -> ToolResult:
        """The LoRA and every embedding as files of their own, in a folder outside the webui's lists.

        There they change no prompt; they are for programs that know no bundles.
        """
        from lib_pivotal.core.bundle.tools import split

        path = self._bundle(name)
        folder = self._host.split_folder() / path.stem
        written = split(path, folder, overwrite=target.overwrite)
        return ToolResult("", written.paths, written.problems)

    def _embedding_files(self) -> dict[str, Path]:
        listed = _listed(self._host.embedding_folder(), (*_EMBEDDINGS, *_IMAGES))
        embeddings = {path.with_suffix("") for path in listed.values() if path.suffix.lower() in _EMBEDDINGS}
        return {name: path for name, path in listed.items() if not _is_preview(path, embeddings)}

    def _bundle(self, name: str) -> Path:
        return _chosen(_listed(self._host.lora_folder(), (_BUNDLE,)), name)

    def _out(self, name: str, target: Destination) -> Path:
        """The file to write: beside the old one, or in the Lora folder under a name of its own."""
        from lib_pivotal.core.atomic_file import free_name
        from lib_pivotal.core.bundle.names import check_file_name

        wanted = target.name.strip()
        if not wanted:
            return free_name(self._bundle(name))
        known = _listed(self._host.lora_folder(), (_BUNDLE,))
        if wanted in known:
            return known[wanted]
        problems = check_file_name(wanted)
        if problems:
            raise ConfigError(problems)
        return self._host.lora_folder() / f"{wanted}{_BUNDLE}"

    def _done(self, written: Written) -> ToolResult:
        self._host.files_changed()
        (path,) = written.paths
        return ToolResult(_name(path, self._host.lora_folder(), (_BUNDLE,)), written.paths, written.problems)


def _listed(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files below a folder by the name that the page shows."""
    wanted = (path for path in files_below(folder) if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return {_name(path, folder, suffixes): path for path in wanted}


def _is_preview(path: Path, embeddings: set[Path]) -> bool:
    """Whether an image only shows what an embedding does.

    Host: modules/ui_extra_networks.py, ``find_preview``, A1111 1.6.1-1.10.1: ``NAME.png`` and ``NAME.preview.png`` are
        the image of the card of ``NAME``.
    """
    if path.suffix.lower() not in _IMAGES:
        return False
    return path.stem.lower().endswith(".preview") or path.with_suffix("") in embeddings


def _name(path: Path, folder: Path, suffixes: Sequence[str]) -> str:
    """How the page calls a file; a file name that is not UTF-8 could not even be sent to it."""
    relative = path.relative_to(folder)
    return printable((relative.with_suffix("") if len(suffixes) == 1 else relative).as_posix(), None)


def _chosen(known: Mapping[str, Path], name: str) -> Path:
    if not name:
        raise BundleError("No file is chosen.", hint="Choose one in the list.")
    if name not in known:
        raise BundleError(f"There is no file {printable(name, 200)} any more.", hint="Refresh the list.")
    return known[name]
