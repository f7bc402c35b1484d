"""What a run produces: bundles, states and sample images."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.bundle.metadata import RunFacts, build_metadata, trigger_words
from lib_pivotal.core.bundle.negative_lora import negative_path
from lib_pivotal.core.bundle.writer import WrittenBundle, write_bundle
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.negative import negative_names, negatives_of
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.bucket import bucket_for
from lib_pivotal.core.errors import BundleError, PivotalError
from lib_pivotal.core.events import Event, SampleReady, Saved, Warned
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.lora.kinds import network_module
from lib_pivotal.core.optim.flat import FlatParameters
from lib_pivotal.core.ports import SampleMaker, SampleRequest
from lib_pivotal.core.train.negative_output import write_negative
from lib_pivotal.core.train.own_files import OwnFiles
from lib_pivotal.core.train.run_folder import Folders, step_bundle_path
from lib_pivotal.core.train.setup import Setup
from lib_pivotal.core.train.state import State, save_state

__all__ = ["Output", "compared_facts", "load_state", "mismatch"]

logger = logging.getLogger("pivotal.output")

_OPTIMIZER = "optimiser/"
"""Prefix of the optimizer's tensors in state files; the spelling of the first release, which must stay readable."""


class Output:
    """Writes the files of a run; only the first process has one.

    Args:
        setup: the prepared run.
        folders: where to write.
        sampler: makes preview images; None makes none.
        emit: receives the events.
        earlier: state that the run is resumed from; None for a new run.
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
        self._own = OwnFiles(folders.run, folders.bundles, lambda text: emit(Warned(text)))
        name = config.output_name
        if earlier is not None:
            self._own.load(earlier.facts)
            name = self._own.bundle_name or name
            self._warn_if_moved(earlier.facts)
        path = folders.bundles / f"{name}.safetensors"
        self.bundle_path = free_name(path) if config.if_exists == "number" and earlier is None else path
        self._own.bundle_name = self.bundle_path.stem

    def _warn_if_moved(self, facts: Mapping[str, Any]) -> None:
        """Warn if the bundle is now written to another path; the old path is not used."""
        before = str(Path(facts["bundle_path"]).parent)
        now = str(self._folders.bundles.absolute())
        if Path(before).is_absolute() and before != now:
            self._emit(Warned(f"This run used to write its bundle to {before!r}. It now writes to {now!r}."))

    def save(self, step: int, *, final: bool) -> Path:
        """Write the bundle, then the state, which is larger and matters less if the disk is full.

        Raises:
            BundleError: the bundle cannot be written; saving the state is attempted anyway.
        """
        try:
            path = self._save_bundle(step, final=final)
        except Exception as error:
            is_kept = self._save_state(step)
            if isinstance(error, BundleError) and is_kept:
                text = f"{error.message} The training progress is saved in {self._folders.run}: resume from there."
                raise BundleError(text, hint=error.hint) from error
            raise
        self._save_state(step)
        return path

    def try_to_save(self, step: int, *, final: bool) -> None:
        """Like :meth:`save`, but a failure only gives a warning."""
        try:
            self.save(step, final=final)
        except Exception as error:
            logger.warning("no bundle at step %d", step, exc_info=True)
            self._emit(Warned(_described("The bundle cannot be written", error)))

    def _may_write(self, path: Path) -> bool:
        return self._overwrites or not os.path.lexists(path) or _is_dangling_link(path) or self._own.has(path)

    def _target(self, step: int, *, final: bool) -> Path:
        """Path of the bundle, with the step number unless it is final; never a file that this run did not write."""
        path = self.bundle_path
        if not final:
            path = path.with_name(f"{path.stem}-{step:06d}{path.suffix}")
        if self._may_write(path):
            return path
        free = free_name(path)
        self._emit(
            Warned(f"{path.name} already exists and is not from this run, so the bundle is saved as {free.name}.")
        )
        return free

    def _save_bundle(self, step: int, *, final: bool) -> Path:
        path = self._target(step, final=final)
        if final:
            self.bundle_path = path
            self._own.bundle_name = path.stem
        written = self._write(
            path,
            step,
            words=trigger_words(self._setup.config, self._setup.kept),
            negative_words=", ".join(negatives_of(self._setup.config.concepts, self._setup.kept)),
            preview=self._cover,
            replace_preview=self._may_write(path.with_suffix(".png")),
            claim=self._own.claim,
        )
        for text in written.warnings:
            self._emit(Warned(text))
        if written.path != path:
            # Later saves try the original name again, as the file may be free by then.
            self._own.claim(written.path, written.path)
        self._write_negative(written.path, step, claim=self._own.claim)
        self._emit(Saved(step, "bundle", written.path))
        return written.path

    def _write_negative(self, bundle: Path, step: int, claim: Callable[[Path, Path], None] | None = None) -> None:
        path = negative_path(bundle)
        # In the run's own folder nothing is anybody else's.
        is_taken = bundle.parent == self._folders.bundles and not self._may_write(path)
        free = free_name(path) if is_taken else path
        facts = _run_facts(self._setup, step, free.stem)
        for text in write_negative(self._setup, facts, free, bundle.stem, claim=claim):
            self._emit(Warned(text))

    def _write(self, path: Path, step: int, **options: Any) -> WrittenBundle:
        """Write the current values; ``options`` are those of :func:`write_bundle` that depend on the purpose."""
        setup, config = self._setup, self._setup.config
        embeddings = setup.embeddings()
        lora: dict[str, torch.Tensor] = {}
        with setup.optimizer.averaged():
            for part in setup.adapters:
                if not part.only_negative:
                    lora.update(part.state_dict())
        metadata = build_metadata(
            config,
            embeddings,
            _run_facts(setup, step, path.stem),
            covers=[self._cover] if self._cover is not None else (),
        )
        return write_bundle(
            path,
            lora,
            embeddings,
            metadata,
            title=FAMILIES[setup.model.family].title,
            lora_dtype=torch.float32 if config.save_precision == "fp32" else torch.float16,
            overwrite=path.exists(),
            **options,
        )

    def keep_step(self, step: int) -> None:
        """Write a bundle to choose from into the run folder; a failure only gives a warning."""
        try:
            written = self._write(step_bundle_path(self._folders.run, self.bundle_path.stem, step), step, words=None)
        except Exception as error:
            logger.warning("no bundle to choose at step %d", step, exc_info=True)
            self._emit(Warned(_described("The bundle to choose this step cannot be written", error)))
            return
        self._write_negative(written.path, step)
        self._emit(Saved(step, "step", written.path))

    def _save_state(self, step: int) -> bool:
        """Write the resume state into the run folder; return whether it succeeded. A failure only gives a warning."""
        setup = self._setup
        try:
            facts = {
                **compared_facts(setup),
                "steps": setup.steps,
                "balances": setup.balances,
                "kept": setup.kept,
                "samples_per_step": setup.samples_per_step,
                "bundle_path": str(self.bundle_path.absolute()),
                "written": self._own.facts(),
            }
            state = State(step, _state_tensors(setup), facts)
            path = save_state(self._folders.run / "states", state, setup.config.keep_states)
        except Exception as error:
            logger.warning("no state at step %d", step, exc_info=True)
            self._emit(Warned(_described("The state to resume from cannot be written", error)))
            return False
        self._emit(Saved(step, "state", path))
        return True

    def make_samples(self, step: int) -> None:
        """Make the preview images; a failure only gives a warning."""
        if self._sampler is not None:
            with self._setup.optimizer.averaged():
                self._make_samples(self._sampler, step)

    def _make_samples(self, sampler: SampleMaker, step: int) -> None:
        embeddings = self._setup.embeddings()
        for index, request in enumerate(self._requests()):
            try:
                sample = sampler.make(request, embeddings)
            except Exception as error:
                # The host's sampler can fail in any way, which must not end the training.
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
                negative_prompt=config.sample_negative or _named_negatives(config, prompt),
                width=width,
                height=height,
                steps=config.sample_steps,
                cfg_scale=config.sample_cfg,
                seed=config.sample_seed,
                clip_skip=config.clip_skip,
            )
            for prompt in _sample_prompts(config)
        ]


def _sample_prompts(config: TrainConfig) -> list[str]:
    """The preview prompts: one per line of the setting, or the name of each concept if it is empty."""
    given = [line.strip() for line in config.sample_prompts.splitlines() if line.strip()]
    return given or [concept.name for concept in config.concepts]


def _named_negatives(config: TrainConfig, prompt: str) -> str:
    """The negative embeddings of the concepts that a prompt names."""
    return negative_names(concept for concept in config.concepts if concept.name in prompt)


def _run_facts(setup: Setup, step: int, output_name: str) -> RunFacts:
    model = setup.model
    return RunFacts(
        family=model.family,
        step=step,
        output_name=output_name,
        model_name=model.model_name,
        model_hash=model.model_hash,
        is_v_prediction=model.is_v_prediction,
        image_count=setup.image_count,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        network_module=network_module(setup.config.lora_kind),
        kept=list(setup.kept),
        network_args={name: value for part in setup.adapters for name, value in part.network_args().items()},
        optimizer=setup.optimizer.name,
    )


def _state_tensors(setup: Setup) -> dict[str, torch.Tensor]:
    tensors = {f"{_OPTIMIZER}{key}": value for key, value in setup.optimizer.state_tensors().items()}
    tensors.update({f"lora/{flat.name}": flat.values.detach().cpu().clone() for flat in _flats(setup.adapters)})
    tensors.update({f"table/{name}": table.weight.detach().cpu().clone() for name, table in setup.tables.items()})
    tensors.update({f"teacher/{flat.name}": flat.values.cpu().clone() for flat in _flats(setup.teacher_adapters)})
    tensors.update({f"norms/{name}": table.initial_norms.cpu().clone() for name, table in setup.tables.items()})
    return tensors


def compared_facts(setup: Setup) -> dict[str, Any]:
    """JSON values that a state stores and that must not change until the run is resumed, see ``state.compare``."""
    return {"config": to_dict(setup.config), "data": setup.data_digest, "model": setup.model.model_hash}


def load_state(setup: Setup, state: State) -> None:
    """Load a state into a freshly built run."""
    with torch.no_grad():
        for flat in _flats(setup.adapters):
            flat.values.copy_(state.tensors[f"lora/{flat.name}"])
        for flat in _flats(setup.teacher_adapters):
            flat.values.copy_(state.tensors[f"teacher/{flat.name}"])
        for name, table in setup.tables.items():
            table.weight.copy_(state.tensors[f"table/{name}"])
            # States of the first release do not have them.
            if f"norms/{name}" in state.tensors:
                table.set_initial_norms(state.tensors[f"norms/{name}"])
    setup.optimizer.load_state_tensors(
        {key[len(_OPTIMIZER) :]: value for key, value in state.tensors.items() if key.startswith(_OPTIMIZER)}
    )


def mismatch(setup: Setup, state: State) -> str:
    """Why a state cannot be loaded although settings, data and model match; empty if it can."""
    reason = ""
    shapes = {f"lora/{flat.name}": flat.values.shape for flat in _flats(setup.adapters)}
    shapes.update({f"teacher/{flat.name}": flat.values.shape for flat in _flats(setup.teacher_adapters)})
    for name, table in setup.tables.items():
        shapes[f"table/{name}"] = table.weight.shape
        if f"norms/{name}" in state.tensors:
            shapes[f"norms/{name}"] = table.initial_norms.shape
    names = [key.removeprefix(_OPTIMIZER) for key in state.tensors if key.startswith(_OPTIMIZER)]
    shapes.update({f"{_OPTIMIZER}{key}": shape for key, shape in setup.optimizer.expected_shapes(names).items()})
    for name, shape in shapes.items():
        value = state.tensors.get(name)
        if value is None:
            reason = reason or f"it has no {name}"
        elif value.shape != shape or not value.is_floating_point():
            reason = reason or f"{name} has the shape {list(value.shape)} ({value.dtype}), not {list(shape)}"
    return reason


def _flats(adapters: Sequence[AdapterSet]) -> list[FlatParameters]:
    return [flat for part in adapters for flat in part.flats]


def _described(what: str, error: Exception) -> str:
    return str(error) if isinstance(error, PivotalError) else f"{what} ({type(error).__name__}: {error})."


def _is_dangling_link(path: Path) -> bool:
    """Whether ``path`` is a link to a file that does not exist."""
    return path.is_symlink() and not path.exists()
