"""The families of Stable Diffusion models: what differs between them in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["COMMON_TOKENS_BELOW", "FAMILIES", "Family", "family_of_widths"]


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        name: as in ``ports.DiffusionModel.family``.
        title: for people, and as the webui's cards name it.
        native_resolution: side in px that the base model was made for.
        has_ldm_keys: kohya keys of its UNet are LDM paths; else diffusers paths.
        text_prefixes: encoder name → prefix of kohya keys.
        base_version: ``ss_base_model_version``.
        is_v2: ``ss_v2``.
        architecture: ``modelspec.architecture`` without its ending.
        usual_embedding_lr: learning rate of embeddings that does well.
    """

    name: str
    title: str
    native_resolution: int
    has_ldm_keys: bool
    text_prefixes: Mapping[str, str]
    base_version: str
    is_v2: bool
    architecture: str
    usual_embedding_lr: float


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("sd1", "SD1", 512, False, {"clip_l": "lora_te_"}, "sd_v1", False, "stable-diffusion-v1", 5e-3),
            Family("sd2", "SD2", 768, False, {"clip_l": "lora_te_"}, "sd_v2", True, "stable-diffusion-v2", 5e-3),
            Family(
                "sdxl",
                "SDXL",
                1024,
                True,
                {"clip_l": "lora_te1_", "clip_g": "lora_te2_"},
                "sdxl_base_v1-0",
                False,
                "stable-diffusion-xl-v1-base",
                1e-3,
            ),
        )
    }
)
"""Name → family.

Source: https://github.com/Stability-AI/ModelSpec for the architectures.
Host: extensions-builtin/Lora/network.py, ``detect_version``, A1111 1.6.1-1.10.1: ``ss_base_model_version`` beginning
    with ``sdxl_`` is SDXL, ``ss_v2`` is SD2, anything else SD1; cards of other families than the loaded model's are
    hidden.
"""

_BY_WIDTHS = {(768,): "SD1", (1024,): "SD2", (768, 1280): "SDXL", (1280,): "SDXL refiner"}
COMMON_TOKENS_BELOW = 30_000
"""CLIP's vocabulary is in order of frequency: words with a token id below this one are in everyday prompts."""


def family_of_widths(widths: Iterable[int]) -> str:
    """Title of the family whose text encoders have token vectors of these widths, or an empty text.

    Args:
        widths: one per text encoder, in any order.
    """
    return _BY_WIDTHS.get(tuple(sorted(widths)), "")
