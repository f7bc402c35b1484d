"""The networks of a checkpoint file in the webui's layout (LDM)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file

from lib_pivotal.core.checkpoint_file import family_of_tensors
from lib_pivotal.core.diffusion.objective import zero_terminal
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES, Family, TextEncoderInfo
from lib_pivotal.host.diffusers.clip_tokenizer import clip_tokenizer
from lib_pivotal.host.diffusers.ldm_keys import open_clip_state, parts_with, unet_state
from lib_pivotal.host.diffusers.networks import Networks
from lib_pivotal.host.diffusers.shapes import (
    clip_params,
    clip_shape,
    open_clip_shape,
    read_config,
    unet_params,
    unet_shape,
)
from lib_pivotal.host.diffusers.standard import fixed_schedule
from lib_pivotal.host.diffusers.text import TextPart

__all__ = ["networks_from_file", "tokenizer_of_file"]

_BETAS = (0.00085, 0.012)
"""First and last beta of SDXL, whose configuration does not name them."""
_USE_ITS_YAML = "Put the .yaml that came with the checkpoint next to it, under the same name."


def networks_from_file(path: Path) -> Networks:
    """Read a ``.safetensors`` checkpoint.

    Raises:
        HostError: it cannot be read or trained, or a part of it is missing or does not fit its configuration.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise HostError(f"{path.name} cannot be read: {error}.", hint="Download it again.") from error
    name = family_of_tensors(tensors, path.name)
    family = FAMILIES[name]
    params = read_config(path, name)["model"]["params"]
    try:
        texts = _texts(tensors, params, family, path)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise HostError(
            f"The text encoder of {path.name} does not fit its configuration.", hint=_USE_ITS_YAML
        ) from error
    shape = unet_params(params)
    unet = _unet(tensors, shape, path)
    vae = _vae(tensors, params, path)
    # The authors' own files say 32 for every UNet, "unused".
    cells = params.get("image_size", shape.get("image_size"))
    is_v_prediction = _is_marked_v(tensors, family) or _is_configured_v(params)
    schedule = fixed_schedule(
        float(params.get("linear_start", _BETAS[0])), float(params.get("linear_end", _BETAS[1])), _timesteps(params)
    )
    return Networks(
        source=path,
        family=name,
        unet=unet,
        vae=vae,
        texts=texts,
        scale=float(params.get("scale_factor", 0.18215)),
        alphas_cumprod=zero_terminal(schedule) if "ztsnr" in tensors else schedule,
        is_v_prediction=is_v_prediction,
        native_resolution=family.resolution_for(cells, is_v_prediction=is_v_prediction),
    )


def tokenizer_of_file(path: Path) -> Any:
    """The tokenizer of a checkpoint file, without reading the file.

    Raises:
        HostError: its configuration cannot be read, or its tokenizer cannot be found.
    """
    text = ""
    # If it cannot be read, ``read_config`` says why.
    with contextlib.suppress(OSError):
        text = path.with_suffix(".yaml").read_text(encoding="utf-8", errors="replace")
    # Only the layout of the configuration matters here, and all families have the same standard tokenizer.
    has_conditioner = "conditioner_config" in text
    family = next(family for family in FAMILIES.values() if family.has_conditioner == has_conditioner)
    return clip_tokenizer(read_config(path, family.name)["model"]["params"], path)


def _timesteps(params: Mapping[str, Any]) -> int:
    denoiser = params.get("denoiser_config")
    return int(params.get("timesteps", 1000) if denoiser is None else denoiser.get("params", {}).get("num_idx", 1000))


def _is_configured_v(params: Mapping[str, Any]) -> bool:
    """Whether the configuration says that the model predicts velocity."""
    denoiser = params.get("denoiser_config")
    if denoiser is None:
        return params.get("parameterization", "eps") == "v"
    target = denoiser.get("params", {}).get("scaling_config", {}).get("target", "")
    return str(target).endswith("VScaling")


def _is_marked_v(tensors: Mapping[str, torch.Tensor], family: Family) -> bool:
    """Whether the checkpoint itself says so, by an empty tensor or by the number of steps it was trained for."""
    step = tensors.get("global_step")
    return "v_pred" in tensors or (step is not None and int(step) == family.v_global_step)


def _texts(
    tensors: dict[str, torch.Tensor], params: Mapping[str, Any], family: Family, path: Path
) -> tuple[TextPart, ...]:
    tokenizer = clip_tokenizer(params, path)
    parts = []
    for number, info in enumerate(family.text_encoders):
        state = parts_with(tensors, info.checkpoint_prefix)
        shape = open_clip_shape(state) if info.is_open_clip else clip_shape(params, path)
        named = open_clip_state(state) if info.is_open_clip else state
        model_class = transformers.CLIPTextModelWithProjection if info.has_pooled_text else transformers.CLIPTextModel
        model = _filled(model_class, shape, named, path)
        # Configurations choose a layer of the first encoder only.
        layer = info.layer if number else _layer(info, clip_params(params), model.config.num_hidden_layers)
        parts.append(TextPart(info, model, tokenizer, layer, family.allows_clip_skip))
    return tuple(parts)


def _layer(info: TextEncoderInfo, params: Mapping[str, Any], layer_count: int) -> int:
    """The layer that a configuration chooses, counted from the end."""
    if info.is_open_clip:
        return info.layer if params.get("layer", "penultimate") == "penultimate" else -1
    index = params.get("layer_idx")
    # The configuration counts from the embeddings' output.
    return info.layer if index is None else int(index) - layer_count - 1


def _filled(model_class: Any, shape: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], path: Path) -> Any:
    """A text encoder with a checkpoint's weights, fp32.

    Args:
        model_class: class of transformers.
        shape: its configuration.
        tensors: named as transformers names them in files.
        path: of the checkpoint.
    """
    known = {key: value for key, value in shape.items() if key != "architectures"}
    model = model_class(transformers.CLIPTextConfig(**known))
    is_nested = any(name.startswith("text_model.") for name in model.state_dict())
    state = {}
    for key, value in tensors.items():
        if not key.endswith("position_ids"):
            # transformers 5 dropped the inner level of some classes, which files of all versions have.
            state[key if is_nested else key.removeprefix("text_model.")] = value.float()
    try:
        missing, _ = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise HostError(
            f"The shapes of the text encoder in {path.name} do not fit its configuration.", hint=_USE_ITS_YAML
        ) from error
    if any(not name.endswith("position_ids") for name in missing):
        raise HostError(
            f"{path.name} lacks parts of the text encoder ({missing[0]}, …).", hint="Use a complete checkpoint."
        )
    return model


def _unet(tensors: Mapping[str, torch.Tensor], params: Mapping[str, Any], path: Path) -> Any:
    try:
        unet = diffusers.UNet2DConditionModel.from_config(unet_shape(params))
        unet.load_state_dict(unet_state(tensors))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise HostError(f"The UNet of {path.name} does not fit its configuration.", hint=_USE_ITS_YAML) from error
    return torch.nn.Module.float(unet)


def _vae(tensors: Mapping[str, torch.Tensor], params: Mapping[str, Any], path: Path) -> Any:
    config = {"model": {"params": dict(params)}}
    # diffusers removes the keys that it knows from the mapping, so it gets a copy.
    own = {key: value for key, value in tensors.items() if key.startswith("first_stage_model.")}
    try:
        return diffusers.AutoencoderKL.from_single_file(own, original_config=config, torch_dtype=torch.float32)
    # diffusers has separate classes for this, too.
    except Exception as error:
        raise HostError(f"The VAE of {path.name} does not fit its configuration.", hint=_USE_ITS_YAML) from error
