"""Shapes of a checkpoint's networks, from its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.host.diffusers.ldm_keys import open_clip_width, parts_with
from lib_pivotal.host.diffusers.standard import CLIP_L, standard_config

__all__ = [
    "clip_params",
    "clip_shape",
    "open_clip_shape",
    "read_config",
    "text_folder",
    "unet_params",
    "unet_shape",
]

_HEAD = 64
"""Width of an attention head in each text encoder of open_clip that Stable Diffusion uses."""


def read_config(path: Path, family: str) -> dict[str, Any]:
    """The configuration of a checkpoint: the ``.yaml`` of the same name next to it, or the standard one of its family.

    Args:
        path: of the checkpoint.
        family: name of its family, see ``core.families``.

    Raises:
        HostError: the ``.yaml`` cannot be read or is not a model configuration of the usual form.
    """
    own = path.with_suffix(".yaml")
    if not own.exists():
        return standard_config(family)
    try:
        config: dict[str, Any] = yaml.safe_load(own.read_text(encoding="utf-8"))
        _complete(config["model"]["params"], has_conditioner=FAMILIES[family].has_conditioner)
    except OSError as error:
        text = f"{own.name} cannot be read: {error.strerror or error}."
        raise HostError(text, hint="Check its permissions, or remove it.") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise HostError(
            f"{own.name} is not a model configuration of the usual form ({error}).",
            hint="Remove it if the checkpoint has the usual shapes.",
        ) from error
    return config


def _complete(params: dict[str, Any], *, has_conditioner: bool) -> None:
    """Give each part of a configuration its ``params``, which may be left out.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: a part is missing or of another form.
    """
    names = ["network_config", "conditioner_config"] if has_conditioner else ["unet_config", "cond_stage_config"]
    parts = [params[name] for name in ("first_stage_config", *names)]
    for part in parts:
        part["params"] = part.get("params") or {}
    if has_conditioner:
        for encoder in params["conditioner_config"]["params"]["emb_models"]:
            encoder["params"] = encoder.get("params") or {}
    else:
        float(params["linear_start"])
        float(params["linear_end"])


def unet_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the UNet."""
    found: dict[str, Any] = params["network_config" if "network_config" in params else "unet_config"]["params"]
    return found


def unet_shape(params: Mapping[str, Any]) -> dict[str, Any]:
    """Diffusers' configuration of a UNet from LDM's.

    Args:
        params: see :func:`unet_params`.
    """
    widths = [params["model_channels"] * factor for factor in params["channel_mult"]]
    has_attention = [2**level in params["attention_resolutions"] for level in range(len(widths))]
    down = ["CrossAttnDownBlock2D" if has else "DownBlock2D" for has in has_attention]
    up = ["CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(has_attention)]
    depth = params.get("transformer_depth", 1)
    heads: Any = params.get("num_heads")
    if heads in (None, -1):
        # What diffusers calls attention_head_dim is the number of heads.
        heads = [width // params["num_head_channels"] for width in widths]
    shape = {
        "sample_size": params.get("image_size", 64),
        "in_channels": params["in_channels"],
        "out_channels": params["out_channels"],
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": widths,
        "layers_per_block": params["num_res_blocks"],
        "cross_attention_dim": params["context_dim"],
        "attention_head_dim": heads,
        "use_linear_projection": bool(params.get("use_linear_in_transformer", False)),
        "transformer_layers_per_block": depth if isinstance(depth, int) else list(depth),
    }
    if params.get("num_classes") == "sequential":
        shape["addition_embed_type"] = "text_time"
        shape["addition_time_embed_dim"] = 256
        shape["projection_class_embeddings_input_dim"] = params["adm_in_channels"]
    return shape


def text_folder(params: Mapping[str, Any], path: Path) -> Path | None:
    """Folder with tokenizer and text encoder configuration, where the configuration names one.

    A relative path counts from the checkpoint's folder.
    """
    version = clip_params(params).get("version")
    if not version:
        return None
    folder = path.parent / Path(version).expanduser()
    return folder if folder.is_dir() else None


def clip_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the first text encoder."""
    found: dict[str, Any]
    if "conditioner_config" in params:
        found = params["conditioner_config"]["params"]["emb_models"][0]["params"]
    else:
        found = params["cond_stage_config"]["params"]
    return found


def clip_shape(params: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Transformers' configuration of CLIP-L: from the folder that the configuration names, or the usual one."""
    folder = text_folder(params, path)
    if folder is None or not (folder / "config.json").exists():
        return CLIP_L
    values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return values.get("text_config", values)


def open_clip_shape(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Transformers' configuration of an open_clip text encoder, read off its tensors.

    Args:
        tensors: open_clip's name → tensor.
    """
    width, layers, projection = open_clip_width(tensors)
    inner = parts_with(tensors, "transformer.resblocks.0.mlp.c_fc.")["weight"].shape[0]
    return {
        **CLIP_L,
        "hidden_size": width,
        "intermediate_size": int(inner),
        "num_hidden_layers": layers,
        "num_attention_heads": width // _HEAD,
        "hidden_act": "gelu",
        "projection_dim": projection,
        "pad_token_id": 0,
    }
