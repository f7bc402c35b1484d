"""What the webui does with a written bundle."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.lora.layer import delta_weight


def lora_delta(name: str) -> dict[str, Any]:
    """Largest relative difference between the delta the webui applies and ours, by kind of layer."""
    import networks
    from modules import call_queue, shared
    from safetensors.torch import load_file

    with call_queue.queue_lock, torch.no_grad():
        networks.list_available_networks()
        networks.load_networks([name], [1.0], [1.0], [None])
        path = networks.available_networks[name].filename
        tensors = load_file(path)
        worst: dict[str, float] = {"linear": 0.0, "conv": 0.0}
        count = {"linear": 0, "conv": 0}
        for key in sorted(item[: -len(".alpha")] for item in tensors if item.endswith(".alpha")):
            down, up = tensors[f"{key}.lora_down.weight"].float(), tensors[f"{key}.lora_up.weight"].float()
            ours = delta_weight(down, up, float(tensors[f"{key}.alpha"]) / down.shape[0])
            compvis = networks.convert_diffusers_name_to_compvis(key, False)
            module = shared.sd_model.network_layer_mapping[compvis]
            theirs, _bias = networks.loaded_networks[0].modules[compvis].calc_updown(module.weight)
            kind = "linear" if down.ndim == 2 else "conv"
            scale = float(ours.abs().max())
            if scale == 0.0:
                continue
            worst[kind] = max(worst[kind], float((theirs.reshape(ours.shape).float() - ours).abs().max()) / scale)
            count[kind] += 1
        networks.load_networks([])
    return {"worst": worst, "count": count}


def conds(prompt: str, lora: str = "") -> dict[str, Any]:
    """The webui's encoding of a prompt, with a LoRA's bundled embeddings or without, as a digest and a norm."""
    import networks
    from modules import call_queue, shared

    from pivotal_probe.checks import digest

    with call_queue.queue_lock, torch.no_grad():
        networks.list_available_networks()
        # The weights of a LoRA must not act here: only its embeddings are compared.
        networks.load_networks([lora] if lora else [], [0.0], [0.0], [None])
        cond = shared.sd_model.get_learned_conditioning([prompt])
        networks.load_networks([])
    return {"digest": digest(cond), "norm": float(cond.norm())}


def export_embeddings(lora: str, folder: str) -> list[str]:
    """Write a bundle's vectors as ordinary embedding files and read them; returns the names."""
    from pathlib import Path

    import networks
    from modules import sd_hijack
    from safetensors.torch import load_file, save_file

    networks.list_available_networks()
    names = []
    for key, tensor in load_file(networks.available_networks[lora].filename).items():
        if key.startswith("bundle_emb."):
            name = key.split(".")[1]
            save_file({"emb_params": tensor}, str(Path(folder) / f"{name}.safetensors"))
            names.append(name)
    sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    return names


def remove_embeddings(names: list[str], folder: str) -> dict[str, int]:
    """Take the files of :func:`export_embeddings` away again."""
    from pathlib import Path

    from modules import sd_hijack

    for name in names:
        (Path(folder) / f"{name}.safetensors").unlink()
    sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
    return {"removed": len(names)}


CHECKS = (lora_delta, conds, export_embeddings, remove_embeddings)
