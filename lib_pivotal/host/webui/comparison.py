"""The images of a comparison, made by the webui's own txt2img with tags of LoRAs."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.ports import Sample, SampleRequest
from lib_pivotal.host.webui.checkpoint_choice import family_to_train
from lib_pivotal.host.webui.lora_extension import find_file, list_files_again
from lib_pivotal.host.webui.txt2img import (
    forget_conds,
    generate,
    make_task,
    pinned_options,
    same_prompt_history,
    was_interrupted,
)

__all__ = ["WebuiComparison"]

_NOT_IN_TAGS = frozenset(":<>,=")


class WebuiComparison:
    """Implements ``app.ports.ComparisonHost``.

    Args:
        family_of: family of the webui's model.
        load_checkpoint: loads a checkpoint by its title, empty for the selected one, and leaves the user's selection as
            it is; returns the webui's record.
        same_checkpoint: after this context, the checkpoint that was loaded before is loaded again.
        runner: gives the scripts of a generation; None where the webui does without.
    """

    def __init__(
        self,
        family_of: Callable[[Any], str],
        load_checkpoint: Callable[[str], Any],
        same_checkpoint: Callable[[], AbstractContextManager[None]],
        runner: Callable[[], Any] | None = None,
    ) -> None:
        self._family_of = family_of
        self._load_checkpoint = load_checkpoint
        self._same_checkpoint = same_checkpoint
        self._runner = runner

    def checkpoints(self) -> list[str]:
        """Titles of all checkpoints, as the webui lists them."""
        from modules import sd_models

        return [info.title for info in list(sd_models.checkpoints_list.values())]

    def selected_checkpoint(self) -> str:
        """Title of the selected checkpoint; empty if there is none."""
        from modules import sd_models, shared

        info = sd_models.checkpoint_aliases.get(getattr(shared.opts, "sd_model_checkpoint", None))
        return str(info.title) if info is not None else ""

    def family(self, checkpoint: str) -> str:
        """Title of a checkpoint's family; empty if it is not known.

        Args:
            checkpoint: its title; empty for the selected one.
        """
        name = family_to_train(TrainConfig(checkpoint=checkpoint), self._family_of)
        return FAMILIES[name].title if name in FAMILIES else ""

    def label_of(self, path: Path) -> str:
        """The name that stands for a file in ``<lora:NAME:1>``.

        Raises:
            HostError: there is none; the message says why.

        Host: modules/extra_networks.py, ``parse_prompt``, A1111 1.6.1-1.10.1: a tag ends at ``>``, its parts at ``:``.
        """
        label = path.stem
        if _NOT_IN_TAGS & set(label):
            text = f"The name of {path.name} cannot be written in a prompt, because of one of the characters : < > , =."
            raise HostError(text, hint="Rename the file.")
        if find_file(label) is None:
            list_files_again()
        found = find_file(label)
        if found is None:
            raise HostError(f"The webui does not list {path.name}.", hint="Move it to the webui's Lora folder.")
        if os.path.realpath(found) != os.path.realpath(path):
            text = f"In prompts, {label} is another file: {found}."
            raise HostError(text, hint="Rename one of the two files, and refresh the list.")
        return label

    def output_folder(self) -> Path:
        """Where the webui puts grids, as an absolute path.

        Host: modules/shared_options.py, ``outdir_grids``, ``outdir_txt2img_grids``, A1111 1.6.1-1.10.1: the first one
            is used if it is not empty; relative to the webui's working directory.
        """
        from modules import shared

        chosen = getattr(shared.opts, "outdir_grids", "") or getattr(shared.opts, "outdir_txt2img_grids", "")
        return Path(chosen or "outputs/txt2img-grids").absolute()

    def images(
        self, requests: Sequence[tuple[str, SampleRequest]], should_stop: Callable[[], bool]
    ) -> Generator[Sample, None, None]:
        """Make images one after the other; ends early when it is stopped or interrupted. Call within the webui's queue.

        Afterwards the checkpoint that was loaded before is loaded again. Close the iterator for that.

        Args:
            requests: checkpoint (its title; empty for the selected one) and image, in the order to make them.
            should_stop: asked before each image.

        Raises:
            HostError: a checkpoint cannot be loaded, or the webui could not make an image.

        Host: modules/processing.py, ``cached_params``, ``extra_network_data``, and modules/extra_networks.py,
            ``ExtraNetworkParams.__eq__``, A1111 1.6.1-1.10.1: kept encodings belong to the tags of their prompt,
            compared by content, so that each part has its own.
        """
        from modules import shared

        with ExitStack() as stack:
            stack.enter_context(same_prompt_history())
            stack.enter_context(self._same_checkpoint())
            stack.callback(forget_conds)
            forget_conds()
            # Host: modules/shared_state.py, ``State.job_count``, ``State.nextjob``, A1111 1.6.1-1.10.1: each generation
            # counts itself as one job.
            shared.state.job_count = len(requests)
            for number, (checkpoint, request) in enumerate(requests, start=1):
                if should_stop() or was_interrupted():
                    return
                shared.state.textinfo = f"Comparison: image {number} of {len(requests)}"
                made = self._make(checkpoint, request)
                if made is None:
                    return
                yield made

    def _make(self, checkpoint: str, request: SampleRequest) -> Sample | None:
        from modules import shared

        with pinned_options(_options(request)):
            info = self._load_checkpoint(checkpoint)
            # The generation itself loads the selected one, if another one is loaded.
            with pinned_options({"sd_model_checkpoint": info.title}):
                task = make_task(request, shared.sd_model, self._runner)
                made = generate(task, "an image", "See the webui's console for details.")
        return made and Sample(made.image, _with_tags(made.infotext, request.prompt))

    def interrupt(self, task_id: str) -> None:
        """End the image that is being made, if the webui is working on this task.

        Host: modules/progress.py, ``current_task``, A1111 1.6.1-1.10.1: the task whose progress is shown.
        """
        from modules import progress, shared

        if progress.current_task == task_id:
            shared.state.interrupt()

    def draw(self, images: Sequence[Image.Image], columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Image.Image:
        """One image with titles above the columns and in front of the rows.

        Args:
            images: row by row, all of the same size.
            columns: titles.
            rows: lines of each row's title.

        Host: modules/images.py, ``image_grid``, ``draw_grid_annotations``, ``GridAnnotation``, A1111 1.6.1-1.10.1: a
            list of lines for each column and each row; width and height are those of one image.
        """
        from modules import images as webui_images

        def title(lines: Sequence[str]) -> list[Any]:
            return [webui_images.GridAnnotation(line) for line in lines]

        grid = webui_images.image_grid(list(images), rows=len(rows))
        width, height = images[0].size
        titles = [title([text]) for text in columns], [title(lines) for lines in rows]
        drawn: Image.Image = webui_images.draw_grid_annotations(grid, width, height, *titles)
        return drawn


def _with_tags(infotext: str, prompt: str) -> str:
    """The infotext with the prompt as it was given.

    Host: modules/processing.py, ``process_images_inner``, A1111 1.6.1-1.10.1: without scripts, the prompt is written
        without its tags.
    """
    from modules import extra_networks

    bare = str(extra_networks.parse_prompt(prompt)[0]).strip()
    return prompt + infotext.removeprefix(bare) if infotext.startswith(bare) else infotext


def _options(request: SampleRequest) -> dict[str, Any]:
    """Settings of the user that would make all images alike, or unlike those of the run.

    Host: extensions-builtin/Lora/scripts/lora_script.py, ``sd_lora``, A1111 1.6.1-1.10.1: a LoRA that is added to every
        prompt.
    """
    options: dict[str, Any] = {"sd_lora": "None", "pivotal_loader": True}
    if request.clip_skip:
        options["CLIP_stop_at_last_layers"] = request.clip_skip
    return options
