"""From a checkpoint file or a diffusers folder to the networks in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file

from lib_pivotal.core.checkpoint_file import family_of_tensors
from lib_pivotal.core.diffusion.objective import zero_terminal
from lib_pivotal.core.errors import HostError, PivotalError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.host.diffusers.checkpoint_check import check_checkpoint
from lib_pivotal.host.diffusers.ldm_keys import open_clip_state, parts_with, unet_state
from lib_pivotal.host.diffusers.shapes import (
    clip_params,
    clip_shape,
    open_clip_shape,
    read_config,
    text_folder,
    unet_shape,
)
from lib_pivotal.host.diffusers.standard import STANDARD_TOKENIZER, fixed_schedule
from lib_pivotal.host.diffusers.text import TextPart
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer
from lib_pivotal.host.diffusers.weight_files import find_weights

__all__ = ["Networks", "load_networks", "load_tokenizer"]

_VOCABULARY = 49_408
_BETAS = (0.00085, 0.012)
"""Of SDXL, whose configuration does not name them."""


@dataclass
class Networks:
    """What a checkpoint holds, on the CPU, in fp32, frozen.

    Attributes:
        source: file or folder it came from.
        family: see ``core.families``.
        texts: text encoders in the UNet's order.
        scale: factor from the VAE's latents to the UNet's.
        alphas_cumprod: fp32, shape ``(T,)``.
        native_resolution: side in px that it was made for.
    """

    source: Path
    family: str
    unet: Any
    vae: Any
    texts: tuple[TextPart, ...]
    scale: float
    alphas_cumprod: torch.Tensor
    is_v_prediction: bool
    native_resolution: int

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
    """Read a model of SD1, SD2 or SDXL.

    Args:
        path: ``.safetensors`` with LDM keys (a ``.yaml`` of the same name beside it gives its shapes), or
            a folder in diffusers' layout.

    Raises:
        HostError: as :func:`lib_pivotal.host.diffusers.checkpoint_check.check_checkpoint` finds, or a part does not fit
            its configuration.
    """
    problems = check_checkpoint(path)
    if problems:
        raise HostError(problems[0].message, hint=problems[0].hint)
    with _quiet():
        networks = _from_folder(path) if path.is_dir() else _from_file(path)
    for part in (networks.unet, networks.vae, *(text.model for text in networks.texts)):
        part.eval().requires_grad_(False)
    return networks


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a model, without its weights.

    Raises:
        HostError: there is no such model, or its tokenizer cannot be found.
    """
    if not path.exists():
        raise HostError(f"There is no checkpoint {path}.", hint="Check the path in the setting checkpoint.")
    if path.is_dir():
        return _folder_tokenizer(path)
    # Which family it is makes no difference here, unless a ``.yaml`` says so.
    family = "sdxl" if "conditioner_config" in _beside(path) else "sd1"
    return _tokenizer(read_config(path, family, is_v_prediction=False)["model"]["params"], path)


def _beside(path: Path) -> str:
    """The text of the ``.yaml`` beside a checkpoint; empty where there is none."""
    config = path.with_suffix(".yaml")
    return config.read_text(encoding="utf-8", errors="replace") if config.exists() else ""


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
        raise HostError(f"{path.name} cannot be read: {error}.", hint="Download it again.") from error
    family = family_of_tensors(tensors, path.name)
    is_v_prediction = "v_pred" in tensors or (family == "sd2" and _is_sd2_v(tensors))
    params = read_config(path, family, is_v_prediction=is_v_prediction)["model"]["params"]
    try:
        texts = _texts(tensors, params, family, path)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _misfit("The text encoder", path, error) from error
    unet_params = params["network_config" if family == "sdxl" else "unet_config"]["params"]
    unet = _unet(tensors, unet_params, path)
    vae = _vae(tensors, params, path)
    # A configuration beside the file knows better than the file's own mark.
    is_v_prediction = is_v_prediction or _says_v(params, family)
    schedule = fixed_schedule(
        float(params.get("linear_start", _BETAS[0])), float(params.get("linear_end", _BETAS[1])), _steps(params, family)
    )
    return Networks(
        source=path,
        family=family,
        unet=unet,
        vae=vae,
        texts=texts,
        scale=float(params.get("scale_factor", 0.18215)),
        alphas_cumprod=zero_terminal(schedule) if "ztsnr" in tensors else schedule,
        is_v_prediction=is_v_prediction,
        native_resolution=_native(family, unet_params.get("image_size"), is_v_prediction=is_v_prediction),
    )


