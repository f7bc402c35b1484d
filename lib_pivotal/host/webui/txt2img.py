"""The webui's own txt2img, for previews and comparisons: makes an image and changes nothing of the user's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import Sample, SampleRequest

__all__ = [
    "forget_conds",
    "generate",
    "make_task",
    "pinned_options",
    "same_prompt_history",
    "was_interrupted",
]

_SAMPLER = "Euler"
"""In every version, deterministic, and its images change smoothly with the model."""


def make_task(request: SampleRequest, model: Any, runner: Callable[[], Any] | None = None, **options: Any) -> Any:
    """The webui's description of one image; nothing is saved, and no script of another extension runs.

    Args:
        request: what to make.
        model: the webui's model.
        runner: gives the scripts of the task; None for a webui that does without.
        options: further fields.

    Host: modules/processing.py, ``StableDiffusionProcessing``, A1111 1.6.1-1.10.1, Forge: with ``scripts`` None no
        script runs.
    """
    from modules import processing

    task = processing.StableDiffusionProcessingTxt2Img(
        sd_model=model,
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
        **options,
    )
    # Host: modules/processing.py, ``scheduler``, A1111 1.9-1.10.1: without it each generation logs a warning.
    if hasattr(task, "scheduler"):
        task.scheduler = "Automatic"
    if runner is not None:
        task.scripts = runner()
        task.script_args = []
    return task


def generate(task: Any, what: str, hint: str) -> Sample | None:
    """Make the image of a task; None when it was interrupted.

    Args:
        task: see :func:`make_task`.
        what: what is being made, for the message.
        hint: what a failure means for the user.

    Raises:
        HostError: the webui could not make the image.
    """
    from modules import processing

    try:
        with contextlib.closing(task), torch.no_grad():
            result = processing.process_images(task)
    except Exception as error:
        if was_interrupted():
            # Host: modules/processing.py, ``process_images_inner``, A1111 1.6.1: fails on an image that was
            # interrupted before its first step.
            return None
        # Whatever the webui or another extension raises here, it must not end the caller's work.
        raise HostError(f"The webui could not make {what}: {error}", hint=hint) from error
    if was_interrupted() or not result.images:
        return None
    first = result.index_of_first_image
    return Sample(result.images[first], str(result.infotexts[first]))


@contextlib.contextmanager
def pinned_options(values: Mapping[str, Any]) -> Iterator[None]:
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
def same_prompt_history() -> Iterator[None]:
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


def was_interrupted() -> bool:
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
