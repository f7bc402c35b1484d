"""Bundles of the demo's characters, and how well a bundle knows each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.baseline import baseline
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.demo.__main__ import INIT_TEXT
from lib_pivotal.demo.assets import Bases, materialize
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.demo.evaluate import HeldOut, Parts, held_out, loss_of, parts_of
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model

__all__ = ["NAMES", "World"]

NAMES = tuple(CHARACTERS)
_BATCH = 4


@dataclass(frozen=True)
class World:
    """Trains and measures in a folder, in which finished bundles stay.

    Args:
        out: the folder.
        steps: of every training.
    """

    out: Path
    steps: int

    @cached_property
    def bases(self) -> Bases:
        """The base models; also writes the images of all characters."""
        for name in NAMES:
            write_dataset(self.out / "data" / name, name)
            write_dataset(self.out / "held-out" / name, name, "held_out")
        return materialize(self.out / "model")

    @cached_property
    def model(self) -> DiffusersModel:
        """Base model A."""
        return load_model(self.bases.a)

    @cached_property
    def _images(self) -> dict[str, HeldOut]:
        return {name: held_out(self.out / "held-out" / name, self.model) for name in NAMES}

    def bundle(self, title: str, names: Sequence[str], seed: int, **changes: Any) -> Path:
        """Train these characters; a bundle that is there already is not trained again.

        Args:
            title: distinguishes trainings of the same characters.
            names: keys of the demo's characters.
            seed: of the run.
            changes: settings that differ from the demo's.
        """
        folder = self.out / f"{title}-{self.steps}-{seed}"
        path = folder / f"{title}.safetensors"
        if path.exists():
            return path
        plain = baseline(self.bases.a, self.out / "data", self.steps)
        concepts = tuple(Concept(name, INIT_TEXT, vectors=8, stop_at=0.5) for name in names)
        subsets = plain.subsets
        if len(names) < len(NAMES):
            plain = replace(plain, data_folder=str(self._folder_of(names)))
        config = replace(plain, concepts=concepts, subsets=subsets, batch_size=_BATCH, seed=seed, output_name=title)
        outcome = train_run(replace(config, **changes), (), folder)
        if outcome.outcome != "done" or outcome.bundle_path is None:
            raise SystemExit("The training was stopped.")
        return outcome.bundle_path

    def _folder_of(self, names: Sequence[str]) -> Path:
        """A folder with the images of some characters only."""
        folder = self.out / f"data-{'-'.join(names)}"
        for name in names:
            write_dataset(folder / name, name)
        return folder

    def losses(self, bundle: Path | None, *, loras: bool = True) -> dict[str, float]:
        """Loss of each character on held-out images; without a bundle, by the initialization text.

        Args:
            bundle: the bundle.
            loras: whether its LoRA is used, or only its embeddings.
        """
        parts = Parts({}, [])
        if bundle is not None:
            parts = parts_of(read_bundle(bundle), self.model, embeddings=True, loras=["unet", "clip_l"] * loras)
        return {name: self.loss(name, parts, plain=bundle is None) for name in NAMES}

    def loss(self, name: str, parts: Parts, *, plain: bool = False) -> float:
        """Loss of one character on held-out images; ``plain`` replaces its name by the initialization text."""
        data = self._images[name]
        captions = [text.replace(name, INIT_TEXT) if plain else text for text in data.captions]
        return float(loss_of(self.model, data, captions, parts).mean())


def gain(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    """How far the loss of a character has fallen."""
    return before[name] - after[name]
