"""Negative LoRAs: LoRAs in the prompt whose files say that they are for the negative prompt only."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.negative_lora import is_negative_lora
from lib_pivotal.core.bundle.tensor_file import Unreadable, open_tensors
from lib_pivotal.core.families import family_of_metadata
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.naming import ldm_to_diffusers
from lib_pivotal.core.lora.targets import is_lora_layer, lora_target
from lib_pivotal.core.ports import LoraTarget
from lib_pivotal.core.printable import printable
from lib_pivotal.host.bundle_prompts.files import FileState, file_state
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.webui.lora_extension import ActiveLora, active_loras
from lib_pivotal.host.webui.uncond_rows import negative_rows_found

__all__ = ["NegativeLoras", "negative_keys"]


def negative_keys(path: str) -> frozenset[str]:
    """All keys of a file if it is a negative LoRA, which the webui must not merge into the weights; otherwise none.

    Args:
        path: of a LoRA file.
    """
    state = file_state(path) if path.lower().endswith(".safetensors") else None
    return _keys_of(state) if state is not None else frozenset()


@functools.lru_cache(maxsize=64)
def _keys_of(state: FileState) -> frozenset[str]:
    try:
        with open_tensors(Path(state.path)) as file:
            return frozenset(file.entries) if is_negative_lora(file.metadata) else frozenset()
    except (OSError, Unreadable):
        # Damaged files are the webui's to report.
        return frozenset()


class NegativeLoras:
    """Attaches the active negative LoRAs to the loaded UNet; no weight of the webui is changed."""

    def __init__(self) -> None:
        self._attached = contextlib.ExitStack()
        self._fingerprint: tuple[Any, ...] = ()
        self._notices: list[str] = []

    def sync(self) -> list[str]:
        """Bring the attached LoRAs up to date with the webui's list; cheap if nothing changed.

        Returns:
            What the user must know about active LoRAs that cannot be used.
        """
        loras = [lora for lora in active_loras() if read_settings().is_on and negative_keys(lora.path)]
        unet = _unet() if loras else None
        states = tuple((file_state(lora.path), _strength(lora)) for lora in loras)
        fingerprint = (unet, *states) if loras else ()
        if fingerprint != self._fingerprint:
            self.remove()
            self._notices = self._attach(unet, loras) if unet is not None else []
            self._fingerprint = fingerprint
        return self._notices

    def remove(self) -> None:
        """Detach all of them."""
        self._fingerprint, self._notices = (), []
        self._attached.close()

    def _attach(self, unet: Any, loras: Sequence[ActiveLora]) -> list[str]:
        found, notices = [], []
        for lora in loras:
            adapters = _adapters(unet, lora)
            if adapters is not None and adapters.layers:
                found.append(adapters)
            else:
                notices.append(f"LoRA {printable(lora.label)}: it is not for this model, so it has no effect.")
        if found:
            self._attached.enter_context(negative_rows_found(unet))
            self._attached.enter_context(attach(found))
        return notices


def _unet() -> Any:
    """The UNet of the loaded model, or None.

    Host: modules/sd_models.py, ``model_data.sd_model``, A1111 1.6.1-1.10.1: ``shared.sd_model`` would load one.
    Host: backend/diffusion_engine/base.py, ``forge_objects``, Forge, reForge: has the UNet in its patcher's model.
    """
    from modules import sd_models

    model = sd_models.model_data.sd_model
    patcher = getattr(getattr(model, "forge_objects", None), "unet", None)
    owner = patcher if patcher is not None else model
    return getattr(getattr(owner, "model", None), "diffusion_model", None)


def _strength(lora: ActiveLora) -> float:
    """Host: network.py, ``Network.unet_multiplier``, A1111 1.6.1-1.10.1; Forge and reForge never set it, but we do."""
    return float(getattr(lora.net, "unet_multiplier", 1.0))


@torch.no_grad()
def _adapters(unet: Any, lora: ActiveLora) -> AdapterSet | None:
    """The LoRA of a file on the layers of a UNet; None if it is for another family of models."""
    bundle = read_bundle(Path(lora.path))
    family = family_of_metadata(bundle.metadata)
    targets = [] if family is None else _targets(unet, family.name)
    if not {key.partition(".")[0] for key in bundle.lora} <= {target.key for target in targets}:
        return None
    adapters = AdapterSet.from_state("unet", targets, bundle.lora, _device())
    adapters.only_negative = True
    for layer in adapters.layers:
        layer.adapter.rescale(layer.parameters, _strength(lora))
    return adapters


def _targets(unet: Any, family: str) -> list[LoraTarget]:
    """The layers of a UNet; none if they are not those of the family."""
    layers = [(path, module) for path, module in unet.named_modules() if is_lora_layer(module)]
    try:
        return [lora_target("unet", ldm_to_diffusers(path), module, family) for path, module in layers]
    except ValueError:
        return []


def _device() -> torch.device:
    """Host: modules/devices.py, ``device``, A1111 1.6.1-1.10.1, Forge: where the UNet works."""
    from modules import devices

    return torch.device(devices.device)
