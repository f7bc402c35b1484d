"""The state of the webui as numbers that must not change."""

from __future__ import annotations

import hashlib
from typing import Any

import torch


def digest(tensor: torch.Tensor) -> str:
    """sha256 of a tensor's bytes and type."""
    data = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(str(data.dtype).encode() + data.view(torch.uint8).numpy().tobytes()).hexdigest()


def fingerprint() -> dict[str, Any]:
    """Everything of the model and the webui that a run must leave as it was."""
    from modules import processing, sd_hijack, sd_models, shared

    model = sd_models.model_data.sd_model
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(name.encode() + digest(tensor).encode())
    modules = list(model.modules())
    optimizer = sd_hijack.current_optimizer
    return {
        "weights": weights.hexdigest(),
        "tensors": len(model.state_dict()),
        "alphas": digest(model.alphas_cumprod),
        "requires_grad": sum(item.requires_grad for item in model.parameters()),
        "grads": sum(item.grad is not None for item in model.parameters()),
        "inference": sum(item.is_inference() for item in model.parameters()),
        "hooks": sum(len(item._forward_hooks) + len(item._forward_pre_hooks) for item in modules),
        "forwards": sum("forward" in item.__dict__ for item in modules),
        "low_memory": [model.lowvram, sorted({"encode", "decode"} & set(vars(model.first_stage_model)))],
        "checkpoint_flags": sum(bool(item.__dict__.get("use_checkpoint")) for item in modules),
        "attention": optimizer.name if optimizer else None,
        "checkpoint": model.sd_checkpoint_info.title,
        "options": {name: shared.opts.data.get(name) for name in ("sd_model_checkpoint", "CLIP_stop_at_last_layers")},
        "live_previews": shared.opts.live_previews_enable,
        "parallel": shared.parallel_processing_allowed,
        "embeddings": sorted(sd_hijack.model_hijack.embedding_db.word_embeddings),
        "lookup": sorted(str(key) for key in sd_hijack.model_hijack.embedding_db.ids_lookup),
        "hypernetworks": len(shared.loaded_hypernetworks),
        "circular": sd_hijack.model_hijack.circular_enabled,
        "cached_conds": processing.StableDiffusionProcessing.cached_c[0] is not None,
        "devices": sorted({str(item.device) for item in model.parameters()}),
        "dtypes": sorted({str(item.dtype) for item in model.parameters()}),
        "job": [shared.state.job, shared.state.job_count],
        "flags": [shared.state.interrupted, shared.state.skipped],
    }


def dirty_model() -> dict[str, int]:
    """Leave in the model what generations of other extensions leave: instance forwards, tiling, flags."""
    from modules import sd_hijack, sd_models

    model = sd_models.model_data.sd_model
    unet = model.model.diffusion_model
    unet.forward = lambda *_args, **_kwargs: 1 / 0
    sd_hijack.model_hijack.apply_circular(True)
    for module in unet.modules():
        if hasattr(module, "use_checkpoint"):
            module.use_checkpoint = True
    return {"done": 1}


def clean_model() -> dict[str, int]:
    """Undo :func:`dirty_model`."""
    from modules import sd_hijack, sd_models

    unet = sd_models.model_data.sd_model.model.diffusion_model
    unet.__dict__.pop("forward", None)
    sd_hijack.model_hijack.apply_circular(False)
    for module in unet.modules():
        if hasattr(module, "use_checkpoint"):
            module.use_checkpoint = False
    return {"done": 1}


def host() -> dict[str, Any]:
    """What the host says about itself."""
    from lib_pivotal.host.detect import current_host

    found, reason = current_host()
    if found is None:
        return {"name": None, "reason": reason}
    encode = found.tokenizer()
    return {
        "name": found.name,
        "lora_folder": str(found.lora_folder()),
        "data_root": str(found.data_root()),
        "taken": found.taken_names(),
        "ids": encode("a photo of a cat") if encode else None,
    }


def problems(**fields: Any) -> list[list[str]]:
    """``host.problems`` for a config with these fields."""
    from lib_pivotal.core.config.schema import TrainConfig
    from lib_pivotal.host.detect import current_host

    return [[item.field, item.message, item.hint] for item in current_host()[0].problems(TrainConfig(**fields))]


def set_flag(name: str, value: bool) -> dict[str, bool]:
    """Set a command-line flag or a state flag for a test; returns the old value."""
    from modules import shared

    owner = shared.state if hasattr(shared.state, name) else shared.cmd_opts
    old = getattr(owner, name)
    setattr(owner, name, value)
    return {"old": old}


def plot_script() -> dict[str, Any]:
    """Axes of the X/Y/Z plot of txt2img, and the number of its arguments."""
    from modules import scripts

    plot = next(item for item in scripts.scripts_txt2img.scripts if item.title() == "X/Y/Z plot")
    return {"axes": [axis.label for axis in plot.current_axis_options], "arguments": plot.args_to - plot.args_from}


CHECKS = (fingerprint, dirty_model, clean_model, host, problems, set_flag, plot_script)
