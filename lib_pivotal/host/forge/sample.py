"""Preview images made with Forge's own txt2img during training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from lib_pivotal.core.ports import LiveEmbeddings, Sample, SampleRequest
from lib_pivotal.host.forge.family import text_engines, unet_of
from lib_pivotal.host.forge.memory import ForgeMemory
from lib_pivotal.host.webui.preview import unnoticed
from lib_pivotal.host.webui.preview_embeddings import registered
from lib_pivotal.host.webui.txt2img import generate, make_task
from lib_pivotal.host.webui.uncond_rows import negative_rows_found

__all__ = ["ForgeSampler"]


class ForgeSampler:
    """Makes previews; implements ``core.ports.SampleMaker``. An attached LoRA acts through its hooks.

    Args:
        engine: Forge's model.
        memory: takes the model back after Forge has worked with it.
    """

    def __init__(self, engine: Any, memory: ForgeMemory) -> None:
        self._engine = engine
        self._memory = memory
        self._device = next(unet_of(engine).parameters()).device

    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one image whose prompt may name ``embeddings``; None when it was interrupted.

        Leaves random state, progress state, settings and caches of the webui as they were.

        Raises:
            HostError: the webui could not make the image, or there is too little memory left to continue.

        Host: modules/processing.py, ``process_images``, Forge: with ``disable_extra_networks`` no LoRA is merged.
        """
        with ExitStack() as stack:
            stack.callback(self._memory.settle)
            stack.enter_context(unnoticed(_options(request), self._device))
            stack.enter_context(self._registered(embeddings))
            stack.enter_context(_same_model(self._engine))
            stack.enter_context(negative_rows_found(unet_of(self._engine)))
            task = make_task(request, self._engine, disable_extra_networks=True)
            return generate(task, "a preview", "Training continues.")

    def _registered(self, embeddings: LiveEmbeddings) -> contextlib.AbstractContextManager[None]:
        """Within the context ``embeddings`` work in prompts.

        Host: backend/text_processing/textual_inversion.py, ``EmbeddingDatabase``, Forge: one per text engine; its
            functions take no model.
        """
        from backend.text_processing import textual_inversion

        engines = text_engines(self._engine)

        def tokenize(texts: list[str]) -> Any:
            return engines[0].tokenizer(texts, truncation=False, add_special_tokens=False)["input_ids"]

        stores = [engine.embeddings for engine in engines]
        return registered(stores, embeddings, tokenize, textual_inversion.Embedding)


def _options(request: SampleRequest) -> dict[str, Any]:
    """Settings that must not change during a preview."""
    return {
        "CLIP_stop_at_last_layers": request.clip_skip,
        "sdxl_crop_top": 0,
        "sdxl_crop_left": 0,
        "live_previews_enable": False,
        "return_grid": False,
    }


@contextlib.contextmanager
def _same_model(engine: Any) -> Iterator[None]:
    """Within the context a generation loads no other model and unloads nothing, whatever is chosen on the page.

    Host: modules/processing.py, ``manage_model_and_prompt_cache``, ``need_global_unload``, Forge: opening the page, or
        choosing another checkpoint there, makes the next generation unload everything and load what is selected, which
        would drop the model that is being trained. ``forge_model_reload`` is called by both names, and returns the
        model and whether it was loaded.
    """
    from modules import processing, sd_models

    kept = sd_models.forge_model_reload, processing.forge_model_reload, processing.need_global_unload

    def keep() -> tuple[Any, bool]:
        return engine, False

    sd_models.forge_model_reload = processing.forge_model_reload = keep
    processing.need_global_unload = False
    try:
        yield
    finally:
        sd_models.forge_model_reload, processing.forge_model_reload = kept[:2]
        # What the user did meanwhile counts too.
        processing.need_global_unload = kept[2] or processing.need_global_unload
