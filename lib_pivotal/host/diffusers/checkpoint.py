"""From a checkpoint file or a diffusers folder to the networks in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from lib_pivotal.core.errors import HostError
from lib_pivotal.host.diffusers.sd1 import CLIP_L, STANDARD_CONFIG, STANDARD_TOKENIZER, fixed_schedule

__all__ = ["Networks", "load_networks", "load_tokenizer"]

_CLIP_PREFIX = "cond_stage_model.transformer."


@dataclass
class Networks:
    """What a checkpoint holds, on the CPU, in fp32, frozen.

    Attributes:
        source: file or folder it came from.
        scale: factor from the VAE's latents to the UNet's.
        alphas_cumprod: fp32, shape ``(T,)``.
    """

    source: Path
    unet: Any
    vae: Any
    text_model: Any
    tokenizer: Any
    scale: float
    alphas_cumprod: torch.Tensor
    is_v_prediction: bool

    @cached_property
    def digest(self) -> str:
        """sha256 of the checkpoint file, or of all weight files of a folder in order."""
        files = [self.source] if self.source.is_file() else sorted(self.source.rglob("*.safetensors"))
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                while block := file.read(2**22):
                    digest.update(block)
        return digest.hexdigest()


def load_networks(path: Path) -> Networks:
    """Read an SD1 model.

    Args:
        path: ``.safetensors`` with LDM keys (a ``.yaml`` of the same name beside it gives its shapes), or
            a folder in diffusers' layout.

    Raises:
        HostError: nothing is there, it is of another family, or a part of it is missing.
    """
    _require(path)
    with _quiet():
        networks = _from_folder(path) if path.is_dir() else _from_file(path)
    for part in (networks.unet, networks.vae, networks.text_model):
        part.eval().requires_grad_(False)
    return networks


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a model, without its weights.

    Raises:
        HostError: there is no such model, or its tokenizer cannot be found.
    """
    _require(path)
    if path.is_dir():
        return transformers.CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    return _tokenizer_of(_config_of(path), path)


