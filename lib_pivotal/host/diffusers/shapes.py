"""Shapes of a checkpoint's networks, from the configuration that comes with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from lib_pivotal.core.errors import HostError
from lib_pivotal.host.diffusers.ldm_keys import open_clip_width, parts_with
from lib_pivotal.host.diffusers.standard import CLIP_L, standard_config

__all__ = ["clip_params", "clip_shape", "open_clip_shape", "read_config", "text_folder", "unet_shape"]

_HEAD = 64
"""Width of an attention head in every text encoder of open_clip that Stable Diffusion uses."""


def read_config(path: Path, family: str, *, is_v_prediction: bool) -> dict[str, Any]:
    """The configuration of a checkpoint: the ``.yaml`` of its name, or that of its family.

    Args:
        path: of the checkpoint.
        family: see ``core.families``.
        is_v_prediction: what the file itself says, for where there is no ``.yaml``.

    Raises:
        HostError: the ``.yaml`` is of no usual form.
    """
    beside = path.with_suffix(".yaml")
    if not beside.exists():
        return standard_config(family, is_v_prediction=is_v_prediction)
    try:
        config: dict[str, Any] = yaml.safe_load(beside.read_text(encoding="utf-8"))
        params = config["model"]["params"]
        names = ["first_stage_config"]
        names += ["network_config", "conditioner_config"] if family == "sdxl" else ["unet_config", "cond_stage_config"]
        for name in names:
            params[name]["params"] = params[name].get("params") or {}
        if family == "sdxl":
            for item in params["conditioner_config"]["params"]["emb_models"]:
                item["params"] = item.get("params") or {}
        else:
            float(params["linear_start"])
            float(params["linear_end"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise HostError(
            f"{beside.name} is no model configuration of the usual form ({error}).",
            hint="Remove it if the checkpoint has the usual shapes.",
        ) from error
    return config


def unet_shape(params: Mapping[str, Any]) -> dict[str, Any]:
    """Diffusers' configuration of a UNet from LDM's.

    Args:
        params: of ``unet_config`` or ``network_config``.
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
    """Folder with tokenizer and text config that the configuration names; relative ones count from the checkpoint."""
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
    """Transformers' configuration of CLIP-L: that of the named folder, or the usual one."""
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
