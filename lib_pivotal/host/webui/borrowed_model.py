"""Watches that the webui leaves a borrowed model alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import ModelPart, Offloading

__all__ = ["verify_borrowed"]


def verify_borrowed(
    model: Any,
    file: str,
    parts: Mapping[ModelPart, Sequence[torch.nn.Module]],
    device: torch.device,
    offloading: Offloading,
) -> None:
    """Check that the webui's model is still the borrowed one and on its device.

    Args:
        model: the borrowed model.
        file: path of its checkpoint when it was borrowed.
        parts: the networks of each part.
        device: where they must be, unless they are offloaded.
        offloading: says which parts are.

    Raises:
        HostError: the model was exchanged or moved in the meantime.

    Host: modules/sd_models.py, ``unload_model_weights``, A1111 1.6.1-1.10.1, Forge, reForge: the unload button and
        route do not wait for the queue.
    """
    from modules import sd_models

    if sd_models.model_data.sd_model is not model or model.sd_checkpoint_info.filename != file:
        raise HostError(
            "The webui changed its checkpoint during training.",
            hint="Start again, and do not load another checkpoint until training ends.",
        )
    for part, networks in parts.items():
        # The parameters are looked up each time, since moving a model keeps the parameter objects.
        devices = {next(network.parameters()).device for network in networks}
        if devices != {device} and not offloading.is_offloaded(part):
            raise HostError(
                "The model was moved off its device during training.",
                hint="Start again, and do not unload the checkpoint until training ends.",
            )