def _require(path: Path) -> None:
    if path.is_dir():
        if not (path / "model_index.json").exists():
            raise HostError(f"{path} is no diffusers model.", hint="Give a folder with a model_index.json.")
    elif not path.exists():
        raise HostError(f"There is no checkpoint {path}.", hint="Check the path in the setting checkpoint.")
    elif path.suffix != ".safetensors":
        raise HostError(f"{path.name} is no .safetensors file.", hint="Other formats can run code when opened.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' remarks about dtypes and unused keys out of the console."""
    kept = diffusers.logging.get_verbosity(), transformers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers.logging.set_verbosity(kept[0])
        transformers.logging.set_verbosity(kept[1])


def _from_file(path: Path) -> Networks:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise HostError(f"{path.name} is no readable safetensors file ({error}).", hint="Fetch it again.") from error
    _require_sd1(tensors, path)
    config = _config_of(path)
    params = config["model"]["params"]
    tokenizer = _tokenizer_of(config, path)
    text_model = _text_model(tensors, _clip_config(params, path), path)
    # Each loader takes the keys that it knows out of the mapping, hence a copy for each.
    unet = _single(diffusers.UNet2DConditionModel, tensors, config, path)
    vae = _single(diffusers.AutoencoderKL, tensors, config, path)
    return Networks(
        source=path,
        unet=unet,
        vae=vae,
        text_model=text_model,
        tokenizer=tokenizer,
        scale=float(params.get("scale_factor", 0.18215)),
        alphas_cumprod=fixed_schedule(
            float(params["linear_start"]), float(params["linear_end"]), int(params.get("timesteps", 1000))
        ),
        is_v_prediction=params.get("parameterization", "eps") == "v" or "v_pred" in tensors,
    )


def _require_sd1(tensors: dict[str, torch.Tensor], path: Path) -> None:
    first = tensors.get("model.diffusion_model.input_blocks.0.0.weight")
    projection = tensors.get("model.diffusion_model.input_blocks.1.1.proj_in.weight")
    if first is None:
        raise HostError(f"{path.name} is no checkpoint in the webui's format.", hint="Give a Stable Diffusion 1 model.")
    kind = ""
    if any(key.startswith("conditioner.") for key in tensors):
        kind = "SDXL"
    elif any(key.startswith("cond_stage_model.model.") for key in tensors) or getattr(projection, "ndim", 4) == 2:
        kind = "SD2"
    elif first.shape[1] != 4:
        kind = "an inpainting or editing model"
    if kind:
        raise HostError(f"{path.name} is {kind}.", hint="This version trains SD1 models.")


def _config_of(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".yaml")
    if not beside.exists():
        return STANDARD_CONFIG
    try:
        config: dict[str, Any] = yaml.safe_load(beside.read_text(encoding="utf-8"))
        params = config["model"]["params"]
        for name in ("unet_config", "first_stage_config", "cond_stage_config"):
            params[name]["params"] = params[name].get("params") or {}
        float(params["linear_start"])
        float(params["linear_end"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise HostError(
            f"{beside.name} is no model configuration of the usual form ({error}).",
            hint="Remove it if the checkpoint has the usual SD1 shapes.",
        ) from error
    return config


def _text_folder(params: dict[str, Any], path: Path) -> Path | None:
    """Folder with tokenizer and text config that the yaml names; relative ones count from the yaml."""
    version = params["cond_stage_config"]["params"].get("version")
    if not version:
        return None
    folder = path.parent / Path(version).expanduser()
    return folder if folder.is_dir() else None


def _clip_config(params: dict[str, Any], path: Path) -> dict[str, Any]:
    folder = _text_folder(params, path)
    if folder is None or not (folder / "config.json").exists():
        return CLIP_L
    values: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return values.get("text_config", values)


def _tokenizer_of(config: dict[str, Any], path: Path) -> Any:
    params = config["model"]["params"]
    source = _text_folder(params, path)
    if source is None:
        source = params["cond_stage_config"]["params"].get("version") or STANDARD_TOKENIZER
    try:
        return transformers.CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        raise HostError(
            f"The tokenizer of {path.name} ({source}) is not on this machine.",
            hint=f"Run once with a network: huggingface-cli download {STANDARD_TOKENIZER}, or put a .yaml beside the "
            "checkpoint whose cond_stage_config.params.version names a folder with the tokenizer's files.",
        ) from error


def _text_model(tensors: dict[str, torch.Tensor], config: dict[str, Any], path: Path) -> Any:
    known = {key: value for key, value in config.items() if key != "architectures"}
    model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**known))
    wrapped = hasattr(model, "text_model")
    state = {}
    for key, value in tensors.items():
        if key.startswith(_CLIP_PREFIX) and not key.endswith("position_ids"):
            name = key[len(_CLIP_PREFIX) :]
            # transformers 5 dropped the inner level that files of every age have.
            state[name if wrapped else name.removeprefix("text_model.")] = value.float()
    try:
        missing, _ = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise HostError(
            f"The text encoder in {path.name} has other shapes than its configuration.",
            hint="Put the .yaml that came with the checkpoint beside it, under the same name.",
        ) from error
    if any(not name.endswith("position_ids") for name in missing):
        raise HostError(
            f"{path.name} lacks parts of the text encoder ({missing[0]}, …).", hint="Use a full checkpoint."
        )
    return model


def _single(kind: Any, tensors: dict[str, torch.Tensor], config: dict[str, Any], path: Path) -> Any:
    try:
        return kind.from_single_file(dict(tensors), original_config=config, torch_dtype=torch.float32)
    except (ValueError, KeyError, RuntimeError) as error:
        raise HostError(
            f"{kind.__name__} of {path.name} does not fit its configuration.",
            hint="Put the .yaml that came with the checkpoint beside it, under the same name.",
        ) from error


def _from_folder(path: Path) -> Networks:
    if (path / "text_encoder_2").exists():
        raise HostError(f"{path.name} is SDXL.", hint="This version trains SD1 models.")
    options = {"local_files_only": True, "torch_dtype": torch.float32}
    try:
        unet = diffusers.UNet2DConditionModel.from_pretrained(path, subfolder="unet", **options)
        vae = diffusers.AutoencoderKL.from_pretrained(path, subfolder="vae", **options)
        text_model = transformers.CLIPTextModel.from_pretrained(
            path / "text_encoder", local_files_only=True, dtype=torch.float32
        )
        tokenizer = transformers.CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
        schedule = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"{path} is no complete diffusers model.", hint=str(error).split("\n")[0]) from error
    if unet.config.in_channels != 4 or unet.config.use_linear_projection:
        raise HostError(f"{path.name} is no plain SD1 model.", hint="This version trains SD1 models.")
    if schedule.get("beta_schedule") != "scaled_linear" or schedule.get("rescale_betas_zero_snr"):
        raise HostError(f"{path.name} uses a noise schedule that is not SD1's.", hint="This version trains SD1 models.")
    return Networks(
        source=path,
        unet=unet,
        vae=vae,
        text_model=text_model,
        tokenizer=tokenizer,
        scale=float(vae.config.scaling_factor),
        alphas_cumprod=fixed_schedule(
            schedule["beta_start"], schedule["beta_end"], schedule.get("num_train_timesteps", 1000)
        ),
        is_v_prediction=schedule.get("prediction_type", "epsilon") == "v_prediction",
    )
