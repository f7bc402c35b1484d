"""Tools that modify a bundle file: rename, remove, split. Nothing is overwritten unless requested.

The LoRA and everything else that a tool does not change is copied byte for byte, whatever its dtype.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.embedding_file import name_metadata
from lib_pivotal.core.bundle.embeddings import BundledEmbedding
from lib_pivotal.core.bundle.file import Written, open_bundle, refuse_existing, require_embeddings, write_changed
from lib_pivotal.core.bundle.layout import EMBEDDING_PREFIX, group_keys
from lib_pivotal.core.bundle.metadata import changed_metadata
from lib_pivotal.core.bundle.names import Tokenizer, as_warnings, file_stem_for, name_problems, token_key
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

__all__ = ["remove", "rename", "split"]


def rename(
    path: Path,
    names: Mapping[str, str],
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
) -> Written:
    """Rename embeddings.

    Args:
        path: the bundle.
        names: old name → new name.
        out: the new bundle; may be ``path`` itself with ``overwrite``.
        tokenizer: text → token ids, to check the new names.
        overwrite: whether to replace an existing file.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: an old name does not exist or a new one cannot be used; lists all of them.
    """
    refuse_existing([out], overwrite=overwrite)
    with open_bundle(path) as file:
        groups = group_keys(file.entries, file.metadata)
        problems = _missing(path, groups.names, names) + name_problems(list(names.values()), tokenizer)
        after = [token_key(names.get(name, name)) for name in groups.names]
        for old, new in names.items():
            if after.count(token_key(new)) > 1:
                text = f"Two embeddings would have the name {printable(new)}."
                problems.append(Problem(printable(old), "error", text, "Choose another name."))
        if any(problem.is_error for problem in problems):
            raise ConfigError(problems)
        moved = {key for old in names for key in groups.names[old].values()}
        copied = {key: key for key in file.entries if key not in moved}
        for old, new in names.items():
            for suffix, key in groups.names[old].items():
                copied[f"{EMBEDDING_PREFIX}{new}.{suffix}"] = key
        metadata = changed_metadata(file.metadata, path.stem, out.stem, renamed=names)
        write_changed(out, file, copied, {}, metadata)
    return Written([out], problems)


def _missing(path: Path, there: Mapping[str, Any], names: Iterable[str]) -> list[Problem]:
    known = ", ".join(map(printable, sorted(there)[:20])) or "none"
    text = f"{printable(path.name)} has no embedding of this name."
    return [Problem(printable(name), "error", text, f"It has: {known}.") for name in names if name not in there]


def remove(path: Path, names: Sequence[str], out: Path, *, overwrite: bool = False) -> Written:
    """Remove embeddings, including unusable ones.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: a name does not exist; lists all of them.
    """
    refuse_existing([out], overwrite=overwrite)
    with open_bundle(path) as file:
        groups = group_keys(file.entries, file.metadata)
        problems = _missing(path, groups.names, names)
        if problems:
            raise ConfigError(problems)
        gone = {key for name in names for key in groups.names[name].values()}
        metadata = changed_metadata(file.metadata, path.stem, out.stem, removed=names)
        write_changed(out, file, {key: key for key in file.entries if key not in gone}, {}, metadata)
    return Written([out], [])


def split(path: Path, folder: Path, *, overwrite: bool = False) -> Written:
    """Save the LoRA, if any, as ``NAME_lora.safetensors`` and each embedding as an ordinary file named after it.

    The bundle itself is never replaced. Letters of all scripts are kept. If a file cannot have the name of its
    embedding, the result says so; the name is also stored in the file's metadata, where ``pack`` finds it.

    Args:
        path: the bundle.
        folder: folder for the files; created if it does not exist.
        overwrite: whether to replace existing files.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: there is nothing to split.
    """
    with open_bundle(path) as file:
        found = require_embeddings(file, path)
        lora = folder / f"{path.stem}_lora.safetensors"
        targets = _embedding_targets(folder, [lora, path], found.embeddings.values())
        rest = {key: key for key in file.entries if key not in found.keys}
        written = [lora, *targets] if rest else list(targets)
        refuse_existing(written, overwrite=overwrite)
        if rest:
            metadata = changed_metadata(file.metadata, path.stem, lora.stem, removed=list(found.embeddings))
            write_changed(lora, file, rest, {}, metadata)
        for target, item in targets.items():
            # A file for a single encoder uses the format of kohya's scripts, which every program reads.
            single = next(iter(item.encoders.values())) if set(item.encoders) == {"clip_l"} else None
            tensors = dict(item.encoders) if single is None else {"emb_params": single}
            write_changed(target, file, {}, tensors, name_metadata(item.name))
    moved = [
        Problem(printable(path.name), "warning", f"{printable(item.name)} is now in {target.name}.", "")
        for target, item in targets.items()
        if target.stem != unicodedata.normalize("NFC", item.name)
    ]
    return Written(written, as_warnings(found.problems) + moved)


def _embedding_targets(
    folder: Path, others: Sequence[Path], items: Iterable[BundledEmbedding]
) -> dict[Path, BundledEmbedding]:
    """Choose a file for each embedding; names that differ only in case are the same file on Windows and macOS.

    Args:
        folder: folder for the files.
        others: files that must not be replaced.
        items: the embeddings.
    """
    taken = {path.name.casefold() for path in others if path.parent.resolve() == folder.resolve()}
    targets = {}
    for item in items:
        stem, number = file_stem_for(item.name), 1
        target = folder / f"{stem}.safetensors"
        while target.name.casefold() in taken:
            number += 1
            target = folder / f"{stem}-{number}.safetensors"
        taken.add(target.name.casefold())
        targets[target] = item
    return targets
