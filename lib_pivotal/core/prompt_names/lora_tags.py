"""Tags of LoRAs in prompts, ``<lora:NAME:…>``, changed so that only a part of a bundle takes effect."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["PARTS", "PART_TITLES", "LoraTag", "change_tags", "find_tags", "parts_of", "without_tags"]

PART_TITLES = {
    "whole": "whole bundle",
    "unet": "UNet LoRA only",
    "text encoder": "text encoder LoRA only",
    "embeddings": "embeddings only",
    "nothing": "nothing",
}
"""A bundle, each of its parts alone, and the prompt without it → the title in images and lists."""
PARTS = tuple(PART_TITLES)

_TAG = re.compile(r"<(lora|lyco):([^>]+)>")
"""Source: https://github.com/AUTOMATIC1111/stable-diffusion-webui, modules/extra_networks.py."""


@dataclass(frozen=True)
class LoraTag:
    """A tag in a prompt.

    Attributes:
        kind: ``lora`` or ``lyco``.
        label: the LoRA's name in the prompt.
        items: the parts after the label, without the colons.
    """

    kind: str
    label: str
    items: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The tag as it is written in a prompt."""
        return f"<{':'.join((f'{self.kind}:{self.label}', *self.items))}>"

    @property
    def multipliers(self) -> tuple[str, str]:
        """Multipliers of the text encoder and of the UNet, as texts, the way the webui reads them."""
        numbers = [item for item in self.items if "=" not in item]
        named = dict(item.split("=", 1) for item in self.items if "=" in item)
        text_encoder = named.get("te", numbers[0] if numbers else "1")
        return text_encoder, named.get("unet", numbers[1] if len(numbers) > 1 else text_encoder)

    def part(self, part: str) -> str:
        """The tag for one of :data:`PARTS`; empty for ``nothing``.

        A part keeps the multiplier that the tag gives it.
        """
        text_encoder, unet = self.multipliers
        if part == "nothing":
            return ""
        if part == "whole":
            return str(self)
        if part == "embeddings":
            return str(self._multiplied("0", "0"))
        alone = self._multiplied("0", unet) if part == "unet" else self._multiplied(text_encoder, "0")
        others = tuple(item for item in alone.items if not item.startswith("ti="))
        # Without it, names would still stand for the embeddings, whatever the multipliers are.
        return str(replace(alone, items=(*others, "ti=off")))

    def weighted(self, weight: float) -> LoraTag:
        """The tag with another multiplier; a part that is off by name, ``te=0`` or ``unet=0``, stays off."""
        named = dict(item.split("=", 1) for item in self.items if "=" in item)
        number = f"{weight:g}"
        text_encoder, unet = ("0" if _is_zero(named.get(name)) else number for name in ("te", "unet"))
        if text_encoder == unet:
            return replace(self, items=(text_encoder, *self._others()))
        return self._multiplied(text_encoder, unet)

    def relabeled(self, label: str) -> LoraTag:
        """The same tag for another LoRA."""
        return replace(self, label=label)

    def _multiplied(self, text_encoder: str, unet: str) -> LoraTag:
        return replace(self, items=(f"te={text_encoder}", f"unet={unet}", *self._others()))

    def _others(self) -> tuple[str, ...]:
        """The parts that are not multipliers."""
        return tuple(item for item in self.items if "=" in item and not item.startswith(("te=", "unet=")))


def parts_of(*, has_unet: bool, has_text_encoder: bool, has_embeddings: bool) -> tuple[str, ...]:
    """Those of :data:`PARTS` that differ for a bundle with these contents.

    Args:
        has_unet: whether the LoRA has layers of the UNet.
        has_text_encoder: whether it has layers of a text encoder.
        has_embeddings: whether there are embeddings.
    """
    contents = {"unet": has_unet, "text encoder": has_text_encoder, "embeddings": has_embeddings}
    alone = [name for name, is_there in contents.items() if is_there]
    # The only part of a bundle is the whole of it.
    return ("whole", *(alone if len(alone) > 1 else ()), "nothing")


def find_tags(prompt: str) -> list[LoraTag]:
    """All tags of LoRAs in a prompt, in order."""
    return [_tag(found) for found in _TAG.finditer(prompt)]


def change_tags(prompt: str, label: str, change: Callable[[LoraTag], object]) -> str:
    """The prompt with the tags of one LoRA changed; texts around them stay as they are.

    Args:
        prompt: to change.
        label: name of the LoRA in the prompt.
        change: tag → new tag, or an empty text.
    """

    def changed(found: re.Match[str]) -> str:
        tag = _tag(found)
        return str(change(tag)) if tag.label == label else found[0]

    return _TAG.sub(changed, prompt)


def without_tags(prompt: str, label: str) -> str:
    """The prompt without the tags of one LoRA."""
    return change_tags(prompt, label, lambda _: "").strip()


def _tag(found: re.Match[str]) -> LoraTag:
    label, *items = found[2].split(":")
    return LoraTag(found[1], label, tuple(items))


def _is_zero(text: str | None) -> bool:
    try:
        return text is not None and float(text) == 0.0
    except ValueError:
        return False
