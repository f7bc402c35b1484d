"""What the tools for bundle files share: opening, checking names, writing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.bundle.intake import shown_name
from lib_pivotal.core.bundle.names import check_names
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable, open_tensors, write_tensors
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import BundleError, Problem

__all__ = ["Tokenizer", "Written", "as_warnings", "name_problems", "opened", "refuse_existing", "write"]

Tokenizer = Callable[[str], list[int]]


@dataclass(frozen=True)
class Written:
    """What a tool did.

    Attributes:
        paths: files written.
        problems: what the user should know; nothing in it prevented the writing.
    """

    paths: list[Path]
    problems: list[Problem]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[TensorFile]:
    """A file to work on, closed at the end.

    Raises:
        BundleError: it cannot be read, or nothing can be written within the context.
    """
    try:
        with open_tensors(path) as file:
            yield file
    except Unreadable as error:
        raise BundleError(f"{path.name} is no readable safetensors file ({error}).", hint="Fetch it again.") from error
    except FileNotFoundError as error:
        raise BundleError(f"There is no file {path.name}.", hint="Choose another one.") from error
    except OSError as error:
        reason = error.strerror or error
        raise BundleError(f"A file cannot be read or written ({reason}).", hint="Free space or rights?") from error


def refuse_existing(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Look at the files to be written before any work.

    Raises:
        BundleError: one exists, or has another kind of name.
    """
    for path in paths:
        if path.suffix != ".safetensors":
            raise BundleError(f"{path.name} must end in .safetensors.", hint="Choose another name.")
    existing = [path.name for path in paths if path.exists()]
    if existing and not overwrite:
        raise BundleError(f"{', '.join(existing)} exists already.", hint="Choose another name, or allow overwriting.")


def write(
    out: Path,
    file: TensorFile,
    copied: Mapping[str, str],
    tensors: Mapping[str, torch.Tensor],
    metadata: dict[str, str],
) -> None:
    """Write a file atomically.

    Args:
        out: the file.
        file: an open one to copy from.
        copied: new key → key in ``file``.
        tensors: more of them, by key.
        metadata: texts.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        write_tensors(partial, tensors, metadata, {new: (file, old) for new, old in copied.items()})


def name_problems(names: Iterable[str], tokenizer: Tokenizer | None) -> list[Problem]:
    """Problems with names that a tool is to write."""
    return [
        Problem(shown_name(name) or "name", problem.severity, problem.message, problem.hint)
        for name in names
        for problem in check_names([Concept(name)], taken={}, tokenizer=tokenizer)
    ]


def as_warnings(problems: Sequence[Problem]) -> list[Problem]:
    """Problems that did not prevent anything."""
    return [Problem(problem.field, "warning", problem.message, problem.hint) for problem in problems]
