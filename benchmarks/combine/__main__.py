"""Fuses bundles, or adds names to a bundle, on the small model: ``python run.py bench combine fuse`` (or ``add``).

Shows how much of each character's gain (how far the loss on held-out images falls below that of the initialization
text) is left. Finished trainings stay in the output folder, and a stopped program goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.combine.fused import measure_fusing
from benchmarks.combine.sequence import measure_adding
from benchmarks.combine.trained import World


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fuse", "add"))
    parser.add_argument("--out", type=Path, default=Path("demo-out/combine"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=250, help="of each training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--added-steps", type=int, default=0, help="of each later training of add; 0: the same")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0], help="of keeping the old names, for add")
    options = parser.parse_args()
    # Networks this small finish before a second thread has started.
    torch.set_num_threads(1)
    world = World(options.out, options.steps)
    if options.what == "fuse":
        measure_fusing(world, options.seed, _say)
    else:
        measure_adding(world, options.seed, options.weights, options.added_steps or options.steps, _say)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
