"""What the webui does with a written bundle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from lib_pivotal.core.lora.kinds import adapter_in_file
from pivotal_probe.hosts import load_loras, read_embeddings_again, remove_merged


def lora_delta(name: str) -> dict[str, Any]:
    """Largest relative difference between the delta the webui applies and ours, by kind of layer."""
    import networks
    from modules import call_queue
    from safetensors.torch import load_file

    with call_queue.queue_lock, torch.no_grad():
        networks.list_available_networks()
        load_loras([name])
        tensors = load_file(networks.available_networks[name].filename)
        found = {module.network_key.split(".")[0]: module for module in networks.loaded_networks[0].modules.values()}
        worst: dict[str, float] = {}
        count: dict[str, int] = {}
        lost = []
        for key in sorted(item[: -len(".alpha")] for item in tensors if item.endswith(".alpha")):
            module = found.get(key)
            if module is None:
                lost.append(key)
                continue
            weight = _weight_of(module.sd_module, key)
            ours = delta_of(
                weight, {item[len(key) + 1 :]: tensors[item] for item in tensors if item.startswith(f"{key}.")}
            )
            scale = float(ours.abs().max())
            # Where a DoRA has not learned anything, its change is what rounding leaves of the weight.
            if scale <= (1e-6 * float(weight.abs().max()) if f"{key}.dora_scale" in tensors else 0.0):
                continue
            theirs, _bias = module.calc_updown(weight)
            kind = ("unet " if key.startswith("lora_unet") else key.split("_")[1] + " ") + (
                "linear" if weight.ndim == 2 else "conv"
            )
            difference = float((theirs.reshape(ours.shape).float() - ours).abs().max()) / scale
            worst[kind] = max(worst.get(kind, 0.0), difference)
            count[kind] = count.get(kind, 0) + 1
        load_loras([])
    return {"worst": worst, "count": count, "lost": lost}


def delta_of(weight: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The change of a weight by our own code."""
    adapter = adapter_in_file(weight.shape, tensors)
    parameters = {name: torch.zeros(size) for name, size in adapter.shapes.items()}
    adapter.load(parameters, tensors)
    return adapter.delta(parameters, SimpleNamespace(weight=weight))


def _weight_of(module: Any, key: str) -> torch.Tensor:
    """The weight that a LoRA's delta is added to; packed attention has one weight for three of them."""
    if not hasattr(module, "in_proj_weight"):
        return module.weight
    parts = dict(zip(("q_proj", "k_proj", "v_proj"), module.in_proj_weight.chunk(3), strict=True))
    return parts.get(key[-len("q_proj") :], module.out_proj.weight)


def conds(prompt: str, lora: str = "", with_values: bool = False) -> dict[str, Any]:
    """The webui's encoding of a prompt, with a LoRA's bundled embeddings or without: a digest, a norm, the numbers."""
    import networks
    from modules import call_queue, prompt_parser, shared

    from pivotal_probe.checks import digest

    with call_queue.queue_lock, torch.no_grad():
        networks.list_available_networks()
        # The weights of a LoRA must not act here: only its embeddings are compared.
        load_loras([lora] if lora else [], 0.0)
        # Forge calculates with the weights that the last generation left merged.
        remove_merged(shared.sd_model)
        given = prompt_parser.SdConditioning([prompt], width=64, height=64)
        cond = shared.sd_model.get_learned_conditioning(given)
        load_loras([])
    parts = [cond[key] for key in sorted(cond)] if isinstance(cond, dict) else [cond]
    joined = torch.cat([part.flatten() for part in parts])
    values = {"values": joined.tolist()} if with_values else {}
    return {"digest": digest(joined), "norm": float(joined.norm()), **values}


def export_embeddings(lora: str, folder: str) -> list[str]:
    """Write a bundle's vectors as ordinary embedding files and read them; returns the names."""
    from pathlib import Path

    import networks
    from safetensors.torch import load_file, save_file

    networks.list_available_networks()
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(networks.available_networks[lora].filename).items():
        if key.startswith("bundle_emb."):
            _, name, end = key.split(".", 2)
            found.setdefault(name, {})["emb_params" if end.startswith("string_to_param") else end] = tensor
    for name, tensors in found.items():
        save_file(tensors, str(Path(folder) / f"{name}.safetensors"))
    names = list(found)
    read_embeddings_again()
    return names


def remove_embeddings(names: list[str], folder: str) -> dict[str, int]:
    """Take the files of :func:`export_embeddings` away again."""
    from pathlib import Path

    for name in names:
        (Path(folder) / f"{name}.safetensors").unlink()
    read_embeddings_again()
    return {"removed": len(names)}


CHECKS = (lora_delta, conds, export_embeddings, remove_embeddings)
