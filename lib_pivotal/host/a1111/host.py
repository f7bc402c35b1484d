"""An A1111 webui, seen by session, tab and API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.lease import Lent, borrow
from lib_pivotal.host.a1111.obstacles import find_obstacles
from lib_pivotal.host.a1111.sample import forget_conds
from lib_pivotal.host.webui import folders
from lib_pivotal.host.webui.lora_extension import list_files_again
from lib_pivotal.host.webui.progress import WebuiProgress, exclusive, holding_queue
from lib_pivotal.host.webui.replaced_loras import forget_file

__all__ = ["A1111Host"]


class A1111Host:
    """Implements ``app.ports.AppHost`` for A1111 1.6.1 to 1.10.1.

    Args:
        version: the webui's version for people, e.g. ``1.10.1``.
    """

    def __init__(self, version: str) -> None:
        self.name = f"A1111 {version}".strip()

    def lora_folder(self) -> Path:
        """Where bundles go so that ``<lora:NAME:1>`` finds them."""
        return folders.lora_folder()

    def data_root(self) -> Path:
        """Our own folder for runs, presets and caches."""
        return folders.data_folder()

    def taken_names(self) -> dict[str, str]:
        """Names of installed embeddings, lower case → file name.

        Embeddings that a LoRA file brought along are not in it: the bundle of an earlier run may be trained again.

        Host: modules/textual_inversion/textual_inversion.py, ``word_embeddings``, A1111 1.6.1-1.10.1: bundled ones have
        no ``filename``.
        """
        from modules import sd_hijack

        known = list(sd_hijack.model_hijack.embedding_db.word_embeddings.items())
        return {
            name.lower(): Path(embedding.filename).name
            for name, embedding in known
            if getattr(embedding, "filename", None)
        }

    def tokenizer(self) -> Callable[[str], list[int]] | None:
        """Ids of a text under the loaded model's tokenizer, or None while no model is loaded.

        Host: modules/sd_hijack_clip.py, ``tokenize``, A1111 1.6.1-1.10.1: takes a list, adds no start and end. SDXL's
        conditioner has none (modules/sd_models_xl.py gives it one from 1.7).
        """
        from modules import sd_models

        model = sd_models.model_data.sd_model
        encoder = getattr(model, "cond_stage_model", None)
        if encoder is None or not hasattr(encoder, "tokenize"):
            return None
        return lambda text: list(encoder.tokenize([text])[0])

    def problems(self, config: TrainConfig) -> list[Problem]:
        """Why training cannot start on this webui now."""
        return find_obstacles(config)

    def exclusive(self, task_id: str) -> AbstractContextManager[WebuiProgress]:
        """Wait in the webui's queue, then hold it; the sink feeds the webui's progress bar."""
        return exclusive(task_id)

    def borrow(self, config: TrainConfig, control: Control) -> AbstractContextManager[Lent]:
        """Lend the model, prepared for training; call within :meth:`exclusive`.

        Raises:
            HostError: the model cannot be trained.
        """
        return borrow(config, control)

    def bundle_written(self, path: Path) -> None:
        """Make a new or replaced bundle known to the Lora list, also where its old weights were in use.

        Waits for the queue unless the calling thread holds it.
        """
        with _queue():
            forget_file(path)
            list_files_again()
            forget_conds()


@contextlib.contextmanager
def _queue() -> Iterator[None]:
    """The webui's queue lock, which is not re-entrant."""
    from modules import call_queue

    if holding_queue():
        yield
        return
    with call_queue.queue_lock:
        yield
