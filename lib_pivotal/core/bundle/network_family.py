"""Determines a network's model family from the names and widths of its layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lib_pivotal.core.bundle.header import Entry
from lib_pivotal.core.bundle.network_kind import Module, Network
from lib_pivotal.core.families import FAMILIES

__all__ = ["family_of_network"]

_FAMILY_PATTERNS = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        (r"lora_(?:unet|transformer)_(?:double_blocks|single_blocks|single_transformer_blocks)_", "Flux"),
        (r"(?:transformer|diffusion_model|base_model\.model)\.(?:double_blocks|single_(?:transformer_)?blocks)\.",
         "Flux"),
        (r"lora_(?:unet|transformer)_joint_blocks_|transformer\.transformer_blocks\.\d+\.attn\.add_",
         "Stable Diffusion 3"),
        (r"lora_te2_|text_encoder_2\.|lora_unet_(?:input|middle|output)_block", "SDXL"),
    )
)  # fmt: skip
"""Prefix of a module's name → family with such modules; used if no width decides."""
_CONTEXT = re.compile(r"attn2[._](?:processor[._])?to_[kv]$")
_CONTEXT_WIDTHS = {768: "SD1", 1024: "SD2", 1280: "SDXL refiner", 2048: "SDXL"}
"""Input width of a cross-attention's keys and values, i.e. output width of the text encoders → family."""
_TEXT = re.compile(r"(?:lora_te_|text_encoder\.).*self_attn[._][qkv]_proj$")
_TEXT_WIDTHS = {768: "SD1", 1024: "SD2"}


def family_of_network(network: Network, entries: Mapping[str, Entry]) -> str:
    """The model family that a network's layers belong to, or an empty string."""
    for pattern, widths in ((_CONTEXT, _CONTEXT_WIDTHS), (_TEXT, _TEXT_WIDTHS)):
        found = {widths.get(_input_width(item, entries), "") for item in network.modules if pattern.search(item.name)}
        if len(found - {""}) == 1:
            (family,) = found - {""}
            return _family_with_second_encoder(network) or family
    for pattern, family in _FAMILY_PATTERNS:
        if any(pattern.match(item.name) for item in network.modules):
            return family
    return ""


def _family_with_second_encoder(network: Network) -> str:
    """The family, if the second text encoder has layers here; SDXL's first one has the same width as SD1's."""
    names = [item.name for item in network.modules]
    for family in FAMILIES.values():
        for info in family.text_encoders[1:]:
            if any(name.startswith((info.lora_prefix, "text_encoder_2")) for name in names):
                return family.title
    return ""


def _input_width(module: Module, entries: Mapping[str, Entry]) -> int:
    """Input width of the layer, or 0 if the shapes do not determine it."""
    shapes = {suffix: entries[key].shape for suffix, key in module.keys.items()}
    for suffix in (*module.kind.down, "diff"):
        if module.kind.name != "LoKr" and len(shapes.get(suffix, ())) >= 2:
            return shapes[suffix][1]
    first, second = shapes.get("lokr_w1") or shapes.get("lokr_w1_b"), shapes.get("lokr_w2") or shapes.get("lokr_w2_b")
    if first and second and len(first) >= 2 and len(second) >= 2:
        return first[1] * second[1]
    return 0
