"""Latents of the images, encoded once: mean and standard deviation, keyed by everything they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.bundle.tensor_file import write_tensors
from lib_pivotal.core.data.bucket_image import KeptImages, fit
from lib_pivotal.core.data.image_file import UnusableImage, read_bytes, read_image
from lib_pivotal.core.data.in_order import in_order
from lib_pivotal.core.data.latent_store import LatentItem, LatentStore
from lib_pivotal.core.data.pixels import to_tensor
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import DatasetError, Interrupted
from lib_pivotal.core.ports import VAE

__all__ = ["LatentEntry", "LatentItem", "encode_all"]

logger = logging.getLogger("pivotal.latents")

_MAX_DECODING = 64_000_000
"""Maximum number of pixels of the files that are decoded while the VAE works, at up to four bytes each."""


@dataclass(frozen=True)
class LatentEntry:
    """An image to encode.

    Attributes:
        path: the file.
        bucket: (width, height) in px.
        mirrored: whether to swap left and right.
        sha256: hex hash of the file when it was checked.
        shown: its name in messages.
        background: what its transparent parts show; ``"white"`` if it has none.
        is_converted: whether its colors are converted to sRGB, which earlier releases did not do.
        pixel_count: pixels of the file, which limit how many files are decoded at the same time.
    """

    path: Path
    bucket: tuple[int, int]
    mirrored: bool
    sha256: str
    shown: str
    background: str = "white"
    is_converted: bool = False
    pixel_count: int = 0


def encode_all(
    entries: Sequence[LatentEntry],
    vae: VAE,
    *,
    batch_size: int,
    folder: Path | None,
    progress: Callable[[int, int], None],
    stopped: Callable[[], bool],
    kept: KeptImages | None = None,
    store: LatentStore | None = None,
) -> list[LatentItem]:
    """Encode all entries; identical ones are encoded once, stored ones are loaded.

    Args:
        entries: images to encode.
        vae: the VAE.
        batch_size: number of images of one bucket to encode together.
        folder: folder of stored latents; None keeps them in memory only.
        progress: called with (done, total).
        stopped: polled between batches; returns whether to stop.
        kept: images already decoded by the check.
        store: keeps the items; None keeps them in memory.

    Returns:
        An item for each entry, in order.

    Raises:
        DatasetError: a file cannot be decoded or has changed since the check, or its latents are not finite.
        Interrupted: ``stopped`` returned True.
    """
    store = store or LatentStore(None)
    identity = vae.identity()
    keys = [_key(entry, identity) for entry in entries]
    items: dict[str, LatentItem] = {}
    waiting: dict[tuple[int, int], dict[str, LatentEntry]] = {}
    for key, entry in zip(keys, entries, strict=True):
        stored = _load(folder, key, store) if key not in items else None
        if stored is not None:
            items[key] = stored
        elif key not in items:
            waiting.setdefault(entry.bucket, {})[key] = entry
    total = len(items) + sum(len(group) for group in waiting.values())
    progress(len(items), total)
    groups = [_mirrored_next(group) for group in waiting.values()]
    with contextlib.closing(_decoded_in_order(chain.from_iterable(groups), kept)) as decoded:
        for size in [len(group[at : at + batch_size]) for group in groups for at in range(0, len(group), batch_size)]:
            if stopped():
                raise Interrupted("Stopped while the images were being encoded.")
            for key, item in _encode(list(islice(decoded, size)), vae, store):
                items[key] = item
                _store(folder, key, item)
            progress(len(items), total)
    return [items[key] for key in keys]


def _decoded_in_order(
    pairs: Iterable[tuple[str, LatentEntry]], kept: KeptImages | None
) -> Generator[tuple[str, LatentEntry, torch.Tensor], None, None]:
    """Keys, entries and their pixels: fp32, shape ``(3, height, width)``, -1 … 1.

    They are decoded in threads while the VAE encodes those before. An image directly followed by its mirror image is
    decoded once.

    Raises:
        DatasetError: a file cannot be decoded or has changed since the check.
    """

    def pixels(together: Sequence[tuple[str, LatentEntry]]) -> torch.Tensor:
        entry = together[0][1]
        image = kept.take(entry.sha256, entry.bucket) if kept is not None else None
        return to_tensor(_decoded(entry) if image is None else image)

    images = [list(group) for _, group in groupby(pairs, key=lambda pair: (pair[1].sha256, pair[1].bucket))]
    decoded = in_order(pixels, images, lambda together: together[0][1].pixel_count, _MAX_DECODING)
    with contextlib.closing(decoded):
        for together, plain in zip(images, decoded, strict=True):
            for key, entry in together:
                yield key, entry, plain.flip(2) if entry.mirrored else plain


def _decoded(entry: LatentEntry) -> Image.Image:
    try:
        data = read_bytes(entry.path)
        # Otherwise latents would be stored under the hash of different contents.
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            return fit(read_image(data), entry.bucket, entry.background)
    except UnusableImage as error:
        raise DatasetError(f"The image {entry.shown} {error.reason}.", hint=error.hint) from error
    raise DatasetError(f"The image {entry.shown} has changed since it was checked.", hint="Start the training again.")


def _mirrored_next(group: Mapping[str, LatentEntry]) -> list[tuple[str, LatentEntry]]:
    """Keys and entries in their order, with each mirror image right after its image."""
    first: dict[str, int] = {}
    for entry in group.values():
        first.setdefault(entry.sha256, len(first))
    return sorted(group.items(), key=lambda pair: first[pair[1].sha256])


def _encode(
    decoded: Sequence[tuple[str, LatentEntry, torch.Tensor]], vae: VAE, store: LatentStore
) -> list[tuple[str, LatentItem]]:
    mean, std = vae.encode(torch.stack([pixels for _, _, pixels in decoded]))
    result = []
    for (key, entry, _), one_mean, one_std in zip(decoded, mean, std, strict=True):
        if not (torch.isfinite(one_mean).all() and torch.isfinite(one_std).all()):
            raise DatasetError(
                f"The VAE produces NaN or infinite latents for {entry.shown}.",
                hint="Start the webui with --no-half-vae, or choose another VAE.",
            )
        # Copied, which frees the batch and makes channels-last tensors of some VAEs contiguous.
        result.append((key, store.keep(one_mean, one_std)))
    return result


def _key(entry: LatentEntry, identity: str) -> str:
    # The crop follows from the file and the bucket; the leading number is a version that changes with `fit`.
    version = "2" if entry.is_converted else "1"
    parts = [version, entry.sha256, f"{entry.bucket[0]}x{entry.bucket[1]}", str(int(entry.mirrored)), identity]
    # White is left out, so that latents of earlier versions are found.
    if entry.background != "white":
        parts.append(entry.background)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _load(folder: Path | None, key: str, store: LatentStore) -> LatentItem | None:
    """Load a stored item; None if there is none or it is damaged."""
    if folder is None:
        return None
    try:
        tensors = load_file(folder / f"{key}.safetensors")
        # Copied: a tensor of a file keeps it mapped; mappings are limited, and Windows cannot remove such a file.
        return store.keep(tensors["mean"], tensors["std"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


def _store(folder: Path | None, key: str, item: LatentItem) -> None:
    """Store an item for the next run; if that fails, the next run encodes it again."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not safetensors' own function, which leaves a file of its own behind when it is killed.
        with replacing(folder / f"{key}.safetensors", keep=False) as partial:
            write_tensors(partial, {"mean": item.mean, "std": item.std}, {})
    except (OSError, ValueError) as error:
        logger.warning("Latents cannot be stored in %s: %s", shown_path(folder), error)
