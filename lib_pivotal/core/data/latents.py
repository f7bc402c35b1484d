"""Latents of the pictures, encoded once: mean and spread, keyed by everything they depend on."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lib_pivotal.core.data.pixels import load_pixels
from lib_pivotal.core.errors import DatasetError, Interrupted
from lib_pivotal.core.ports import VAE

__all__ = ["LatentEntry", "LatentItem", "encode_all"]

logger = logging.getLogger("pivotal.latents")


@dataclass(frozen=True)
class LatentEntry:
    """A picture to encode: file, bucket (width, height) in px, mirrored or not."""

    path: Path
    bucket: tuple[int, int]
    mirrored: bool


@dataclass(frozen=True)
class LatentItem:
    """Posterior of one picture; fp32 on the CPU, each of shape ``(C, h, w)``.

    Mean and spread are kept, not a sample, so that every step draws its own.
    """

    mean: torch.Tensor
    std: torch.Tensor


def encode_all(
    entries: Sequence[LatentEntry],
    codec: VAE,
    *,
    batch_size: int,
    folder: Path | None,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
) -> list[LatentItem]:
    """Latents of all entries; equal ones are encoded once, stored ones not at all.

    Args:
        entries: what to encode.
        codec: the VAE.
        batch_size: pictures of one bucket encoded together.
        folder: where latents are stored for the next run; None keeps them in memory only.
        progress: called with (done, total).
        stopped: asked between batches whether to give up.

    Returns:
        One item an entry, in order.

    Raises:
        DatasetError: a file cannot be decoded, or its latents are not finite.
        Interrupted: ``stopped`` said so.
    """
    identity = codec.identity()
    files: dict[Path, str] = {}
    keys = [_key(entry, identity, files) for entry in entries]
    items: dict[str, LatentItem] = {}
    waiting: dict[tuple[int, int], dict[str, LatentEntry]] = {}
    for key, entry in zip(keys, entries, strict=True):
        stored = _load(folder, key) if key not in items else None
        if stored is not None:
            items[key] = stored
        elif key not in items:
            waiting.setdefault(entry.bucket, {})[key] = entry
    total = len(items) + sum(len(group) for group in waiting.values())
    progress(len(items), total)
    for group in waiting.values():
        pairs = list(group.items())
        for start in range(0, len(pairs), batch_size):
            if stopped():
                raise Interrupted("Stopped while the pictures were being encoded.")
            for key, item in _encode(pairs[start : start + batch_size], codec):
                items[key] = item
                _store(folder, key, item)
            progress(len(items), total)
    return [items[key] for key in keys]


def _encode(pairs: Sequence[tuple[str, LatentEntry]], codec: VAE) -> list[tuple[str, LatentItem]]:
    pixels = [load_pixels(entry.path, entry.bucket, mirrored=entry.mirrored) for _, entry in pairs]
    mean, std = codec.encode(torch.stack(pixels))
    result = []
    for (key, entry), one_mean, one_std in zip(pairs, mean, std, strict=True):
        if not (torch.isfinite(one_mean).all() and torch.isfinite(one_std).all()):
            raise DatasetError(
                f"The VAE gives no finite latents for {entry.path.name}.",
                hint="Start the webui with --no-half-vae, or choose another VAE.",
            )
        result.append((key, LatentItem(one_mean.clone(), one_std.clone())))
    return result


def _key(entry: LatentEntry, identity: str, files: dict[Path, str]) -> str:
    if entry.path not in files:
        try:
            files[entry.path] = hashlib.sha256(entry.path.read_bytes()).hexdigest()
        except OSError as error:
            raise DatasetError(
                f"The picture {entry.path.name} cannot be read ({error.strerror}).", hint="Repair or remove it."
            ) from error
    # The crop follows from the file and the bucket; the leading number changes when load_pixels does.
    parts = ("1", files[entry.path], f"{entry.bucket[0]}x{entry.bucket[1]}", str(int(entry.mirrored)), identity)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _load(folder: Path | None, key: str) -> LatentItem | None:
    """A stored item, or None when there is none or it is damaged."""
    if folder is None:
        return None
    try:
        tensors = load_file(folder / f"{key}.safetensors")
        return LatentItem(tensors["mean"], tensors["std"])
    except (OSError, SafetensorError, KeyError):
        return None


def _store(folder: Path | None, key: str, item: LatentItem) -> None:
    """Keep an item for the next run; where that fails the next run encodes it again."""
    if folder is None:
        return
    path = folder / f"{key}.safetensors"
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"mean": item.mean, "std": item.std}, partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        logger.warning("latents cannot be stored in %s: %s", folder, error)
