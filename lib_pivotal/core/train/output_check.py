"""Checks that a run can write its results by actually trying, without leaving anything behind."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lib_pivotal.core.config.negative import trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.user_path import MAX_WINDOWS_PATH
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import FAMILIES

__all__ = [
    "SMALLEST",
    "VALUES_PER_RANK",
    "ValuesPerRank",
    "check_output",
    "check_space",
    "nearest_existing",
    "trained_values",
]


class ValuesPerRank(NamedTuple):
    """Number of trained values per unit of rank, for each part of the model that has its own rank."""

    unet: int
    convolutions: int
    text: int


VALUES_PER_RANK = {name: ValuesPerRank(*family.lora_values) for name, family in FAMILIES.items()}
"""Family → values of its full-size model."""
SMALLEST = min(VALUES_PER_RANK.values())
"""Values of the family with the fewest."""
_VALUES_PER_VECTOR = 2048
"""Maximum number of values per embedding vector (SDXL)."""
_WIDEST = 1280
"""Inputs or outputs of the widest layers of SD1 and SDXL, which most values belong to."""
_BYTES_OF_STATE = 12
"""Bytes per trained value: the value and AdamW's two moments in fp32."""
_OTHER_BYTES = 2 * 2**20
"""Bytes for the log, losses, settings and the card's files."""
_LATENT_BYTES = 32
"""Bytes of a latent cell: mean and standard deviation, 4 channels each, fp32."""
_MAX_LENGTH_IN_RUN = len("runs/-20260101-000000-2/states/.state-000000.safetensors.00000000-0000000-00000000.tmp")


def check_output(
    bundles: Path,
    run_root: Path,
    config: TrainConfig,
    *,
    per_rank: ValuesPerRank | None = None,
    steps: int = 0,
    image_count: int = 0,
    is_windows: bool = os.name == "nt",
) -> list[Problem]:
    """Check the folders that a run writes to and the name of its bundle.

    Args:
        bundles: folder of the bundle; need not exist if it can be created.
        run_root: parent folder of the runs and the cache; need not exist if it can be created.
        config: the settings.
        per_rank: values per rank of the model; None skips the check of free space.
        steps: number of steps of the run.
        image_count: number of images of the dataset.
        is_windows: whether to apply Windows' limit on path length.
    """
    problems = _check_folders([bundles, run_root])
    if not problems and os.path.lexists(run_root / "runs"):
        problems = _check_folders([run_root / "runs"])
    if not problems:
        problems += _check_target(bundles / f"{config.output_name}.safetensors", config)
        if per_rank is not None:
            problems += check_space(
                bundles,
                run_root,
                config,
                trained_count=trained_values(config, per_rank),
                steps=steps,
                latent_count=image_count * (2 if config.flip else 1) if config.cache_to_disk else 0,
            )
    length = len(str(run_root.absolute())) + len(config.output_name) + _MAX_LENGTH_IN_RUN
    if is_windows and length > MAX_WINDOWS_PATH:
        text = f"Files of this run would have paths of {length} characters; Windows allows {MAX_WINDOWS_PATH}."
        hint = "Use a shorter output name or folder, or turn on long paths in Windows."
        problems.append(Problem("output_name", "warning", text, hint))
    return problems