def _steps(params: Mapping[str, Any], family: str) -> int:
    if family == "sdxl":
        return int(params.get("denoiser_config", {}).get("params", {}).get("num_idx", 1000))
    return int(params.get("timesteps", 1000))


def _says_v(params: Mapping[str, Any], family: str) -> bool:
    if family != "sdxl":
        return params.get("parameterization", "eps") == "v"
    scaling = params.get("denoiser_config", {}).get("params", {}).get("scaling_config", {})
    return str(scaling.get("target", "")).endswith("VScaling")


def _is_sd2_v(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a checkpoint of SD2 without a configuration predicts velocity.

    Source: Stability AI's 768-v models were trained for 220 000 steps on from the base, which the file keeps.
    """
    step = tensors.get("global_step")
    return step is not None and int(step) == 220_000


def _native(family: str, cells: Any, *, is_v_prediction: bool) -> int:
    """SD2's configuration for velocity says 64 cells as all others do, and was made for 768 px."""
    if not isinstance(cells, int) or (family == "sd2" and cells == 64 and is_v_prediction):
        return FAMILIES[family].native_resolution
    return 8 * cells


def _texts(
    tensors: dict[str, torch.Tensor], params: Mapping[str, Any], family: str, path: Path
) -> tuple[TextPart, ...]:
    tokenizer = _tokenizer(params, path)
    if family == "sd2":
        state = parts_with(tensors, "cond_stage_model.model.")
        skips = clip_params(params).get("layer", "penultimate") == "penultimate"
        model = _filled(transformers.CLIPTextModel, open_clip_shape(state), open_clip_state(state), path)
        return (TextPart("clip_l", model, tokenizer, layer=-2 if skips else -1, pads_with_zero=True),)
    prefix = "conditioner.embedders.0.transformer." if family == "sdxl" else "cond_stage_model.transformer."
    first = _filled(transformers.CLIPTextModel, clip_shape(params, path), parts_with(tensors, prefix), path)
    if family == "sd1":
        return (TextPart("clip_l", first, tokenizer, may_skip=True),)
    # The configuration counts layers from the embeddings' output.
    count = len(first.text_model.encoder.layers if hasattr(first, "text_model") else first.encoder.layers)
    layer = int(clip_params(params).get("layer_idx", 11)) - count - 1
    state = parts_with(tensors, "conditioner.embedders.1.model.")
    second = _filled(transformers.CLIPTextModelWithProjection, open_clip_shape(state), open_clip_state(state), path)
    return (
        TextPart("clip_l", first, tokenizer, layer=layer, is_normed=False),
        TextPart("clip_g", second, tokenizer, layer=-2, is_normed=False, is_pooled=True, pads_with_zero=True),
    )


def _tokenizer(params: Mapping[str, Any], path: Path) -> Any:
    """CLIP's tokenizer: of the folder that the configuration names, of this machine's cache, or built here."""
    source = text_folder(params, path) or clip_params(params).get("version") or STANDARD_TOKENIZER
    found = _stored_tokenizer(source)
    if found is not None:
        return found
    if source != STANDARD_TOKENIZER:
        raise HostError(
            f"The tokenizer of {path.name} ({source}) is not on this machine.",
            hint="The .yaml beside the checkpoint names it in its text encoder's version: give a folder there.",
        )
    try:
        with tempfile.TemporaryDirectory() as folder:
            write_tokenizer(Path(folder))
            return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except PivotalError as error:
        raise HostError(error.message, hint=error.hint) from error


def _folder_tokenizer(path: Path) -> Any:
    try:
        return transformers.CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    # The library below raises no class of its own for files that it does not understand.
    except Exception as error:
        text = f"The tokenizer of {path.name} cannot be read ({str(error).splitlines()[0]})."
        raise HostError(text, hint="Download its folder tokenizer again.") from error


def _stored_tokenizer(source: str | Path) -> Any:
    """A tokenizer of this machine, or None where it has none of this name."""
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return None
    # transformers 5 makes an empty one of a name that it has no files for.
    return tokenizer if len(tokenizer) >= _VOCABULARY else None


def _filled(kind: Any, shape: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], path: Path) -> Any:
    """A text encoder with a checkpoint's weights, fp32.

    Args:
        kind: class of transformers.
        shape: its configuration.
        tensors: by transformers' names, those of files.
        path: of the checkpoint.
    """
    known = {key: value for key, value in shape.items() if key != "architectures"}
    model = kind(transformers.CLIPTextConfig(**known))
    wrapped = any(name.startswith("text_model.") for name in model.state_dict())
    state = {}
    for key, value in tensors.items():
        if not key.endswith("position_ids"):
            # transformers 5 dropped the inner level of some classes that files of every age have.
            state[key if wrapped else key.removeprefix("text_model.")] = value.float()
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


