"""A whole run: check, prepare, train, save. What hosts, tab, API and command line call."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.config.io import to_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, HostError, Interrupted, PivotalError, Problem
from lib_pivotal.core.events import Control, Event, Finished, MemoryTold, Prepared, Preparing, Warned
from lib_pivotal.core.ports import DiffusionModel, ProcessGroup, ProgressSink, SampleMaker, SingleProcess
from lib_pivotal.core.train.checks import Checked, check, family_hints
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.memory import MemoryPlan, peak_bytes, watch_peak
from lib_pivotal.core.train.out_of_memory import explaining
from lib_pivotal.core.train.output import Output, load_state, misfit
from lib_pivotal.core.train.output_check import check_space
from lib_pivotal.core.train.recorder import Recorder
from lib_pivotal.core.train.run_folder import Folders
from lib_pivotal.core.train.setup import Setup, prepare
from lib_pivotal.core.train.state import SavedStates, State, compare, odd_facts

__all__ = ["Folders", "Outcome", "train"]

logger = logging.getLogger("pivotal.run")

_SHORT = (
    "The GPU may run out of memory. Lower the batch size (and accumulate) or the resolution, or close other programs."
)
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``outcome`` is ``"done"``, ``"stopped"`` (kept) or ``"discarded"``."""

    outcome: str
    step: int
    bundle_path: Path | None


def train(
    config: TrainConfig,
    model: DiffusionModel,
    sampler: SampleMaker | None,
    sinks: Sequence[ProgressSink],
    control: Control,
    folders: Folders,
    *,
    group: ProcessGroup | None = None,
    resume_from: Path | None = None,
    taken_names: Mapping[str, str] = _NONE,
    checked: Checked | None = None,
) -> Outcome:
    """Train embeddings and LoRA on a borrowed model and write the bundle.

    Args:
        config: the settings.
        model: the borrowed model; unchanged afterwards, whatever happens.
        sampler: makes preview images, or None.
        sinks: take the events.
        control: requests from outside.
        folders: where to write.
        group: the processes; None for one.
        resume_from: run folder of an earlier attempt, continued from its newest state.
        taken_names: installed embeddings, lower-case name → where from.
        checked: what a check of these settings found just before; None checks here.

    Raises:
        ConfigError: the settings, names or dataset have problems (all of them are listed).
        DatasetError: an image turned out unusable, or has changed since it was checked.
        HostError: the model was exchanged or moved meanwhile.
        TrainingDiverged: the loss is no number any more; the last good values have been saved.
        OutOfMemory: with the setting most likely to help.
        BundleError: the result cannot be written.
        PivotalError: there is no state to resume from, or all of them are damaged.
    """
    group = group or SingleProcess()
    emit = _Emitter(sinks)
    states = SavedStates(resume_from / "states") if resume_from else None
    state = states.newest() if states is not None else None
    checked = _check(config, model, folders, taken_names, emit, checked, group, resumes=state is not None)
    first_step = state.step if state is not None else 0
    stage = "encoding images"
    try:
        with contextlib.ExitStack() as closing, explaining(lambda: stage):
            setup = prepare(
                config,
                model,
                cache=folders.cache,
                group=group,
                progress=lambda name, done, total: emit(Preparing(name, done, total)),
                stopped=lambda: _is_stopped(model, control),
                dataset=checked.dataset if checked is not None else None,
            )
            if states is not None and state is not None:
                state = _resume(setup, states, state, emit, is_first=group.rank == 0)
                first_step = state.step
            output = None
            if group.rank == 0:
                output = _open_output(setup, folders, sampler, emit, state, closing)
            _tell_memory(setup.memory, emit, None)
            watch_peak(model.device)
            emit(Prepared(first_step, setup.steps, setup.trainable_count))
            stage = "training"
            outcome = _run_loop(Loop(setup, output, emit, control, group), first_step, setup, output, control)
            _tell_peak(setup, emit)
    except Interrupted:
        # Nothing has been trained yet, so there is nothing to keep either way.
        word = "discarded" if control.discard_requested else "stopped"
        outcome = Outcome(word, first_step, None)
    emit(Finished(outcome.step, outcome.outcome, outcome.bundle_path))
    return outcome


def _open_output(
    setup: Setup,
    folders: Folders,
    sampler: SampleMaker | None,
    emit: _Emitter,
    state: State | None,
    closing: contextlib.ExitStack,
) -> Output:
    """Begin to write into the run folder."""
    _report(check_space(folders.bundles, folders.run, setup.config, setup.trainable_count), emit)
    output = Output(setup, folders, sampler, emit, state)
    recorder = Recorder(folders.run, state.step if state is not None else 0, lambda text: emit(Warned(text)))
    closing.callback(recorder.close)
    emit.sinks.append(recorder)
    _keep_settings(folders.run / "config.json", setup.config, emit)
    return output


