"""Borrows the webui's model: prepares it for training and restores everything afterwards."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111 import networks
from lib_pivotal.host.a1111.family import require_trainable, unet_of
from lib_pivotal.host.a1111.low_memory import LowMemoryMode, is_in_low_memory_mode
from lib_pivotal.host.a1111.model import A1111Model
from lib_pivotal.host.a1111.packed_attention import unpacked
from lib_pivotal.host.a1111.sample import A1111Sampler
from lib_pivotal.host.a1111.text_waits import masks_made_once
from lib_pivotal.host.offload import move_own_tensors
from lib_pivotal.host.webui.lora_extension import list_files_again
from lib_pivotal.host.webui.restoring import stop_live_previews, undo_later
from lib_pivotal.host.webui.txt2img import forget_conds

__all__ = ["Borrowed", "borrow", "freeze", "load", "refresh_at_the_end", "remove_leftovers"]

_log = logging.getLogger("pivotal.host.lease")


class Borrowed(NamedTuple):
    """What the webui lends to a run; has the fields of ``app.ports.Borrowed``, which a host cannot import."""

    model: A1111Model
    sampler: A1111Sampler


@contextlib.contextmanager
def borrow(config: TrainConfig, control: Control) -> Iterator[Borrowed]:
    """Prepare the selected checkpoint for training and lend it. Call while holding the webui's queue lock.

    Every change is undone in reverse order on any kind of exit. A step that fails is logged, and the others still run.

    Raises:
        HostError: the model cannot be trained; nothing was changed except for the choice of checkpoint, which is
            restored.
    """
    with ExitStack() as stack:
        model = load(config.checkpoint, stack)
        require_trainable(model)
        refresh_at_the_end(stack)
        stop_live_previews(stack)
        low_memory = LowMemoryMode(model) if is_in_low_memory_mode(model) else None
        if low_memory is None:
            _move_to_device(model, stack)
        remove_leftovers(model, stack)
        if low_memory is not None:
            undo_later(stack, "the webui's low-memory mode", low_memory.resume)
            low_memory.suspend()
        freeze(model, stack)
        _choose_attention(stack)
        borrowed = A1111Model(model, config, control, is_offloaded=low_memory is not None)
        attentions = [attention for found in borrowed.packed_attentions.values() for attention in found.values()]
        stack.enter_context(unpacked(attentions))
        stack.enter_context(masks_made_once())
        yield Borrowed(borrowed, A1111Sampler(model, borrowed, low_memory))


def load(name: str, stack: ExitStack) -> Any:
    """The checkpoint to train, as ``shared.sd_model``.

    Host: modules/sd_models.py, ``reload_model_weights``, A1111 1.6.1-1.10.1: after a generation the refiner or an
    overriding checkpoint may still be loaded; this loads the selected one again. ``SkipWritingToConfig`` keeps the
    user's selection. The same model object is loaded into when the architecture allows it.
    """
    from modules import sd_models, shared

    info = sd_models.get_closet_checkpoint_match(name) if name else None
    if name and info is None:
        # It may have gone while the run was queued, and another one must not be trained in its place.
        raise HostError(f"The webui has no checkpoint {name!r}.", hint="Refresh its list and choose another one.")
    try:
        # The first access may have to wait for another thread, which started loading the model when the webui started.
        if shared.sd_model is None:
            _log.info("No checkpoint is loaded; the selected one is loaded now.")
        if info is None:
            sd_models.reload_model_weights()
        else:
            undo_later(stack, "the selected checkpoint", sd_models.reload_model_weights)
            with sd_models.SkipWritingToConfig():
                sd_models.reload_model_weights(info=info)
    except Exception as error:
        raise HostError(f"The checkpoint could not be loaded: {error}", hint="Choose another one.") from error
    return shared.sd_model


def refresh_at_the_end(stack: ExitStack) -> None:
    """Schedule the refresh of everything that the webui caches.

    Host: modules/processing.py, ``cached_c``, A1111 1.6.1-1.10.1: encoded prompts are cached by their text, not by the
    contents of embeddings, so what a preview cached must not reach the user's next generation.
    """
    from modules import devices, sd_hijack

    def read_embeddings() -> None:
        sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings()

    undo_later(stack, "the memory cache", devices.torch_gc)
    undo_later(stack, "the list of embeddings", read_embeddings)
    undo_later(stack, "the list of LoRAs", list_files_again)
    undo_later(stack, "the cache of encoded prompts", forget_conds)


def _move_to_device(model: Any, stack: ExitStack) -> None:
    """Move all parts to the device; afterwards each goes back to where it was.

    Host: modules/sd_models.py, ``send_model_to_device``, A1111 1.6.1-1.10.1: a model that the user unloaded is on the
    CPU. The function also sets ``parallel_processing_allowed``, so the parts are moved here one by one.
    Host: modules/sd_models.py, ``unload_model_weights``, A1111 1.7.0: also moves the schedule in the model's own
    buffers.
    """
    from modules import devices

    schedule = next(model.buffers(recurse=False), None)
    if schedule is not None:
        undo_later(stack, "the placement of the schedule", move_own_tensors, model, schedule.device)
        move_own_tensors(model, devices.device)
    for part in (model.model, model.first_stage_model, model.cond_stage_model):
        undo_later(stack, "the placement of the model", part.to, next(part.parameters()).device)
        part.to(devices.device)


def remove_leftovers(model: Any, stack: ExitStack, remove_loras: Callable[[Any], None] = networks.unload_all) -> None:
    """Remove from the model what earlier generations and other extensions left in it.

    Args:
        model: the webui's model.
        stack: restores what is not the last generation's.
        remove_loras: takes the LoRAs of the last generation out of the model.

    Host: modules/sd_unet.py, ``apply_unet``, A1111 1.6.1-1.10.1: a TensorRT UNet would run instead of the borrowed one.
    Host: modules/sd_hijack.py, ``apply_circular``, A1111 1.6.1-1.10.1: a tiling generation leaves convolutions
    circular.
    Host: extensions-builtin/hypertile/hypertile.py, ``hypertile_hook_model``, A1111 1.7-1.10.1: leaves a ``forward`` in
    the instance dictionary of modules, as the extension ControlNet does.
    Host: modules/sd_models.py, ``apply_token_merging``, A1111 1.6.1-1.10.1: each generation sets and removes it again.
    """
    from modules import sd_hijack, sd_models, sd_unet

    remove_loras(model)
    stack.enter_context(networks.hypernetworks_off())

    undo_later(stack, "the UNet choice", sd_unet.apply_unet)
    sd_unet.apply_unet("None")

    hijack = sd_hijack.model_hijack
    undo_later(stack, "tiling", hijack.apply_circular, hijack.circular_enabled)
    hijack.apply_circular(False)

    sd_models.apply_token_merging(model, 0)

    for module in model.modules():
        if "forward" in module.__dict__:
            undo_later(stack, "a forward of another extension", module.__dict__.__setitem__, "forward", module.forward)
            del module.__dict__["forward"]


def freeze(model: Any, stack: ExitStack) -> None:
    """Turn off gradients for all parameters and the host's own checkpointing for all blocks.

    Host: modules/sd_models.py, ``load_model_weights``, A1111 1.6.1-1.10.1: nothing freezes the UNet, so a plain
    backward pass would compute a gradient for each of its weights.
    Host: ldm/modules/attention.py ``checkpoint`` and openaimodel.py ``use_checkpoint``, A1111 1.6.1-1.9: the
    configurations turn them on; with frozen weights they fail.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            undo_later(stack, "a gradient flag", parameter.requires_grad_, True)
            parameter.requires_grad_(False)

    for module in unet_of(model).modules():
        for flag in ("checkpoint", "use_checkpoint"):
            if module.__dict__.get(flag):
                undo_later(stack, "a checkpointing flag", setattr, module, flag, module.__dict__[flag])
                setattr(module, flag, False)


def _choose_attention(stack: ExitStack) -> None:
    """Use PyTorch's attention during training and the user's choice afterwards.

    Host: modules/sd_hijack.py, ``optimizers`` and ``apply_optimizations``, A1111 1.6.1-1.10.1: the others keep whole
    attention matrices for the backward pass. Without an argument the user's setting is applied.
    """
    from modules import sd_hijack

    hijack = sd_hijack.model_hijack
    found = [item for item in sd_hijack.optimizers if item.name == "sdp" and item.is_available()]
    undo_later(stack, "the attention optimization", hijack.apply_optimizations)
    if found:
        hijack.apply_optimizations(found[0].title())
    else:
        _log.warning("This webui has no sdp attention. Training uses standard attention and needs more memory.")
        sd_hijack.undo_optimizations()