def _misfit(name: str, path: Path, error: Exception) -> HostError:
    result = HostError(
        f"{name} of {path.name} does not fit its configuration.",
        hint="Put the .yaml that came with the checkpoint beside it, under the same name.",
    )
    result.__cause__ = error
    return result


def _unet(tensors: Mapping[str, torch.Tensor], params: Mapping[str, Any], path: Path) -> Any:
    try:
        unet = diffusers.UNet2DConditionModel.from_config(unet_shape(params))
        unet.load_state_dict(unet_state(tensors))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _misfit("The UNet", path, error) from error
    return torch.nn.Module.float(unet)


def _vae(tensors: Mapping[str, torch.Tensor], params: Mapping[str, Any], path: Path) -> Any:
    config = {"model": {"params": dict(params)}}
    # The loader takes the keys that it knows out of the mapping, hence the copy.
    own = {key: value for key, value in tensors.items() if key.startswith("first_stage_model.")}
    try:
        return diffusers.AutoencoderKL.from_single_file(own, original_config=config, torch_dtype=torch.float32)
    # Diffusers has classes of its own for this, too.
    except Exception as error:
        raise _misfit("The VAE", path, error) from error


def _from_folder(path: Path) -> Networks:
    def load(kind: Any, name: str) -> Any:
        options = {"local_files_only": True, "torch_dtype": torch.float32}
        return kind.from_pretrained(path, subfolder=name, variant=find_weights(path / name).variant, **options)

    try:
        unet = load(diffusers.UNet2DConditionModel, "unet")
        vae = load(diffusers.AutoencoderKL, "vae")
        family = _family_of(unet, path)
        texts = _texts_of(path, family)
        schedule = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"{path} is not a complete diffusers model.", hint=str(error).split("\n")[0]) from error
    plain = fixed_schedule(schedule["beta_start"], schedule["beta_end"], schedule.get("num_train_timesteps", 1000))
    is_v_prediction = schedule.get("prediction_type", "epsilon") == "v_prediction"
    return Networks(
        source=path,
        family=family,
        unet=unet,
        vae=vae,
        texts=texts,
        scale=float(vae.config.scaling_factor),
        alphas_cumprod=zero_terminal(plain) if schedule.get("rescale_betas_zero_snr") else plain,
        is_v_prediction=is_v_prediction,
        native_resolution=_native(family, unet.config.sample_size, is_v_prediction=is_v_prediction),
    )


def _family_of(unet: Any, path: Path) -> str:
    if (path / "text_encoder_2").exists():
        return "sdxl"
    return "sd2" if unet.config.use_linear_projection else "sd1"


def _texts_of(path: Path, family: str) -> tuple[TextPart, ...]:
    def load(kind: Any, name: str) -> Any:
        variant = find_weights(path / name).variant
        return kind.from_pretrained(path / name, local_files_only=True, dtype=torch.float32, variant=variant)

    tokenizer = _folder_tokenizer(path)
    first = load(transformers.CLIPTextModel, "text_encoder")
    if family == "sd1":
        return (TextPart("clip_l", first, tokenizer, may_skip=True),)
    if family == "sd2":
        # Folders leave out the layer that is not used.
        return (TextPart("clip_l", first, tokenizer, pads_with_zero=True),)
    second = load(transformers.CLIPTextModelWithProjection, "text_encoder_2")
    return (
        TextPart("clip_l", first, tokenizer, layer=-2, is_normed=False),
        TextPart("clip_g", second, tokenizer, layer=-2, is_normed=False, is_pooled=True, pads_with_zero=True),
    )
