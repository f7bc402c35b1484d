"""Borrows Forge's model: prepares it for training and restores everything afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.host.forge.blocks import one_stream, pytorch_attention, trainable
from lib_pivotal.host.forge.checkpoints import load_checkpoint, same_checkpoint
from lib_pivotal.host.forge.family import require_trainable, unet_of
from lib_pivotal.host.forge.memory import ForgeMemory
from lib_pivotal.host.forge.model import ForgeModel
from lib_pivotal.host.forge.networks import remove_loras
from lib_pivotal.host.forge.sample import ForgeSampler
from lib_pivotal.host.webui.lora_extension import list_files_again
from lib_pivotal.host.webui.restoring import stop_live_previews, undo_later
from lib_pivotal.host.webui.txt2img import forget_conds

__all__ = ["Borrowed", "borrow"]


class Borrowed(NamedTuple):
    """What the webui lends to a run; has the fields of ``app.ports.Borrowed``, which a host cannot import."""

    model: ForgeModel
    sampler: ForgeSampler


@contextlib.contextmanager
def borrow(config: TrainConfig, control: Control) -> Iterator[Borrowed]:
    """Prepare the selected checkpoint for training and lend it. Call while holding the webui's queue lock.

    Not on Forge's main thread, which would keep the page's generations from being queued.

    Raises:
        HostError: the model cannot be trained; nothing was changed except for the choice of checkpoint, which is
            restored.
    """
    from modules import devices, sd_models

    with ExitStack() as stack:
        if config.checkpoint:
            stack.enter_context(same_checkpoint())
        load_checkpoint(config.checkpoint)
        engine = sd_models.model_data.sd_model
        require_trainable(engine, config)
        undo_later(stack, "the memory cache", devices.torch_gc)
        undo_later(stack, "the list of LoRAs", list_files_again)
        undo_later(stack, "the cache of encoded prompts", forget_conds)
        stop_live_previews(stack)
        memory = ForgeMemory(engine)
        memory.free_everything()
        remove_loras(engine)
        memory.settle()
        stack.enter_context(trainable(unet_of(engine)))
        stack.enter_context(pytorch_attention())
        stack.enter_context(one_stream())
        yield Borrowed(ForgeModel(engine, config, control, memory), ForgeSampler(engine, memory))
