"""Preview images made with the webui's own txt2img during training."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import LiveEmbeddings, Offloading, Sample, SampleRequest

__all__ = ["A1111Sampler", "forget_conds"]

_SAMPLER = "Euler"
"""In every version, deterministic, and its images change smoothly with the model."""

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
    """

    def __init__(self, model: Any, borrowed: _BorrowedModel) -> None:
        self._model = model
        self._borrowed = borrowed

    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one image whose prompt may name ``embeddings``; None when it was interrupted.

        Leaves random state, progress state, settings and caches of the webui as they were.

        Raises:
            HostError: the webui could not make the image.

        Host: modules/processing.py, ``process_images``, A1111 1.6.1-1.10.1: with ``scripts`` None no other
        extension's script runs, and with ``disable_extra_networks`` no LoRA is merged into the weights.
        """
        from modules import processing

        with ExitStack() as stack:
            stack.enter_context(_same_random_state(self._borrowed.device))
            stack.enter_context(_same_progress())
            stack.enter_context(_pinned_options(self._options(request)))
            stack.enter_context(_same_prompt_history())
            stack.enter_context(_registered(self._model, embeddings))
            stack.enter_context(self._borrowed.offloading.on_device("vae"))
            stack.enter_context(self._borrowed.offloading.on_device("text_encoders"))
            stack.callback(forget_conds)
            forget_conds()
            task = processing.StableDiffusionProcessingTxt2Img(
                sd_model=self._model,
                prompt=request.prompt,
                negative_prompt=request.negative_prompt,
                seed=request.seed,
                sampler_name=_SAMPLER,
                batch_size=1,
                n_iter=1,
                steps=request.steps,
                cfg_scale=request.cfg_scale,
                width=request.width,
                height=request.height,
                restore_faces=False,
                tiling=False,
                do_not_save_samples=True,
                do_not_save_grid=True,
                do_not_reload_embeddings=True,
                disable_extra_networks=True,
            )
            # Host: modules/processing.py, ``scheduler``, A1111 1.9-1.10.1: without it each generation logs a warning.
            if hasattr(task, "scheduler"):
                task.scheduler = "Automatic"
            try:
                with contextlib.closing(task), torch.no_grad():
                    result = processing.process_images(task)
            except Exception as error:
                if _was_interrupted():
                    # Host: modules/processing.py, ``process_images_inner``, A1111 1.6.1: fails on an image that was
                    # interrupted before its first step.
                    return None
                # Nothing that the webui or another extension raises here may end the training.
                raise HostError(f"The webui could not make a preview: {error}", hint="Training continues.") from error
            if _was_interrupted() or not result.images:
                return None
            first = result.index_of_first_image
            return Sample(result.images[first], str(result.infotexts[first]))

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


def _was_interrupted() -> bool:
    """Whether the user has pressed Interrupt or Skip."""
    from modules import shared

    state = shared.state
    return bool(state.interrupted or state.skipped or getattr(state, "stopping_generation", False))


def forget_conds() -> None:
    """Empty the webui's caches of encoded prompts.

    Host: modules/processing.py, ``cached_c``, ``cached_uc``, ``cached_hr_c``, ``cached_hr_uc``, A1111 1.6.1-1.10.1:
    lists on the classes, reused by each new task.
    """
    from modules import processing

    for owner, names in (
        (processing.StableDiffusionProcessing, ("cached_c", "cached_uc")),
        (processing.StableDiffusionProcessingTxt2Img, ("cached_hr_c", "cached_hr_uc")),
    ):
        for name in names:
            setattr(owner, name, [None, None])


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
def _pinned_options(values: Mapping[str, Any]) -> Iterator[None]:
    """Within the context settings have other values; no callbacks run, and the user's own changes are kept.

    Host: modules/options.py, ``Options.data``, A1111 1.6.1-1.10.1: setting an option any other way runs callbacks that
    wait for the queue that we hold, and fails with ``--freeze-settings``.
    """
    from modules import shared

    data = shared.opts.data
    missing = object()
    kept = {}
    for name, value in values.items():
        if name in data or name in shared.opts.data_labels:
            kept[name] = data.get(name, missing)
            data[name] = value
    try:
        yield
    finally:
        for name, old in kept.items():
            if data.get(name) != values[name]:
                continue
            if old is missing:
                del data[name]
            else:
                data[name] = old


@contextlib.contextmanager
def _same_prompt_history() -> Iterator[None]:
    """Keep the prompt and settings of the user's last generation.

    Host: modules/processing.py, ``process_images_inner``, A1111 1.6.1-1.10.1: each generation replaces ``params.txt``
    in the data folder, from which the page restores the last prompt. Only versions from 1.9 have a flag against it.
    """
    from modules import paths

    history = Path(paths.data_path) / "params.txt"
    kept = history.read_bytes() if history.exists() else None
    try:
        yield
    finally:
        if kept is not None:
            history.write_bytes(kept)
        else:
            history.unlink(missing_ok=True)


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
