"""Decides what a comparison shows: which parts of a bundle, which prompts, which checkpoints, and how large."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib_pivotal.app.ports import ComparisonHost
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import BundleError, ConfigError, Problem
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.core.prompt_names.lora_tags import LoraTag, parts_of, without_tags

__all__ = ["Choices", "Plan", "make_plan", "read_choices"]

_CHOSEN_PROMPTS = 8
"""Prompts that are chosen by themselves; the user may enter more."""
_MAX_PROMPTS = 64
_NUMBERS = {"seed": (0, 2**32 - 1), "steps": (1, 150), "cfg_scale": (1, 30), "width": (64, 2048), "height": (64, 2048)}
_TEXTS = ("bundle", "checkpoint", "negative_prompt")
_DEFAULT_SIDE = 512
_OWN = "pivotal_bundle"


@dataclass(frozen=True)
class Choices:
    """What the user chose; empty and None stand for the settings of the bundle's run.

    Attributes:
        bundle: as the bundle tools list it; empty for the bundle of the latest run.
        prompts: without the bundle's tag.
        checkpoint: title of a second checkpoint.
        negative_prompt: of all images.
        seed: of all images.
        steps: of all images.
        cfg_scale: of all images.
        width: in px.
        height: in px.
    """

    bundle: str = ""
    prompts: tuple[str, ...] = ()
    checkpoint: str = ""
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Plan:
    """A comparison that can be made.

    Attributes:
        path: the bundle.
        label: its name in prompts.
        parts: the columns, see ``core.prompt_names.lora_tags.PARTS``.
        prompts: the rows of each checkpoint, without the bundle's tag.
        checkpoints: titles, the selected one first; empty if it is not known.
        image: settings of all images; its prompt is empty.
        left_out: number of names for which there is no row.
    """

    path: Path
    label: str
    parts: tuple[str, ...]
    prompts: tuple[str, ...]
    checkpoints: tuple[str, ...]
    image: SampleRequest
    left_out: int = 0

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """Checkpoint, part and prompt of each image, in the order to make them: what takes long changes least."""
        return [
            (checkpoint, part, prompt)
            for checkpoint in self.checkpoints
            for part in self.parts
            for prompt in self.prompts
        ]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Checkpoint and prompt of each row."""
        return [(checkpoint, prompt) for checkpoint in self.checkpoints for prompt in self.prompts]

    def request(self, part: str, prompt: str) -> SampleRequest:
        """The image of a cell."""
        tag = LoraTag("lora", self.label, ("1",)).part(part)
        return replace(self.image, prompt=f"{tag} {prompt}".strip())


def read_choices(values: Any) -> Choices:
    """Choices from plain values, as the API receives them.

    Raises:
        ConfigError: with a problem for every value that cannot be used.
    """
    if not isinstance(values, Mapping):
        raise ConfigError([Problem("comparison", "error", "It must be an object.", 'Send {"bundle": "NAME"}.')])
    problems = []
    known = ("prompts", *_TEXTS, *_NUMBERS)
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            problems.append(Problem(str(name), "error", "It is unknown.", f"Use {', '.join(known)}."))
        elif name == "prompts":
            chosen[name], found = _prompts(value)
            problems += found
        elif name in _TEXTS and not isinstance(value, str):
            problems.append(Problem(name, "error", "It must be a text.", "Correct it."))
        else:
            problems += [] if name in _TEXTS else _number_problems(name, value)
            chosen[name] = value
    if problems:
        raise ConfigError(problems)
    return Choices(**chosen)


def _prompts(value: Any) -> tuple[tuple[str, ...], list[Problem]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(text, str) for text in value):
        return (), [Problem("prompts", "error", "They must be a list of texts.", 'Send ["…", "…"].')]
    prompts = tuple(text.strip() for text in value if text.strip())
    if len(prompts) > _MAX_PROMPTS:
        return (), [Problem("prompts", "error", f"There are {len(prompts)}.", f"Use at most {_MAX_PROMPTS}.")]
    return prompts, []


def _number_problems(name: str, value: Any) -> list[Problem]:
    low, high = _NUMBERS[name]
    kinds, kind = ((int, float), "a number") if name == "cfg_scale" else ((int,), "an integer")
    if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
        return [Problem(name, "error", f"It must be {kind} from {low} to {high}.", "Correct it.")]
    if name in ("width", "height") and value % 8:
        return [Problem(name, "error", "It must be a multiple of 8.", "Correct it.")]
    return []


