"""What Forge and reForge add to the weights for a written bundle."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.host.detect import current_host
from pivotal_probe.hosts import load_loras, merge_active, remove_merged
from pivotal_probe.lora_checks import delta_of


def merged_delta(name: str) -> dict[str, Any]:
    """Largest relative difference between the webui's change of a weight and ours, by part and kind of layer.

    Layers are left out whose change is hardly larger than the rounding of the weight that it is added to: attention
    over one token has no gradient for queries and keys.
    """
    import networks
    from modules import call_queue, sd_models
    from safetensors.torch import load_file

    host, reason = current_host()
    assert host is not None, reason
    networks.list_available_networks()
    tensors = load_file(networks.available_networks[name].filename)
    keys = sorted(item[: -len(".alpha")] for item in tensors if item.endswith(".alpha"))
    with host.exclusive("task(pivotal-probe)"), host.borrow(TrainConfig(), Control()) as borrowed:
        layers = {target.key: target.module for target in borrowed.model.lora_targets()}
        before = {key: layers[key].weight.detach().clone() for key in keys if key in layers}
    worst: dict[str, float] = {}
    count: dict[str, int] = {}
    model = sd_models.model_data.sd_model
    with call_queue.queue_lock, torch.no_grad():
        load_loras([name])
        merge_active(model)
        for key, weight in before.items():
            ours = delta_of(
                weight, {item[len(key) + 1 :]: tensors[item] for item in tensors if item.startswith(f"{key}.")}
            )
            scale = float(ours.abs().max())
            rounding = torch.finfo(weight.dtype).eps * float(weight.abs().max())
            if scale < 100 * rounding:
                continue
            theirs = layers[key].weight.float() - weight.float()
            part = "unet" if key.startswith("lora_unet") else key.split("_")[1]
            kind = f"{part} {'linear' if weight.ndim == 2 else 'conv'}"
            worst[kind] = max(worst.get(kind, 0.0), float((theirs - ours.reshape(theirs.shape)).abs().max()) / scale)
            count[kind] = count.get(kind, 0) + 1
        load_loras([])
        remove_merged(model)
    return {"worst": worst, "count": count, "lost": [key for key in keys if key not in before]}


CHECKS = (merged_delta,)
