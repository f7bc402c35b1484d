"""Borrows reForge's model: prepares it for training and restores everything afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.family import require_trainable
from lib_pivotal.host.a1111.lease import freeze, load, refresh_at_the_end, remove_leftovers
from lib_pivotal.host.reforge.memory import release, remove_loras, settle
from lib_pivotal.host.reforge.model import ReforgeModel
from lib_pivotal.host.reforge.sample import ReforgeSampler
from lib_pivotal.host.webui.restoring import stop_live_previews, undo_later

__all__ = ["Borrowed", "borrow"]


class Borrowed(NamedTuple):
    """What the webui lends to a run; has the fields of ``app.ports.Borrowed``, which a host cannot import."""

    model: ReforgeModel
    sampler: ReforgeSampler


@contextlib.contextmanager
def borrow(config: TrainConfig, control: Control) -> Iterator[Borrowed]:
    """Prepare the selected checkpoint for training and lend it. Call while holding the webui's queue lock.

    Every change is undone in reverse order on any kind of exit.

    Raises:
        HostError: the model cannot be trained; nothing was changed except for the choice of checkpoint, which is
            restored.
    """
    with ExitStack() as stack:
        model: Any = load(config.checkpoint, stack)
        require_trainable(model)
        refresh_at_the_end(stack)
        stop_live_previews(stack)
        undo_later(stack, "the placement of the model", release)
        remove_leftovers(model, stack, remove_loras)
        settle(model)
        freeze(model, stack)
        _choose_attention(stack)
        _use_one_stream(stack)
        borrowed = ReforgeModel(model, config, control)
        yield Borrowed(borrowed, ReforgeSampler(model, borrowed))


def _choose_attention(stack: ExitStack) -> None:
    """Use PyTorch's attention during training and the user's choice afterwards.

    Host: ldm_patched/ldm/modules/attention.py, ``optimized_attention``, ``optimized_attention_masked``,
        ``attention_pytorch``, reForge: looked up at each call. With ``--use-sage-attention`` and
        ``--use-flash-attention`` there would be no gradients.
    """
    from ldm_patched.ldm.modules import attention

    for name in ("optimized_attention", "optimized_attention_masked"):
        undo_later(stack, "the attention", setattr, attention, name, getattr(attention, name))
        setattr(attention, name, attention.attention_pytorch)


def _use_one_stream(stack: ExitStack) -> None:
    """Cast weights on the stream of the GPU that uses them.

    Host: ldm_patched/modules/model_management.py, ``NUM_STREAMS``, reForge: with ``--async-offload`` another stream
        casts them, and torch does not know that autograd still reads a copy when its memory is used again. It is looked
        up at each call.
    """
    from ldm_patched.modules import model_management

    if hasattr(model_management, "NUM_STREAMS"):
        undo_later(stack, "the streams", setattr, model_management, "NUM_STREAMS", model_management.NUM_STREAMS)
        model_management.NUM_STREAMS = 1
