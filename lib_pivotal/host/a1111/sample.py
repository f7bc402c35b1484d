"""Preview images made with the webui's own txt2img during training."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np
import torch

from lib_pivotal.core.ports import LiveEmbeddings, Sample, SampleRequest
from lib_pivotal.host.a1111.family import unet_of
from lib_pivotal.host.a1111.low_memory import LowMemoryMode
from lib_pivotal.host.a1111.txt2img import (
    forget_conds,
    generate,
    make_task,
    pinned_options,
    same_prompt_history,
)
from lib_pivotal.host.offload import Offloading
from lib_pivotal.host.webui.uncond_rows import negative_rows_found

__all__ = ["A1111Sampler"]

_STATE = (
    "skipped",
    "job",
    "job_no",
    "job_count",
    "job_timestamp",
    "processing_has_refined_job_count",
    "sampling_step",
    "sampling_steps",
    "current_latent",
    "current_image_sampling_step",
    "textinfo",
    "time_start",
)
"""Host: modules/shared_state.py, ``State``, A1111 1.6.1-1.10.1: what a generation writes. The interrupt flags are not
listed, so that an Interrupt during a preview is not lost."""


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
            stack.enter_context(_same_random_state(self._borrowed.device))
            stack.enter_context(_same_progress())
            stack.enter_context(pinned_options(self._options(request)))
            stack.enter_context(same_prompt_history())
            stack.enter_context(_registered(self._model, embeddings))
            stack.enter_context(self._parts_placed())
            stack.enter_context(negative_rows_found(unet_of(self._model)))
            stack.callback(forget_conds)
            forget_conds()
            task = make_task(request, self._model, do_not_reload_embeddings=True, disable_extra_networks=True)
            return generate(task, "a preview", "Training continues.")

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


@contextlib.contextmanager
def _same_random_state(device: torch.device) -> Iterator[None]:
    """Host: modules/rng.py, ``manual_seed``, A1111 1.6.1-1.10.1: seeds torch's global generator."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    kept_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])
        if kept_device is not None:
            torch.cuda.set_rng_state(kept_device, device)


@contextlib.contextmanager
def _same_progress() -> Iterator[None]:
    from modules import shared

    state = shared.state
    kept = {name: getattr(state, name) for name in _STATE if hasattr(state, name)}
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(state, name, value)


@contextlib.contextmanager
def _registered(model: Any, embeddings: LiveEmbeddings) -> Iterator[None]:
    """Within the context ``embeddings`` work in prompts; installed ones with the same name are set aside.

    Host: modules/textual_inversion/textual_inversion.py, ``Embedding``, A1111 1.6.1-1.10.1: one that is not loaded from
    a file must be given ``vectors`` (with 0 the name disappears from the prompt) and ``filename`` (None breaks the page
    of cards).
    """
    from modules import sd_hijack
    from modules.textual_inversion import textual_inversion

    database = sd_hijack.model_hijack.embedding_db
    aside: list[Any] = []
    ours: list[Any] = []
    try:
        for name, parts in embeddings.items():
            ids = model.cond_stage_model.tokenize([name])[0]
            for other_ids, other in list(database.ids_lookup.get(ids[0], [])):
                if list(other_ids) == list(ids):
                    aside.append(other)
                    database.register_embedding_by_name(None, model, other.name)
            vectors = {encoder: values.detach().float().clone() for encoder, values in parts.items()}
            # For a model with one encoder the webui expects the tensor itself.
            vec: Any = vectors if len(vectors) > 1 else next(iter(vectors.values()))
            embedding = textual_inversion.Embedding(vec, name)
            embedding.vectors = len(next(iter(vectors.values())))
            embedding.shape = sum(values.shape[1] for values in vectors.values())
            embedding.filename = f"{name}.safetensors"
            ours.append(embedding)
            database.register_embedding(embedding, model)
        yield
    finally:
        for embedding in ours:
            if database.word_embeddings.get(embedding.name) is embedding:
                database.register_embedding_by_name(None, model, embedding.name)
        for other in aside:
            if other.name not in database.word_embeddings:
                database.register_embedding(other, model)