def make_plan(
    choices: Choices, path: Path, described: Mapping[str, Any], host: ComparisonHost, config: TrainConfig | None
) -> Plan:
    """What to compare.

    Args:
        choices: of the user.
        path: the bundle.
        described: its contents, see ``core.bundle.inspection.describe``.
        host: makes the images.
        config: settings of its run; None if it is not of the latest run.

    Raises:
        BundleError: the file has neither a LoRA nor embeddings.
        ConfigError: there is no prompt, or a checkpoint does not exist or is of another family.
        HostError: the file has no name in prompts.
    """
    layers = described["lora"]["parts"]
    parts = parts_of(
        has_unet=bool(layers.get("unet")),
        has_text_encoder=bool(layers.get("text encoder")),
        has_embeddings=bool(described["embeddings"]),
    )
    if not described["embeddings"] and not described["lora"]["layers"]:
        raise BundleError(f"{path.name} has neither a LoRA nor embeddings.", hint="Choose a bundle or a LoRA.")
    config = config or _settings_in(described)
    label = host.label_of(path)
    prompts, left_out = choices.prompts, 0
    if not prompts:
        prompts, left_out = _default_prompts(list(described["embeddings"]), config)
    prompts = tuple(dict.fromkeys(without_tags(prompt, label) for prompt in prompts))
    if not any(prompts):
        hint = "Enter one or more; this file has no names to use."
        raise ConfigError([Problem("prompts", "error", "There is no prompt.", hint)])
    checkpoints = _checkpoints(choices.checkpoint, described["family"], host)
    image = _image(choices, config, described["family"])
    return Plan(path, label, parts, prompts, checkpoints, image, left_out)


def _settings_in(described: Mapping[str, Any]) -> TrainConfig | None:
    """The settings that a bundle was trained with, from its metadata, which may contain anything."""
    own = described["metadata"].get(_OWN)
    settings = own.get("settings") if isinstance(own, Mapping) else None
    try:
        return read_dict(settings)[0] if isinstance(settings, Mapping) else None
    except ConfigError:
        return None


def _default_prompts(names: Sequence[str], config: TrainConfig | None) -> tuple[tuple[str, ...], int]:
    """The sample prompts of the run, then the names that they do not mention; and how many names are left out."""
    lines = config.sample_prompts.splitlines() if config is not None else []
    given = [line.strip() for line in lines if line.strip()][:_CHOSEN_PROMPTS]
    missing = [name for name in names if not any(_mentions(prompt, name) for prompt in given)]
    free = _CHOSEN_PROMPTS - len(given)
    return (*given, *missing[:free]), len(missing[free:])


def _mentions(prompt: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", prompt, re.IGNORECASE) is not None


def _checkpoints(second: str, family: str, host: ComparisonHost) -> tuple[str, ...]:
    titles = [host.selected_checkpoint(), *([second] if second else [])]
    for title in dict.fromkeys(titles):
        if title == second and title not in host.checkpoints():
            text = "The webui has no checkpoint of this name."
            raise ConfigError([Problem("checkpoint", "error", text, "Refresh the list, and choose one in it.")])
        found = host.family(title)
        if family and found and family != found:
            text = f"The bundle is for {family}, and the checkpoint {title or 'that is selected'} is for {found}."
            raise ConfigError([Problem("checkpoint", "error", text, f"Choose one for {family}.")])
    return tuple(dict.fromkeys(titles))


def _image(choices: Choices, config: TrainConfig | None, family: str) -> SampleRequest:
    known = config if config is not None else TrainConfig()
    native = next((item.native_resolution for item in FAMILIES.values() if item.title == family), _DEFAULT_SIDE)
    side = min(max(known.resolution // 64 * 64, 64), 2048) if config is not None else native
    return SampleRequest(
        prompt="",
        negative_prompt=known.sample_negative if choices.negative_prompt is None else choices.negative_prompt,
        width=choices.width or side,
        height=choices.height or side,
        steps=choices.steps or _within("steps", known.sample_steps),
        cfg_scale=choices.cfg_scale or _within("cfg_scale", known.sample_cfg),
        seed=known.sample_seed if choices.seed is None else choices.seed,
        # 0 leaves the user's own setting as it is.
        clip_skip=config.clip_skip if config is not None else 0,
    )


def _within(name: str, value: Any) -> Any:
    low, high = _NUMBERS[name]
    return min(max(value, low), high)