def check_space(
    bundles: Path, run_root: Path, config: TrainConfig, *, trained_count: int, steps: int, latent_count: int
) -> list[Problem]:
    """Compare free space with what will be written; it is an error if the bundle itself does not fit.

    Args:
        bundles: folder of the bundle.
        run_root: parent folder of the runs and the cache.
        config: the settings.
        trained_count: number of trained values.
        steps: steps of the whole run.
        latent_count: number of images whose latents are still to be stored.
    """
    bundle = trained_count * (4 if config.save_precision == "fp32" else 2)
    state = trained_count * _BYTES_OF_STATE + _OTHER_BYTES
    saves = max((steps - 1) // config.save_every, 0) if config.save_every > 0 else 0
    kept = max(min(config.step_bundles, steps) - 1, 0)
    # A new state is written completely before an old one is removed.
    states = min(saves + 1, config.keep_states + 1)
    cache = latent_count * (config.resolution // 8) ** 2 * _LATENT_BYTES
    needs = [(bundles, bundle, bundle * (saves + 1)), (run_root, 0, state * states + bundle * kept + cache)]
    problems = []
    for folder, free, least, whole in _by_disk(needs):
        if free < least:
            text = f"{folder} has {_size(free)} free, and the bundle needs {_size(least)}."
            problems.append(Problem("output folder", "error", text, "Free some space, or choose another folder."))
        elif free < whole:
            text = f"{folder} has {_size(free)} free, and this run needs about {_size(whole)}."
            hint = 'Free some space, or lower "States to keep" or "Steps to choose from", or raise "Save every".'
            if cache:
                hint = f'{hint} Without "Cache latents to disk", {_size(cache)} less is needed.'
            problems.append(Problem("output folder", "warning", text, hint))
    return problems


def nearest_existing(folder: Path) -> Path:
    """The folder itself or its nearest existing parent; a broken link counts as existing."""
    path = folder.absolute()
    while not os.path.lexists(path) and path.parent != path:
        path = path.parent
    return path


def _check_folders(folders: Sequence[Path]) -> list[Problem]:
    reasons = {folder: _why_not_writable(folder) for folder in folders}
    return [
        Problem("output folder", "error", f"{folder} cannot be written: {reason}.", "Choose another folder.")
        for folder, reason in reasons.items()
        if reason
    ]


def _why_not_writable(folder: Path) -> str:
    """Why a folder or a file in it cannot be created; empty if it can."""
    try:
        top = nearest_existing(folder)
        if not top.exists():
            return f"{top} is a link to {top.readlink()}, which does not exist (is its drive connected?)"
        if not top.is_dir():
            return f"{top} is a file, not a folder"
        with contextlib.suppress(FileNotFoundError):
            # Fails if a folder of this name cannot exist at all.
            folder.lstat()
        # The file has no name where the system supports that; otherwise it is removed right away.
        with tempfile.TemporaryFile(dir=top) as file:
            file.write(b"\0")
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


def _check_target(target: Path, config: TrainConfig) -> list[Problem]:
    found: tuple[str, str] | None = None
    try:
        if not config.output_name:
            return []
        if target.is_dir():
            found = f"{target.name} is a folder.", "Remove it, or choose another name."
        elif target.is_symlink() and not Path(os.path.realpath(target)).parent.is_dir():
            text = f"{target.name} is a link to {target.readlink()}, whose folder does not exist."
            found = text, "Connect its drive, remove the link, or choose another name."
        elif target.exists() and config.if_exists == "refuse":
            hint = 'Choose another name, or set "If the name exists" to number or overwrite.'
            found = f"{target.name} already exists.", hint
    except (OSError, ValueError):
        # Another check reports invalid names.
        return []
    return [Problem("output_name", "error", *found)] if found else []


def trained_values(config: TrainConfig, per_rank: ValuesPerRank) -> int:
    """Estimated number of trained values.

    Args:
        config: the settings.
        per_rank: values per rank of the model.
    """
    ranks = [_lora_rank(rank, config) for rank in (config.rank, config.conv_rank, config.text_encoder_rank)]
    vectors = sum(max(concept.vectors, 1) for concept in trained_embeddings(config.concepts)) * _VALUES_PER_VECTOR
    negative = _lora_rank(config.negative_rank, config) * per_rank.unet
    return vectors + negative + sum(rank * values for rank, values in zip(ranks, per_rank, strict=True))


def _lora_rank(rank: int, config: TrainConfig) -> int:
    """Rank of the LoRA that has about as many values."""
    if rank <= 0 or config.lora_kind in ("lora", "dora"):
        return max(rank, 0)
    if config.lora_kind == "loha":
        return 2 * rank
    # width² / factor² = 2 · width · rank for the widest layers.
    return math.ceil(_WIDEST / (2 * max(config.lokr_factor, 1) ** 2)) if config.lokr_factor else 1


def _by_disk(needs: Sequence[tuple[Path, int, int]]) -> list[tuple[Path, int, int, int]]:
    """Per disk: one of its folders, its free bytes, and the summed needs of all folders on it."""
    found: dict[int, tuple[Path, int, int, int]] = {}
    for folder, least, whole in needs:
        try:
            top = nearest_existing(folder)
            disk, free = top.stat().st_dev, shutil.disk_usage(top).free
        except OSError:
            # Some network drives do not report free space.
            continue
        first, _, least_so_far, so_far = found.get(disk, (folder, free, 0, 0))
        found[disk] = (first, free, least_so_far + least, so_far + whole)
    return list(found.values())


def _size(count: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1024:.0f} KiB"
