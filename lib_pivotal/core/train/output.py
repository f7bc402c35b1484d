"""What a run produces: bundles, states and sample pictures."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_pivotal.core.bundle.file import free_name, write_bundle
from lib_pivotal.core.bundle.metadata import build_metadata, trigger_words
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket import bucket_for
from lib_pivotal.core.errors import BundleError, PivotalError
from lib_pivotal.core.events import Event, SampleReady, Saved, Warned
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.ports import SampleMaker, SampleRequest
from lib_pivotal.core.train.own_files import OwnFiles
from lib_pivotal.core.train.setup import Setup
from lib_pivotal.core.train.state import State, save_state

__all__ = ["Folders", "Output", "load_state", "sample_prompts"]

logger = logging.getLogger("pivotal.output")

_OPTIMIZER = "optimiser/"
"""Prefix of the optimizer's tensors in state files; the spelling of the first release, which must stay readable."""


@dataclass(frozen=True)
class Folders:
    """Where a run writes.

    Attributes:
        run: its own folder (exists): config.json, loss.csv, samples/, states/.
        bundles: where the bundle goes.
        cache: stored latents, shared by all runs.
    """

    run: Path
    bundles: Path
    cache: Path


def sample_prompts(config: TrainConfig) -> list[str]:
    """The preview prompts: as given, one a line, or each concept's name."""
    given = [line.strip() for line in config.sample_prompts.splitlines() if line.strip()]
    return given or [concept.name for concept in config.concepts]


