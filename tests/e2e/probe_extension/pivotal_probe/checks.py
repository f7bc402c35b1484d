"""The state of the webui as numbers that must not change."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import torch

from pivotal_probe.hosts import embedding_stores, is_forge, networks_of


def digest(tensor: torch.Tensor) -> str:
    """sha256 of a tensor's bytes and type."""
    data = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(str(data.dtype).encode() + data.view(torch.uint8).numpy().tobytes()).hexdigest()


def fingerprint() -> dict[str, Any]:
    """Everything of the model and the webui that a run must leave as it was."""
    from modules import processing, sd_models, shared

    model = sd_models.model_data.sd_model
    networks = networks_of(model)
    parameters = [item for network in networks.values() for item in network.parameters()]
    modules = [item for network in networks.values() for item in network.modules()]
    stores = embedding_stores(model)
    vae = networks["vae"] if is_forge(model) else model.first_stage_model
    return {
        "weights": {part: weights_of(network) for part, network in networks.items()},
        "grads": sum(item.grad is not None for item in parameters),
        "hooks": sum(len(item._forward_hooks) + len(item._forward_pre_hooks) for item in modules),
        "forwards": sum("forward" in item.__dict__ for item in modules),
        "low_memory": [
            getattr(model, "lowvram", None),
            sorted({"encode", "decode"} & set(vars(vae))),
        ],
        "checkpoint_flags": sum(bool(item.__dict__.get("use_checkpoint")) for item in modules),
        "own methods": sum("_forward" in item.__dict__ for item in modules),
        "checkpoint": model.sd_checkpoint_info.title,
        "options": {name: shared.opts.data.get(name) for name in ("sd_model_checkpoint", "CLIP_stop_at_last_layers")},
        "live_previews": shared.opts.live_previews_enable,
        "parallel": shared.parallel_processing_allowed,
        "embeddings": [sorted(store.word_embeddings) for store in stores],
        "lookup": [sorted(str(key) for key in store.ids_lookup) for store in stores],
        "cached_conds": processing.StableDiffusionProcessing.cached_c[0] is not None,
        "devices": sorted({str(item.device) for item in parameters}),
        "dtypes": sorted({str(item.dtype) for item in parameters}),
        "job": [shared.state.job, shared.state.job_count],
        "flags": [shared.state.interrupted, shared.state.skipped],
        **(_of_forge(model) if is_forge(model) else _of_a1111(model, parameters)),
    }


def weights_of(network: torch.nn.Module) -> str:
    """sha256 of all weights of a network, without Forge's copies of a layer under a second name.

    Host: backend/nn/clip.py, ``text_projection``, Forge-Neo: memory that nothing has written to if the checkpoint has
        no such weights; nothing reads it in ``clip_l``.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        is_copy = name.endswith("token_embedding.weight") and "wrapped" in name
        if not is_copy and not name.endswith("clip_l.transformer.text_projection.weight"):
            weights.update(name.encode() + digest(tensor).encode())
    return weights.hexdigest()


def _of_a1111(model: Any, parameters: list[Any]) -> dict[str, Any]:
    from modules import sd_hijack, shared

    optimizer = getattr(sd_hijack, "current_optimizer", None)
    return {
        "alphas": digest(model.alphas_cumprod),
        # reForge's model is frozen by the first run and stays so.
        "requires_grad": 0 if hasattr(model, "forge_objects") else sum(item.requires_grad for item in parameters),
        "inference": sum(item.is_inference() for item in parameters),
        "attention": optimizer.name if optimizer else None,
        "hypernetworks": len(shared.loaded_hypernetworks),
        "circular": sd_hijack.model_hijack.circular_enabled,
    }


def _of_forge(model: Any) -> dict[str, Any]:
    from backend.nn import unet
    from modules import processing, sd_models

    objects = model.forge_objects_original
    return {
        "attention": unet.attention_function.__name__,
        "reload": [processing.forge_model_reload.__name__, sd_models.forge_model_reload.__name__],
        "merged": [len(_backup_of(item)) for item in (objects.unet, objects.clip.patcher)],
        "sigmas": digest(objects.unet.model.predictor.sigmas),
        "parameters": str(sd_models.model_data.forge_loading_parameters),
    }


def _backup_of(patcher: Any) -> Any:
    """Weights into which LoRAs are merged.

    Host: backend/patcher/lora.py, ``LoraLoader.backup``, Forge; backend/patcher/base.py, ``ModelPatcher.backup``,
        Forge-Neo.
    """
    return patcher.lora_loader.backup if hasattr(patcher, "lora_loader") else patcher.backup


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


def store_in_eight_bits(wanted: bool) -> dict[str, bool]:
    """What choosing another storage of the UNet at the top of Forge's page does; a generation loads the model again.

    Host: modules_forge/main_entry.py, ``forge_unet_storage_dtype``, Forge: the API sets the option but nothing follows.
    """
    from modules import shared
    from modules_forge import main_entry

    shared.opts.set("forge_unet_storage_dtype", "float8-e4m3fn" if wanted else "Automatic")
    main_entry.refresh_model_loading_parameters()
    return {"done": True}


def choose_on_the_page(checkpoint: str, low_bits: str) -> dict[str, bool]:
    """What choosing both at the top of Forge's page does.

    Host: modules_forge/main_entry.py, ``checkpoint_change``, ``forge_unet_storage_dtype``, Forge: Forge-Neo also keeps
        the choice for a preset of the page.
    """
    from modules import shared
    from modules_forge import main_entry

    shared.opts.set("forge_unet_storage_dtype", low_bits)
    main_entry.refresh_model_loading_parameters()
    has_presets = "preset" in inspect.signature(main_entry.checkpoint_change).parameters
    main_entry.checkpoint_change(checkpoint, *([None] if has_presets else []), save=False)
    return {"done": True}


def plot_script() -> dict[str, Any]:
    """Axes of the X/Y/Z plot of txt2img, and the number of its arguments."""
    from modules import scripts

    plot = next(item for item in scripts.scripts_txt2img.scripts if item.title() == "X/Y/Z plot")
    return {"axes": [axis.label for axis in plot.current_axis_options], "arguments": plot.args_to - plot.args_from}


CHECKS = (
    fingerprint,
    dirty_model,
    clean_model,
    host,
    problems,
    set_flag,
    store_in_eight_bits,
    choose_on_the_page,
    plot_script,
)
