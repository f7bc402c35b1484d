"""More embeddings for a LoRA or bundle file: pack and merge. Files in, files out; nothing is overwritten unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.embeddings import (
    BundledEmbedding,
    parse_file_embedding,
    parse_tensor_file,
    read_embeddings,
    read_file_embedding,
)
from lib_pivotal.core.bundle.inspection import MOST_KEYS_ON_FORGE, family_of
from lib_pivotal.core.bundle.layout import group_keys, pack_embeddings
from lib_pivotal.core.bundle.metadata import changed_metadata
from lib_pivotal.core.bundle.tensor_file import TensorFile
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

__all__ = ["SafeLoader", "merge", "pack"]

SafeLoader = Callable[[Path], Mapping[str, Any]]


def pack(
    lora: Path,
    embeddings: Mapping[str, Path],
    out: Path,
    *,
    load_other: SafeLoader | None = None,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
) -> Written:
    """Put embedding files into a LoRA, or into a bundle that has other ones already.

    Args:
        lora: LoRA or bundle file.
        embeddings: name to type in prompts → embedding file.
        out: new bundle.
        load_other: reads ``.pt`` and ``.bin`` files; it must not run what such a file holds.
        tokenizer: token ids of a text, to check the names with.
        overwrite: replace an existing file.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: names or embeddings that cannot be used; lists them all.
    """
    refuse_existing([out], overwrite=overwrite)
    new: dict[str, BundledEmbedding] = {}
    problems: list[Problem] = []
    for name, path in embeddings.items():
        found = _read_embedding_file(path, name, load_other)
        new.update(found[0])
        problems += found[1]
    with opened(lora) as file:
        return _add(lora, file, new, out, [*problems, *name_problems(embeddings, tokenizer)])


def _read_embedding_file(
    path: Path, name: str, load_other: SafeLoader | None
) -> tuple[dict[str, BundledEmbedding], list[Problem]]:
    if path.suffix.lower() == ".safetensors":
        found = read_file_embedding(path, name)
    elif load_other is None:
        return {}, [Problem(path.name, "error", "Only .safetensors can be read here.", "Convert it first.")]
    else:
        try:
            found = parse_file_embedding(_flat(load_other(path)), name)
        except Exception as error:
            # A foreign reader of foreign files.
            text = f"It cannot be read safely ({type(error).__name__})."
            return {}, [Problem(path.name, "error", text, "Fetch it as .safetensors.")]
    if found.embeddings or found.problems:
        return found.embeddings, found.problems
    return {}, [Problem(path.name, "error", "It holds no embedding.", "Choose another file.")]


def _flat(contents: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a ``.pt`` under safetensors' keys; what else it says of itself is left out.

    Host: modules/textual_inversion/textual_inversion.py, ``Embedding.save``, A1111 1.6.1-1.10.1: tensors are under
        ``string_to_param`` by the token that stood for them.
    """
    flat: dict[str, torch.Tensor] = {}
    for key, value in contents.items():
        if isinstance(value, torch.Tensor):
            flat[str(key)] = value
        elif hasattr(value, "items"):
            flat.update({f"{key}.{end}": item for end, item in value.items() if isinstance(item, torch.Tensor)})
    return flat


def _add(
    source: Path, file: TensorFile, new: Mapping[str, BundledEmbedding], out: Path, problems: list[Problem]
) -> Written:
    """Write a file's contents and more embeddings."""
    groups = group_keys(file.entries, file.metadata)
    there = {_as_tokenized(name) for name in groups.parts}
    problems += [
        Problem(name, "error", f"{source.name} has a {name} already.", "Rename one of them.")
        for name in new
        if _as_tokenized(name) in there
    ]
    problems += _same_names(new)
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    tensors = pack_embeddings({name: item.encoders for name, item in new.items()})
    all_of_them = [*new.values(), *parse_tensor_file(file).embeddings.values()]
    if len({family_of(item.encoders) for item in all_of_them}) > 1:
        text = "The embeddings are for different families of models."
        problems.append(Problem(out.name, "warning", text, "Only those of the loaded model's family will work."))
    metadata = changed_metadata(file.metadata, source.stem, out.stem, added=new)
    write(out, file, {key: key for key in file.entries}, tensors, metadata)
    return Written([out], problems + _forge_problems(out, len(tensors) + len(groups.keys)))


def _same_names(names: Iterable[str]) -> list[Problem]:
    """Names that only differ in what the tokenizer does not see."""
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(_as_tokenized(name), name)
        if other != name:
            text = f"{other!r} and {name!r} are one name to the tokenizer."
            problems.append(Problem(name, "error", text, "Rename one of them."))
    return problems


def _as_tokenized(name: str) -> str:
    return " ".join(name.casefold().split())


def _forge_problems(out: Path, count: int) -> list[Problem]:
    if count <= MOST_KEYS_ON_FORGE:
        return []
    text = f"It has {count} embedding tensors; Forge drops a LoRA with more than {MOST_KEYS_ON_FORGE}, without us."
    return [Problem(out.name, "warning", text, "Split it for such people.")]


def merge(first: Path, second: Path, out: Path, *, overwrite: bool = False) -> Written:
    """The first file with the embeddings of the second one added.

    Raises:
        BundleError: a file cannot be read or written.
        ConfigError: a name is in both, or the second file's embeddings cannot be used; lists them all.
    """
    refuse_existing([out], overwrite=overwrite)
    found = read_embeddings(second)
    if not found.embeddings:
        raise ConfigError(
            found.problems or [Problem(second.name, "error", "It holds no embeddings.", "Choose another.")]
        )
    with opened(first) as file:
        return _add(first, file, found.embeddings, out, [*as_warnings(found.problems)])