class Output:
    """Writes what the loop asks for; only the first process has one.

    Args:
        setup: the run.
        folders: where to write.
        sampler: makes preview pictures; None makes none.
        emit: takes events.
        earlier: state of the attempt that is being resumed; None for a new run.
    """

    def __init__(
        self,
        setup: Setup,
        folders: Folders,
        sampler: SampleMaker | None,
        emit: Callable[[Event], None],
        earlier: State | None,
    ) -> None:
        self._setup = setup
        self._folders = folders
        self._sampler = sampler
        self._emit = emit
        self._cover: Image.Image | None = None
        config = setup.config
        self._overwrites = config.if_exists == "overwrite"
        # States of earlier releases do not say what their run wrote.
        self._own = OwnFiles(earlier.facts.get("written", {}) if earlier is not None else {})
        if earlier is not None:
            self.bundle_path = Path(earlier.facts["bundle_path"])
        else:
            path = folders.bundles / f"{config.output_name}.safetensors"
            self.bundle_path = free_name(path) if config.if_exists == "number" else path

    def facts(self) -> dict[str, Any]:
        """What a resumed run is compared with, and where it wrote."""
        return {
            "config": to_dict(self._setup.config),
            "data": self._setup.data_digest,
            "model": self._setup.model.model_hash,
            "bundle_path": str(self.bundle_path),
            "written": self._own.facts(),
        }

    def save(self, step: int, *, final: bool) -> Path:
        """Write the bundle, then the state, which is larger and of less use where the disk is full.

        Raises:
            BundleError: the bundle cannot be written; the state has been tried all the same.
        """
        try:
            return self._save_bundle(step, final=final)
        finally:
            self._save_state(step)

    def try_to_save(self, step: int, *, final: bool) -> None:
        """The same where a failure is told and ends nothing."""
        try:
            self.save(step, final=final)
        except BundleError as error:
            logger.warning("no bundle at step %d", step, exc_info=True)
            self._emit(Warned(str(error)))

    def _may_write(self, path: Path) -> bool:
        return self._overwrites or not path.exists() or self._own.has(path)

    def _target(self, step: int, *, final: bool) -> Path:
        """Where the bundle goes: its own name, with the step in it when it is not the last; never over foreign work."""
        path = self.bundle_path
        if not final:
            path = path.with_name(f"{path.stem}-{step:06d}{path.suffix}")
        if self._may_write(path):
            return path
        free = free_name(path)
        self._emit(Warned(f"{path.name} is there already and is not this run's, so the bundle is {free.name}."))
        return free

    def _save_bundle(self, step: int, *, final: bool) -> Path:
        path = self._target(step, final=final)
        if final:
            self.bundle_path = path
        setup, config = self._setup, self._setup.config
        embeddings = setup.embeddings()
        lora: dict[str, torch.Tensor] = {}
        for part in setup.adapters:
            lora.update(part.state_dict())
        metadata = build_metadata(
            config,
            embeddings,
            family=setup.model.family,
            step=step,
            output_name=path.stem,
            model_name=setup.model.model_name,
            model_hash=setup.model.model_hash,
            is_v_prediction=setup.model.is_v_prediction,
            picture_count=setup.picture_count,
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            covers=[self._cover] if self._cover is not None else (),
        )
        written = write_bundle(
            path,
            lora,
            embeddings,
            metadata,
            words=trigger_words(config),
            title=FAMILIES[setup.model.family].title,
            lora_dtype=torch.float32 if config.save_precision == "fp32" else torch.float16,
            preview=self._cover,
            overwrite=path.exists(),
            replace_preview=self._may_write(path.with_suffix(".png")),
        )
        for item in written:
            self._own.note(item)
        self._emit(Saved(step, "bundle", path))
        return path

    def _save_state(self, step: int) -> None:
        """Write the resume state into the run folder; without one the run goes on all the same."""
        setup = self._setup
        tensors = {f"{_OPTIMIZER}{key}": value for key, value in setup.optimizer.state_tensors().items()}
        tensors.update({f"lora/{part.part}": part.flat.values.detach().cpu().clone() for part in setup.adapters})
        tensors.update({f"table/{name}": table.weight.detach().cpu().clone() for name, table in setup.tables.items()})
        state = State(step, tensors, self.facts())
        try:
            path = save_state(self._folders.run / "states", state, setup.config.keep_states)
        except PivotalError as error:
            logger.warning("no state at step %d", step, exc_info=True)
            self._emit(Warned(str(error)))
        else:
            self._emit(Saved(step, "state", path))

    def make_samples(self, step: int) -> None:
        """Make the preview pictures; a failure is told and does not end the run."""
        if self._sampler is None:
            return
        embeddings = self._setup.embeddings()
        for index, request in enumerate(self._requests()):
            try:
                sample = self._sampler.make(request, embeddings)
            except Exception as error:
                # The host's sampler can fail in any way; the training beside it is worth more.
                logger.exception("no preview at step %d", step)
                text = str(error) if isinstance(error, PivotalError) else f"{type(error).__name__}: {error}"
                self._emit(Warned(f"No preview could be made: {text}"))
                return
            if sample is None:
                return
            if index == 0 and step:
                self._cover = sample.image
            self._emit(SampleReady(step, index, request.prompt, sample.image, sample.infotext))

    def _requests(self) -> list[SampleRequest]:
        config = self._setup.config
        width, height = bucket_for(1, 1, config.resolution)
        return [
            SampleRequest(
                prompt=prompt,
                negative_prompt=config.sample_negative,
                width=width,
                height=height,
                steps=config.sample_steps,
                cfg_scale=config.sample_cfg,
                seed=config.sample_seed,
                clip_skip=config.clip_skip,
            )
            for prompt in sample_prompts(config)
        ]


def load_state(setup: Setup, state: State) -> None:
    """Put a state's values into a freshly built run."""
    with torch.no_grad():
        for part in setup.adapters:
            part.flat.values.copy_(state.tensors[f"lora/{part.part}"])
        for name, table in setup.tables.items():
            table.weight.copy_(state.tensors[f"table/{name}"])
    setup.optimizer.load_state_tensors(
        {key[len(_OPTIMIZER) :]: value for key, value in state.tensors.items() if key.startswith(_OPTIMIZER)}
    )