def _check(
    config: TrainConfig,
    model: DiffusionModel,
    folders: Folders,
    taken_names: Mapping[str, str],
    emit: Callable[[Event], None],
    checked: Checked | None,
    group: ProcessGroup,
    *,
    resumes: bool,
) -> Checked | None:
    """Refuse settings that cannot be trained; report the rest.

    Returns:
        The check that holds; None in all processes but the first.
    """
    if group.rank == 0 and (checked is None or not checked.knew_tokens):
        checked = check(
            config,
            bundles=folders.bundles,
            taken_names=taken_names,
            tokenizer=model.text_encoders[0].tokenize,
            run_root=folders.run,
            dataset=checked.dataset if checked is not None else None,
            keeps_images=True,
        )
    problems = group.from_first(list(checked.problems) if checked is not None else [])
    hints = family_hints(model.family, model.native_resolution, config)
    problems += [hint for hint in hints if hint not in problems]
    if resumes:
        # The bundle of the run that goes on may be there already: it is this run's own.
        problems = [problem for problem in problems if problem.field != "output_name"]
    _report(problems, emit)
    return checked


def _report(problems: Sequence[Problem], emit: Callable[[Event], None]) -> None:
    """Refuse the start where a problem is an error; report the others."""
    if any(problem.is_error for problem in problems):
        raise ConfigError(list(problems))
    for problem in problems:
        emit(Warned(str(problem)))


def _resume(setup: Setup, states: SavedStates, state: State, emit: Callable[[Event], None], *, is_first: bool) -> State:
    """Put the newest state that fits into the run, and say which ones were passed over.

    Before anything is written: a refused resume leaves the run's files as they are.
    """
    while reason := _obstacle(setup, state):
        states.skip(reason)
        state = states.newest()
    load_state(setup, state)
    for path, why in states.skipped.items():
        emit(Warned(f"{path.name} cannot be used ({why}). The run goes on from step {state.step}."))
    if is_first:
        states.put_aside()
    return state


def _obstacle(setup: Setup, state: State) -> str:
    """Why a state cannot be used; other settings, data or another model are refused for good."""
    reason = odd_facts(state.facts)
    if not reason:
        compare(state.facts, _facts(setup))
    return reason or misfit(setup, state)


def _keep_settings(path: Path, config: TrainConfig, emit: Callable[[Event], None]) -> None:
    """Write the settings into the run folder; they are needed only to resume without a settings file."""
    try:
        with replacing(path, keep=False) as partial:
            partial.write_text(to_json(config), encoding="utf-8")
    except OSError as error:
        logger.warning("no config.json", exc_info=True)
        text = f"{path} cannot be written ({error.strerror or error}). Keep your settings file if you want to resume."
        emit(Warned(text))


def _run_loop(loop: Loop, first_step: int, setup: Setup, output: Output | None, control: Control) -> Outcome:
    """Run the loop; keep what is trained however it ends, unless it is to be discarded."""
    is_over = False
    try:
        loop.run(first_step)
        is_over = True
    except PivotalError:
        raise
    except Exception as error:
        _blame_the_host(setup.model, error)
        raise
    finally:
        # Whatever went wrong, the values are those of the last good step.
        if not is_over and output is not None and loop.step > first_step and not control.discard_requested:
            output.try_to_save(loop.step, final=True)
    if control.discard_requested:
        return Outcome("discarded", loop.step, None)
    word = "done" if loop.step >= setup.steps else "stopped"
    if output is None or loop.step == 0:
        return Outcome(word, loop.step, None)
    return Outcome(word, loop.step, output.save(loop.step, final=True))


def _is_stopped(model: DiffusionModel, control: Control) -> bool:
    """Whether the run is to stop, asked while latents are made."""
    model.poll_requests()
    return control.stop_requested


def _blame_the_host(model: DiffusionModel, error: Exception) -> None:
    """Say that the model was taken away, where that is why a step tripped over something."""
    try:
        model.verify()
    except HostError as reason:
        raise reason from error
    except Exception:
        logger.debug("the model cannot be asked any more", exc_info=True)


def _tell_memory(memory: MemoryPlan, emit: Callable[[Event], None], peak: int | None) -> None:
    """What was expected, and at the end what was used."""
    emit(MemoryTold(memory.needed, memory.free, peak, memory.saves))
    if memory.is_short and peak is None:
        emit(Warned(_SHORT))


def _tell_peak(setup: Setup, emit: Callable[[Event], None]) -> None:
    """How much memory was used; the bundle is written by then, so nothing may fail any more."""
    try:
        _tell_memory(setup.memory, emit, peak_bytes(setup.model.device))
    except Exception:
        logger.warning("the peak of the memory is not known", exc_info=True)


def _facts(setup: Setup) -> dict[str, object]:
    return {"config": _plain(setup.config), "data": setup.data_digest, "model": setup.model.model_hash}


def _plain(config: TrainConfig) -> dict[str, object]:
    # Through JSON, as the saved facts went: tuples become lists.
    return dict(json.loads(to_json(config)))


class _Emitter:
    """Hands events to all sinks; one that fails is logged once and dropped."""

    def __init__(self, sinks: Sequence[ProgressSink]) -> None:
        self.sinks = list(sinks)

    def __call__(self, event: Event) -> None:
        for sink in list(self.sinks):
            try:
                sink.handle(event)
            except Exception:
                logger.exception("%s failed and gets no more events", type(sink).__name__)
                self.sinks.remove(sink)
