"""Preview images made with the webui's own txt2img during training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import torch

from lib_pivotal.core.ports import LiveEmbeddings, Sample, SampleRequest
from lib_pivotal.host.a1111.family import unet_of
from lib_pivotal.host.a1111.low_memory import LowMemoryMode
from lib_pivotal.host.offload import Offloading
from lib_pivotal.host.webui.preview import unnoticed
from lib_pivotal.host.webui.preview_embeddings import registered
from lib_pivotal.host.webui.txt2img import generate, make_task
from lib_pivotal.host.webui.uncond_rows import negative_rows_found

__all__ = ["A1111Sampler"]


class _BorrowedModel(Protocol):
    """What the sampler needs from the borrowed model."""

    device: torch.device
    offloading: Offloading


class A1111Sampler:
    """Makes previews; implements ``core.ports.SampleMaker``. An attached LoRA acts through its hooks.

    Args:
        model: the webui's model.
        borrowed: the same model as the engine sees it.
        low_memory: the suspended low-memory mode of the webui; None without one.
    """

    def __init__(self, model: Any, borrowed: _BorrowedModel, low_memory: LowMemoryMode | None = None) -> None:
        self._model = model
        self._borrowed = borrowed
        self._low_memory = low_memory

    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one image whose prompt may name ``embeddings``; None when it was interrupted.

        Leaves random state, progress state, settings and caches of the webui as they were.

        Raises:
            HostError: the webui could not make the image.

        Host: modules/processing.py, ``process_images``, A1111 1.6.1-1.10.1: with ``disable_extra_networks`` no LoRA is
        merged into the weights.
        """
        with ExitStack() as stack:
            stack.enter_context(unnoticed(self._options(request), self._borrowed.device))
            stack.enter_context(self._registered(embeddings))
            stack.enter_context(self._parts_placed())
            stack.enter_context(negative_rows_found(unet_of(self._model)))
            options = {"do_not_reload_embeddings": True, "disable_extra_networks": True}
            task = make_task(request, self._model, self._scripts, **options)
            return generate(task, "a preview", "Training continues.")

    def _scripts(self) -> Any:
        """The runner of the scripts of a preview: none."""
        return None

    def _registered(self, embeddings: LiveEmbeddings) -> AbstractContextManager[None]:
        from modules import sd_hijack
        from modules.textual_inversion import textual_inversion

        stores = [sd_hijack.model_hijack.embedding_db]
        tokenize = self._model.cond_stage_model.tokenize
        make, device = textual_inversion.Embedding, self._borrowed.device
        return registered(stores, embeddings, tokenize, make, [self._model], device)

    @contextlib.contextmanager
    def _parts_placed(self) -> Iterator[None]:
        """Within the context the webui can generate: all parts are on the device, or its own hooks move them there."""
        offloading = self._borrowed.offloading
        if self._low_memory is None:
            with offloading.on_device("vae"), offloading.on_device("text_encoders"):
                yield
            return
        try:
            with self._low_memory.resumed():
                yield
        finally:
            offloading.move_back()

    def _options(self, request: SampleRequest) -> dict[str, Any]:
        """Settings that must not change during a preview.

        Host: modules/processing.py, ``process_images``, A1111 1.6.1-1.10.1: reloads the model when the selected
        checkpoint or ``fp8_storage`` (from 1.8) differs, and the page changes the selection before its queued callback
        runs. That would load another checkpoint into the model being trained.
        """
        from modules import devices

        return {
            "sd_model_checkpoint": self._model.sd_checkpoint_info.title,
            "fp8_storage": "Enable" if getattr(devices, "fp8", False) else "Disable",
            "sd_unet": "None",
            "CLIP_stop_at_last_layers": request.clip_skip,
            "sdxl_clip_l_skip": False,
            "sdxl_crop_top": 0,
            "sdxl_crop_left": 0,
            "live_previews_enable": False,
            "return_grid": False,
        }
