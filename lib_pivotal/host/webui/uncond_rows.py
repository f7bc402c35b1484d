"""Which rows of the UNet's batch belong to the negative prompt of a generation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib_pivotal.core.negative_rows import NegativeRows, set_negative_rows

__all__ = ["denoising", "negative_rows_found"]

_log = logging.getLogger("pivotal.uncond_rows")
_latest: list[Any] = []
"""Empty, or what the webui said about the denoising step that it is in."""
_watched: list[Any] = []
"""The UNets on which negative rows are to be found; usually none."""


def denoising(params: Any) -> None:
    """Take note of a denoising step; to be registered with the webui's callback of this name.

    Host: modules/script_callbacks.py, ``on_cfg_denoiser``, A1111 1.6.1-1.10.1: called before the UNet, with the
        encodings of the prompts, which callbacks may replace.
    """
    if _watched:
        _latest[:] = [params]


@contextlib.contextmanager
def negative_rows_found(unet: Any) -> Iterator[None]:
    """Within the context, adapters for negative rows act on those of the negative prompt.

    Args:
        unet: the UNet of the loaded model.

    Host: modules/sd_samplers_cfg_denoiser.py, ``forward``, A1111 1.6.1-1.10.1: calls the UNet's wrapper, which calls
        the UNet itself as a module, with the latents first and the encoding as ``context``.
    """

    def before(_module: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        set_negative_rows(_guarded(arguments, options))

    def after(*_: Any) -> None:
        set_negative_rows(None)

    handles = [unet.register_forward_pre_hook(before, with_kwargs=True), unet.register_forward_hook(after)]
    _watched.append(unet)
    try:
        yield
    finally:
        _watched.pop()
        if not _watched:
            # It holds tensors of the last generation.
            _latest.clear()
        for handle in handles:
            handle.remove()
        set_negative_rows(None)


def _guarded(arguments: Sequence[Any], options: Mapping[str, Any]) -> NegativeRows | None:
    try:
        return _found(arguments, options)
    except Exception:
        # Another extension may call the UNet in a way of its own, and nothing here may stop a generation.
        _log.debug("the rows of the negative prompt are not known", exc_info=True)
        return None


def _found(arguments: Sequence[Any], options: Mapping[str, Any]) -> NegativeRows | None:
    """The rows of the negative prompt; None if there are none, or if it is not certain which they are.

    Host: backend/sampling/sampling_function.py, ``compute_cond_mark``, Forge: ``cond_or_uncond`` has 0 or 1 for each of
        equally large parts of the batch; in reForge likewise.
    Host: modules/sd_samplers_cfg_denoiser.py, ``forward``, A1111 1.6.1-1.10.1: the rows of the negative prompt come
        last; they have a call of their own with ``batch_cond_uncond`` off and for encodings of different lengths, and
        none where guidance is skipped. The lengths may have been made equal.
    """
    count = len(arguments[0])
    parts = list((options.get("transformer_options") or {}).get("cond_or_uncond") or ())
    if parts:
        size = count // len(parts)
        first, number = parts.index(1) if 1 in parts else 0, parts.count(1)
        is_one_block = parts[first : first + number] == [1] * number and size * len(parts) == count
        return NegativeRows(first * size, (first + number) * size) if number and is_one_block else None
    if not _latest:
        return None
    cond, uncond = _text(_latest[0].text_cond), _text(_latest[0].text_uncond)
    if count == len(cond) + len(uncond):
        return NegativeRows(len(cond), count)
    context = options.get("context")
    if context is None or count != len(uncond):
        return None
    # Only here the CPU waits for the GPU.
    length = min(context.shape[1], uncond.shape[1])
    is_negative = bool((context[:, :length] == uncond[:, :length].to(context)).all())
    return NegativeRows(0, count) if is_negative else None


def _text(encoding: Any) -> Any:
    """Host: modules/sd_models_xl.py, ``get_learned_conditioning``, A1111 1.6.1-1.10.1: a dictionary for SDXL."""
    return encoding["crossattn"] if isinstance(encoding, Mapping) else encoding
