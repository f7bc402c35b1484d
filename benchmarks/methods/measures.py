"""What a bundle is worth: identity, transfer to another base model, side effects, and obedience to the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.cast import images_of
from lib_pivotal.core.bundle.file import Bundle, read_bundle
from lib_pivotal.core.ports import DiffusionModel
from lib_pivotal.demo.__main__ import INIT_TEXT, NAMES
from lib_pivotal.demo.assets import Bases
from lib_pivotal.demo.base_model.reader import read
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.demo.evaluate import HeldOut, Parts, drift_of, held_out, loss_of, parts_of
from lib_pivotal.demo.world import BACKGROUNDS, caption, draw, random_scene
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model

__all__ = ["LOOKS", "Measures", "mean_loss", "write_held_out", "write_scenes"]

LOOKS = {"zogling": ("square", "blue", "striped"), "mibble": ("heart", "pink", "dotted")}
"""Body, color and pattern of the demo's characters in the world's words."""
_UNRELATED = 32
_SEEDS = 12
_STEPS = 8
"""Sampling steps of an image; with twice as many the shares differ by 8 % at most."""
_BEFORE = "before.json"
_LORAS = ["unet", "clip_l"]
_NOTHING = Parts({}, [])


def write_held_out(folder: Path) -> None:
    """Drawings of the characters in both styles that no run trains on, and drawings of other things."""
    for style, name in product("ab", NAMES):
        write_dataset(folder / style, name, "held_out", style)
    write_scenes(folder / "unrelated", _UNRELATED, seed=2)


def write_scenes(folder: Path, count: int, seed: int) -> None:
    """Drawings of the world without the characters, with captions."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        scene = random_scene(rng)
        Image.fromarray(draw(scene, "a", rng)).save(folder / f"{index:02d}.png")
        (folder / f"{index:02d}.txt").write_text(caption(scene), encoding="utf-8")


@dataclass
class Measures:
    """Measures bundles on base models A and B.

    Args:
        bases: the base models.
        folder: see :func:`write_held_out`.
    """

    bases: Bases
    folder: Path

    @cached_property
    def _a(self) -> DiffusersModel:
        return load_model(self.bases.a)

    @cached_property
    def _b(self) -> DiffusersModel:
        return load_model(self.bases.b)

    def prepare(self) -> None:
        """Encode the drawings, and measure the initialization text on the unchanged models, the base of all gains."""
        for data, model in (("a", self._a), ("b", self._b), ("unrelated", self._a)):
            encoded = held_out(self.folder / data, model)
            torch.save({"latents": encoded.latents, "captions": encoded.captions}, self._encoded(data))
        losses = {
            base: mean_loss(model, self._held_out(base), _NOTHING, INIT_TEXT)
            for base, model in (("a", self._a), ("b", self._b))
        }
        (self.folder / _BEFORE).write_text(json.dumps(losses), encoding="utf-8")

    def of(self, path: Path, *, has_names: bool = True) -> dict[str, float]:
        """All measures of a bundle; gains are the share by which the loss falls below the initialization text's.

        Args:
            path: the bundle.
            has_names: whether it has embeddings; otherwise the names are just rare words.
        """
        bundle, result = read_bundle(path), {}
        losses_before = json.loads((self.folder / _BEFORE).read_text(encoding="utf-8"))
        for base, model in (("a", self._a), ("b", self._b)):
            data = self._held_out(base)
            before = losses_before[base]
            for kind, loras in (("whole", _LORAS), ("embeddings", [])):
                parts = self._parts(bundle, model, loras, has_names=has_names)
                result[f"gain {kind} {base}"] = 1 - mean_loss(model, data, parts) / before
        model = self._a
        whole = self._parts(bundle, model, _LORAS, has_names=has_names)
        unrelated = self._held_out("unrelated")
        result["drift"] = float(drift_of(model, unrelated, unrelated.captions, whole).mean())
        result["backgrounds"] = float(np.mean(_backgrounds(model, whole)))
        for base, model in (("a", self._a), ("b", self._b)):
            for kind, loras in (("whole", _LORAS), ("embeddings", [])):
                parts = self._parts(bundle, model, loras, has_names=has_names)
                result[f"looks {kind} {base}"] = float(np.mean(_looks(model, parts, base)))
        result["bytes"] = path.stat().st_size
        norms = _relative_norms(bundle, model)
        result["lowest norm"], result["highest norm"] = (min(norms), max(norms)) if norms else (0.0, 0.0)
        return result

    def _encoded(self, data: str) -> Path:
        return self.folder / f"{data}.pt"

    def _held_out(self, data: str) -> HeldOut:
        return HeldOut(**torch.load(self._encoded(data), weights_only=True))

    @staticmethod
    def _parts(bundle: Bundle, model: DiffusersModel, loras: list[str], *, has_names: bool) -> Parts:
        there = {"unet" if key.startswith("lora_unet_") else "clip_l" for key in bundle.lora}
        return parts_of(bundle, model, embeddings=has_names, loras=[part for part in loras if part in there])


def mean_loss(model: DiffusionModel, data: HeldOut, parts: Parts, words: str = "") -> float:
    """Mean loss; ``words`` replace the names if given."""
    captions = list(data.captions)
    for name in NAMES if words else ():
        captions = [text.replace(name, words) for text in captions]
    return float(loss_of(model, data, captions, parts).mean())


def _backgrounds(model: DiffusersModel, parts: Parts) -> list[bool]:
    """Which images of a name with a background have the one that was asked for; on base A."""
    prompts, asked, seeds = [], [], list(range(_SEEDS))
    for name in NAMES:
        # Those on which a character was never trained are as many as the others.
        unseen = CHARACTERS[name].held_out
        seen = [color for color in BACKGROUNDS if color not in unseen][: len(unseen)]
        asked += [(*unseen, *seen)[seed % (2 * len(unseen))] for seed in seeds]
        prompts += [f"{name}, large, {color} background" for color in asked[-_SEEDS:]]
    images = images_of(model, parts, prompts, seeds * len(NAMES), steps=_STEPS)
    return [read(image, "a").background == color for image, color in zip(images, asked, strict=True)]


def _looks(model: DiffusersModel, parts: Parts, base: str) -> list[bool]:
    """Which images of a name alone look right; each base model draws in a style of its own."""
    names = [name for name in NAMES for _ in range(_SEEDS)]
    images = images_of(model, parts, names, [*range(_SEEDS)] * len(NAMES), steps=_STEPS)
    readings = [read(image, base) for image in images]
    return [
        (reading.shape, reading.color, reading.pattern) == LOOKS[name]
        for reading, name in zip(readings, names, strict=True)
    ]


def _relative_norms(bundle: Bundle, model: DiffusersModel) -> list[float]:
    """Norm of each vector in medians of the vocabulary's norms."""
    vocabulary = torch.linalg.vector_norm(model.text_encoders[0].token_vectors().float(), dim=1).median()
    vectors = [rows for encoders in bundle.embeddings.values() for rows in encoders.values()]
    return [float(norm / vocabulary) for rows in vectors for norm in torch.linalg.vector_norm(rows.float(), dim=1)]
