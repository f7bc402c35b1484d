"""Finds embedding files that belong to a LoRA file according to their names and folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lib_pivotal.core.bundle.embedding_file import embedding_name, read_embedding_file
from lib_pivotal.core.bundle.embedding_reader import (
    MAX_EMBEDDINGS,
    BundledEmbedding,
    BundledEmbeddings,
    EmbeddingReader,
)

__all__ = ["add_paired", "paired_files"]

_FIXED_NAMES = {
    "lora": ("embeddings.pti", "embeddings.safetensors"),
    "unet": ("embeddings.pti", "embeddings.safetensors"),
    "pytorch_lora_weights": ("embeddings.safetensors",),
}
"""Programs that give every LoRA the same name: its stem → their embedding files in the same folder."""


def paired_files(path: Path) -> list[Path]:
    """Embedding files that belong to a LoRA.

    Source: diffusers' advanced dreambooth scripts write ``NAME_emb.safetensors``; OneTrainer writes
        ``NAME.safetensors_embeddings/``, or ``NAME_embeddings/`` where its destination has no suffix; cog-sdxl writes
        ``embeddings.pti`` next to ``lora.safetensors`` or ``unet.safetensors``, and programs that follow it
        ``embeddings.safetensors``.
    """
    alone = [path.with_name(name) for name in (f"{path.stem}_emb.safetensors", *_FIXED_NAMES.get(path.stem, ()))]
    # Pathlib raises an error for a name that is too long.
    found = [item for item in alone if os.path.isfile(item)][:1]  # noqa: PTH113
    for name in (f"{path.name}_embeddings", f"{path.stem}_embeddings"):
        folder = path.with_name(name)
        listed = sorted(folder.glob("*.safetensors")) if os.path.isdir(folder) else []  # noqa: PTH112
        found += listed[:MAX_EMBEDDINGS]
    return found


def add_paired(path: Path, found: BundledEmbeddings) -> BundledEmbeddings:
    """Add the embeddings of paired files to those of a LoRA file.

    Args:
        path: path of the LoRA.
        found: embeddings of the LoRA file itself, whose names take precedence.
    """
    reader = EmbeddingReader()
    embeddings: dict[str, BundledEmbedding] = {}
    for item in found.embeddings.values():
        reader.add(item, embeddings)
    problems = list(found.problems)
    for paired in paired_files(path):
        has_tokens = paired.parent == path.parent
        read = read_embedding_file(paired, path.stem if has_tokens else embedding_name(paired))
        problems += read.problems
        for whole in read.embeddings.values():
            # A name that a program gives to every LoRA identifies none of them.
            if not (has_tokens and path.stem in _FIXED_NAMES):
                reader.add(whole, embeddings)
            for item in _tokens_of(whole) if has_tokens else ():
                reader.add(item, embeddings)
    return BundledEmbeddings(embeddings, problems + reader.problems, found.keys, found.unused)


def _tokens_of(whole: BundledEmbedding) -> Iterator[BundledEmbedding]:
    """Split an embedding into single vectors, each with its own name.

    Source: diffusers' advanced dreambooth scripts and cog-sdxl, which add the tokens ``<s0>``, ``<s1>``, … in this
        order; their files do not hold the tokens' names.
    """
    for number in range(whole.vector_count):
        rows = {encoder: table[number : number + 1].clone() for encoder, table in whole.encoders.items()}
        yield BundledEmbedding.of(f"<s{number}>", rows)
