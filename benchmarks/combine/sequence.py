"""Three characters one after the other in the same bundle, and what is left of the first ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.combine.trained import NAMES, World

__all__ = ["measure_adding"]

_UNKEPT = 1e-6
"""Weight with which old vectors are kept, but not what the LoRA does for them."""


def measure_adding(world: World, seed: int, weights: list[float], added_steps: int, say: Callable[[str], None]) -> None:
    """Print the losses after each training, and the share of each gain that is left at the end.

    Args:
        world: trains and measures.
        seed: of the trainings.
        weights: of keeping the old names, to compare.
        added_steps: of each training after the first one.
        say: prints a line.
    """
    before = world.losses(None)
    alone = {name: world.losses(world.bundle(name, [name], seed))[name] for name in NAMES}
    later = World(world.out, added_steps)
    say(f"\n{', then '.join(NAMES)}; {world.steps} steps, then {added_steps} each, seed {seed}\n")
    say("| bundle | " + " | ".join(NAMES) + " | gain, relative to that of a bundle of its own |")
    say("|---|" + "---:|" * (len(NAMES) + 1))
    say(_row("initialization text", before, before, alone))
    say(_row("its own", alone, before, alone))
    for title, weight in {"continued": _UNKEPT, **{f"kept, weight {weight:g}": weight for weight in weights}}.items():
        path = world.bundle(NAMES[0], NAMES[:1], seed)
        for number in range(1, len(NAMES)):
            path = _added(later, path, number, seed, weight)
            say(_row(f"{title}: {' + '.join(NAMES[: number + 1])}", world.losses(path), before, alone))
    total = world.steps + added_steps * (len(NAMES) - 1)
    together = World(world.out, total).bundle("together", NAMES, seed)
    say(_row(f"trained together, {total} steps", world.losses(together), before, alone))


def _added(world: World, path: Path, number: int, seed: int, weight: float) -> Path:
    name = NAMES[number]
    title = f"{'-'.join(NAMES[: number + 1])}-{weight:g}"
    return world.bundle(title, [name], seed, start_from=str(path), keep_names=weight)


def _row(title: str, losses: Mapping[str, float], before: Mapping[str, float], alone: Mapping[str, float]) -> str:
    shares = [(before[name] - losses[name]) / (before[name] - alone[name]) for name in NAMES]
    return (
        f"| {title} | "
        + " | ".join(f"{losses[name]:.4f}" for name in NAMES)
        + " | "
        + ", ".join(f"{share:.0%}" for share in shares)
        + " |"
    )
