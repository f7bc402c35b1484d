"""Two and three characters trained apart, and what fusing and adding their LoRAs keep of each one's gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.combine.trained import NAMES, World
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.fuse.fusing import fuse
from lib_pivotal.demo.evaluate import Parts, parts_of

__all__ = ["measure_fusing"]

_LORAS = ("unet", "clip_l")


def measure_fusing(world: World, seed: int, say: Callable[[str], None]) -> None:
    """Print the losses and how much of each character's gain is kept.

    Args:
        world: trains and measures.
        seed: of the trainings.
        say: prints a line.
    """
    bundles = {name: world.bundle(name, [name], seed) for name in NAMES}
    before = world.losses(None)
    alone = {name: world.losses(path)[name] for name, path in bundles.items()}
    vectors = {name: world.losses(path, loras=False)[name] for name, path in bundles.items()}
    for names in (NAMES[:2], NAMES):
        say(f"\n{', '.join(names)}, {world.steps} steps each, seed {seed}\n")
        say("| LoRA | " + " | ".join(names) + " | kept of the gain | kept of the LoRA's own gain |")
        say("|---|" + "---:|" * (len(names) + 2))
        paths = [bundles[name] for name in names]
        rows = {"none, initialization text": before, "none": vectors, "its own": alone}
        rows["plain sum"] = _losses_of_sum(world, names, paths)
        variants: dict[str, dict[str, Any]] = {
            "fused": {},
            "fused on images": {"data_folder": str(world.out / "data")},
            "fused, rank 8": {"rank": 8},
            "fused, rank 4": {"rank": 4},
        }
        for title, options in variants.items():
            out = world.out / f"{'-'.join(names)}-{world.steps}-{seed}-{title.replace(' ', '-')}.safetensors"
            made = fuse(paths, world.model, out, overwrite=True, **options)
            rows[title] = world.losses(made.path)
            if title == "fused":
                report = [(item.file, item.errors()["all"]) for item in made.report]
        for title, losses in rows.items():
            shown = " | ".join(f"{losses[name]:.4f}" for name in names)
            kept = [_kept(names, start, alone, losses) for start in (before, vectors)]
            say(f"| {title} | {shown} | {' | '.join(kept)} |")
        for file, (fused, plain) in report:
            say(f"relative error on the recorded inputs of {file}: fused {fused:.2f}, plain sum {plain:.2f}")


def _losses_of_sum(world: World, names: Sequence[str], paths: Sequence[Path]) -> dict[str, float]:
    """Losses with all embeddings and LoRAs switched on."""
    every = [parts_of(read_bundle(path), world.model, embeddings=True, loras=_LORAS) for path in paths]
    together = Parts(
        {name: vectors for parts in every for name, vectors in parts.embeddings.items()},
        [lora for parts in every for lora in parts.loras],
    )
    return {name: world.loss(name, together) for name in names}


def _kept(
    names: Sequence[str], before: Mapping[str, float], alone: Mapping[str, float], losses: Mapping[str, float]
) -> str:
    shares = [(before[name] - losses[name]) / (before[name] - alone[name]) for name in names]
    return ", ".join(f"{share:.0%}" for share in shares)
