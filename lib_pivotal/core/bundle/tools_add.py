"""Tools that add embeddings to a LoRA or bundle file: pack and merge. Nothing is overwritten unless requested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lib_pivotal.core.bundle.embedding_file import SafeLoader, read_embedding_file
from lib_pivotal.core.bundle.embeddings import BundledEmbedding, parse_tensor_file
from lib_pivotal.core.bundle.file import Written, open_bundle, refuse_existing, require_embeddings, write_changed
from lib_pivotal.core.bundle.forge_limit import check_key_count
from lib_pivotal.core.bundle.inspection import family_of, is_not_a_lora
from lib_pivotal.core.bundle.layout import group_keys, pack_embeddings
from lib_pivotal.core.bundle.metadata import changed_metadata
from lib_pivotal.core.bundle.names import Tokenizer, as_warnings, name_problems, token_key
from lib_pivotal.core.bundle.tensor_file import TensorFile
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

__all__ = ["merge", "pack"]


def pack(
    lora: Path,
    embeddings: Mapping[str, Path],
    out: Path,
    *,
    load_other: SafeLoader | None = None,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
) -> Written:
    """Add embedding files to a LoRA or to a bundle that already has other embeddings.

    Args:
        lora: the LoRA or bundle file.
        embeddings: name to type in prompts → embedding file.
        out: the new bundle.
        load_other: reads ``.pt`` and ``.bin`` files; it must not run code in them.
        tokenizer: text → token ids, to check the names.
        overwrite: whether to replace an existing file.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: names or embeddings cannot be used; lists all of them.
    """
    refuse_existing([out], overwrite=overwrite)
    new: dict[str, BundledEmbedding] = {}
    problems: list[Problem] = []
    for name, path in embeddings.items():
        found = read_embedding_file(path, name, load_other)
        new.update(found.embeddings)
        problems += found.problems
    with open_bundle(lora) as file:
        return _add(lora, file, new, out, [*problems, *name_problems(embeddings, tokenizer)])


def _add(
    source: Path, file: TensorFile, new: Mapping[str, BundledEmbedding], out: Path, problems: list[Problem]
) -> Written:
    """Write the contents of a file with additional embeddings."""
    groups = group_keys(file.entries, file.metadata)
    other = is_not_a_lora(file, source)
    problems += [other] if other else []
    there = {token_key(name): name for name in groups.names}
    for name in new:
        if token_key(name) in there:
            text = f"{printable(source.name)} already contains {printable(there[token_key(name)])}."
            problems.append(Problem(printable(name), "error", text, "Rename one of them."))
    problems += _same_names(new)
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    tensors = pack_embeddings({name: item.encoders for name, item in new.items()})
    all_of_them = [*new.values(), *parse_tensor_file(file).embeddings.values()]
    if len({family_of(item.encoders) for item in all_of_them}) > 1:
        text = "The embeddings are for different model families."
        hint = "Only those of the loaded model's family will work."
        problems.append(Problem(printable(out.name), "warning", text, hint))
    metadata = changed_metadata(file.metadata, source.stem, out.stem, added=new)
    write_changed(out, file, {key: key for key in file.entries}, tensors, metadata)
    return Written([out], problems + check_key_count(out.name, len(tensors) + len(groups.keys)))


def _same_names(names: Iterable[str]) -> list[Problem]:
    """Find names that differ only in ways that the tokenizer ignores."""
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(token_key(name), name)
        if other != name:
            text = f"'{printable(other)}' and '{printable(name)}' are the same name to the tokenizer."
            problems.append(Problem(printable(name), "error", text, "Rename one of them."))
    return problems


def merge(first: Path, second: Path, out: Path, *, overwrite: bool = False) -> Written:
    """Write the first file with the embeddings of the second one added.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: a name is in both files, or the second file's embeddings cannot be used; lists all of them.
    """
    refuse_existing([out], overwrite=overwrite)
    with open_bundle(second) as file:
        found = require_embeddings(file, second)
    with open_bundle(first) as file:
        return _add(first, file, found.embeddings, out, as_warnings(found.problems))
