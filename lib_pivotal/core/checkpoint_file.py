"""Determines the contents of a checkpoint file from its header alone, in milliseconds even for seven gigabytes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from safetensors import SafetensorError, safe_open

from lib_pivotal.core.bundle.network_kind import find_network, other_subject
from lib_pivotal.core.bundle.tensor_file import Unreadable, open_tensors
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES, TextEncoderInfo, detect_family
from lib_pivotal.core.ports import ModelPart

__all__ = ["CheckpointFile", "family_of_tensors", "read_checkpoint_file"]

_UNET = "model.diffusion_model."
_FIRST = _UNET + "input_blocks.0.0.weight"
_SDXL_ONLY = _UNET + "middle_block.1.transformer_blocks.0.attn1.to_q.weight"
_TOKENS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
_OPEN_CLIP_TOKENS = ("token_embedding.weight",)
"""Key suffixes of the token embedding in text encoders of transformers and open_clip."""
_VAE = ("first_stage_model.encoder.conv_in.weight", "first_stage_model.decoder.conv_out.weight")
_PARTS: Mapping[ModelPart, tuple[str, ...]] = {
    "unet": (_UNET,),
    "text_encoders": ("cond_stage_model.", "conditioner."),
    "vae": ("first_stage_model.",),
}
"""Key prefixes of each part."""
_OTHERS = (
    ((_UNET + "joint_blocks.",), "a checkpoint of SD3"),
    ((_UNET + "double_blocks.", "double_blocks."), "a checkpoint of Flux"),
    (("first_stage_model.",), "a VAE, not a checkpoint"),
    (("string_to_param", "emb_params", "clip_l", "clip_g"), "an embedding, not a checkpoint"),
)
"""Key prefixes → what a file with such keys is if it has no UNet with the webui's key names."""
_UNKNOWN = "not a checkpoint in the webui's format"
_WHICH = "Choose an ordinary checkpoint of Stable Diffusion 1, 2 or XL."


class _Shaped(Protocol):
    @property
    def shape(self) -> Collection[int]: ...


class CheckpointFile(NamedTuple):
    """Contents of a checkpoint file.

    Attributes:
        family: see ``core.families``.
        missing: parts that are missing from the checkpoint, such as ``VAE``.
        unet_width: channels of the UNet's first layer.
        values: number of weights of each part.
    """

    family: str
    missing: tuple[str, ...]
    unet_width: int
    values: Mapping[ModelPart, int]


def read_checkpoint_file(path: Path) -> CheckpointFile:
    """Determine the contents of a checkpoint file.

    Args:
        path: the ``.safetensors`` file.

    Raises:
        HostError: it cannot be read or is not a trainable checkpoint; the message says what it is.
    """
    try:
        with open_tensors(path) as file:
            entries = file.entries
        # Hosts load the file with this library, which rejects more files.
        with safe_open(path, framework="pt"):
            pass
    except (Unreadable, SafetensorError) as error:
        hint = getattr(error, "hint", "") or "Download it again."
        raise HostError(f"{path.name} cannot be read: {error}.", hint=hint) from error
    # RuntimeError: a process that may not map so large a file.
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise HostError(f"{path.name} cannot be read: {reason}.", hint="Check the path and its permissions.") from error
    family = family_of_tensors(entries, path.name)
    encoders = FAMILIES[family].text_encoders
    missing = [
        f"text encoder {number}" for number, info in enumerate(encoders, 1) if not entries.keys() & _tokens(info)
    ]
    missing = ["text encoder"] if missing and len(encoders) == 1 else missing
    if any(key not in entries for key in _VAE):
        missing.append("VAE")
    values = {
        part: sum(math.prod(entry.shape) for key, entry in entries.items() if key.startswith(prefixes))
        for part, prefixes in _PARTS.items()
    }
    return CheckpointFile(family, tuple(missing), entries[_FIRST].shape[0], values)


def family_of_tensors(tensors: Mapping[str, _Shaped], name: str) -> str:
    """Family of a checkpoint in the webui's layout.

    Args:
        tensors: key → anything that has a shape.
        name: name of the file, for the message.

    Raises:
        HostError: it is not a trainable checkpoint; the message says what it is.
    """
    shape = tuple(tensors[_FIRST].shape) if _FIRST in tensors else ()
    if len(shape) != 4:
        raise HostError(f"{name} is {_subject(tensors)}.", hint=_WHICH)
    has_conditioner = any(key.startswith("conditioner.") for key in tensors)
    has_second_encoder = any(key.startswith("conditioner.embedders.1.") for key in tensors)
    return detect_family(
        name,
        input_channels=shape[1],
        conditioner_encoders=has_conditioner + has_second_encoder,
        is_open_clip=any(key.startswith("cond_stage_model.model.") for key in tensors),
        has_middle_attention=_SDXL_ONLY in tensors,
    )


def _tokens(info: TextEncoderInfo) -> set[str]:
    """Possible keys of a text encoder's token embedding; a complete file has one of them."""
    ends = _OPEN_CLIP_TOKENS if info.is_open_clip else _TOKENS
    return {info.checkpoint_prefix + end for end in ends}


def _subject(tensors: Mapping[str, _Shaped]) -> str:
    network = find_network(tensors)
    if network.modules:
        kind = network.modules[0].kind.name
        return "a LoRA, not a checkpoint" if kind == "LoRA" else f"a LoRA ({kind}), not a checkpoint"
    for beginnings, subject in _OTHERS:
        if any(key.startswith(beginnings) for key in tensors):
            return subject
    subject = other_subject(network.others)
    return f"{subject}, not a checkpoint" if subject not in ("", "a checkpoint") else _UNKNOWN
