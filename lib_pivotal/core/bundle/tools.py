"""Changes to a bundle file: rename, remove, split. Files in, files out; nothing is overwritten unasked.

The LoRA and everything else that a tool has no business with is copied byte for byte, in any number type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.embeddings import BundledEmbedding, parse_tensor_file, read_embeddings
from lib_pivotal.core.bundle.intake import shown_name
from lib_pivotal.core.bundle.layout import EMBEDDING_PREFIX, group_keys, pack_embeddings
from lib_pivotal.core.bundle.metadata import changed_metadata
from lib_pivotal.core.bundle.tools_output import (
    Tokenizer,
    Written,
    as_warnings,
    name_problems,
    opened,
    refuse_existing,
    write,
)
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["file_stem_for", "remove", "rename", "split"]


def rename(
    path: Path,
    names: Mapping[str, str],
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
) -> Written:
    """Give embeddings other names.

    Args:
        path: bundle.
        names: old name → new name.
        out: new bundle; may be ``path`` itself with ``overwrite``.
        tokenizer: token ids of a text, to check the new names with.
        overwrite: replace an existing file.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: an old name is not there, or a new one cannot be used; lists them all.
    """
    refuse_existing([out], overwrite=overwrite)
    with opened(path) as file:
        groups = group_keys(file.entries, file.metadata)
        problems = _missing(path, groups.parts, names) + name_problems(list(names.values()), tokenizer)
        after = [names.get(name, name).casefold() for name in groups.parts]
        for old, new in names.items():
            if after.count(new.casefold()) > 1:
                problems.append(
                    Problem(
                        shown_name(old), "error", f"Then there would be two {shown_name(new)}.", "Choose another name."
                    )
                )
        if any(problem.is_error for problem in problems):
            raise ConfigError(problems)
        usable = parse_tensor_file(file).embeddings
        moved = {key for old in names for key in groups.parts[old].values()}
        copied = {key: key for key in file.entries if key not in moved}
        tensors: dict[str, torch.Tensor] = {}
        for old, new in names.items():
            for end, key in groups.parts[old].items():
                if key.startswith(EMBEDDING_PREFIX):
                    copied[f"{EMBEDDING_PREFIX}{new}.{end}"] = key
                elif old in usable:
                    tensors.update(pack_embeddings({new: usable[old].encoders}))
        metadata = changed_metadata(file.metadata, path.stem, out.stem, renamed=names)
        write(out, file, copied, tensors, metadata)
    return Written([out], problems)


def _missing(path: Path, there: Mapping[str, Any], names: Iterable[str]) -> list[Problem]:
    known = ", ".join(map(shown_name, sorted(there)[:20])) or "none"
    return [
        Problem(shown_name(name), "error", f"{path.name} has no embedding of this name.", f"It has: {known}.")
        for name in names
        if name not in there
    ]


def remove(path: Path, names: Sequence[str], out: Path, *, overwrite: bool = False) -> Written:
    """Leave embeddings out, also ones that cannot be used.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: a name is not there; lists them all.
    """
    refuse_existing([out], overwrite=overwrite)
    with opened(path) as file:
        groups = group_keys(file.entries, file.metadata)
        problems = _missing(path, groups.parts, names)
        if problems:
            raise ConfigError(problems)
        gone = {key for name in names for key in groups.parts[name].values()}
        metadata = changed_metadata(file.metadata, path.stem, out.stem, removed=names)
        write(out, file, {key: key for key in file.entries if key not in gone}, {}, metadata)
    return Written([out], [])


def split(path: Path, folder: Path, *, embeddings_folder: Path | None = None, overwrite: bool = False) -> Written:
    """The LoRA alone as ``NAME_lora.safetensors``, and each embedding as an ordinary file named after it.

    Args:
        path: bundle.
        folder: of the LoRA.
        embeddings_folder: of the embeddings; None takes the same.
        overwrite: replace existing files.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: there is nothing to split; says why.
    """
    found = read_embeddings(path)
    if not found.embeddings:
        raise ConfigError(found.problems or [Problem(path.name, "error", "It holds no embeddings.", "Choose another.")])
    lora = folder / f"{path.stem}_lora.safetensors"
    targets: dict[Path, BundledEmbedding] = {}
    for item in found.embeddings.values():
        stem, number = file_stem_for(item.name), 1
        target = (embeddings_folder or folder) / f"{stem}.safetensors"
        while target in targets or target == lora:
            number += 1
            target = target.with_name(f"{stem}-{number}.safetensors")
        targets[target] = item
    refuse_existing([lora, *targets], overwrite=overwrite)
    with opened(path) as file:
        metadata = changed_metadata(file.metadata, path.stem, lora.stem, removed=list(found.embeddings))
        write(lora, file, {key: key for key in file.entries if key not in found.keys}, {}, metadata)
        for target, item in targets.items():
            # An ordinary file of one encoder has the form of kohya's scripts, which every reader takes.
            single = next(iter(item.encoders.values())) if set(item.encoders) == {"clip_l"} else None
            tensors = dict(item.encoders) if single is None else {"emb_params": single}
            write(target, file, {}, tensors, {})
    return Written([lora, *targets], as_warnings(found.problems))


def file_stem_for(name: str) -> str:
    """A file name without suffix for an embedding of any name; never leads out of a folder."""
    kept = re.sub(r"[^0-9A-Za-z_ .-]+", "_", name).strip("_. ")[:80].strip("_. ")
    is_reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", kept) is not None
    return f"{kept}_" if is_reserved else kept or "embedding"
