"""A whole run: check, prepare, train, save. Called by hosts, the tab, the API and the command line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.config.io import to_json
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError, HostError, Interrupted, PivotalError, Problem
from lib_pivotal.core.events import Control, Event, Finished, MemoryEstimated, Prepared, Preparing, Warned
from lib_pivotal.core.ports import DiffusionModel, ProgressSink, SampleMaker
from lib_pivotal.core.process_group import ProcessGroup, SingleProcess
from lib_pivotal.core.train.checks import Checked, check
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.memory import MemoryPlan, peak_bytes, watch_peak
from lib_pivotal.core.train.model_checks import check_schedule, family_hints
from lib_pivotal.core.train.out_of_memory import explaining, forget_variables
from lib_pivotal.core.train.output import Output, compared_facts, load_state, mismatch
from lib_pivotal.core.train.output_check import check_space
from lib_pivotal.core.train.recorder import Recorder
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.run_folder import Folders
from lib_pivotal.core.train.run_record import record_start
from lib_pivotal.core.train.setup import Setup, prepare
from lib_pivotal.core.train.state import SavedStates, State
from lib_pivotal.core.train.state_facts import compare, facts_problem

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
    """Train embeddings and a LoRA on a borrowed model and write the bundle.

    Args:
        config: the settings.
        model: the borrowed model; it is unchanged afterwards, even after an error.
        sampler: makes preview images; None makes none.
        sinks: receive the events.
        control: requests of the user.
        folders: where to write.
        group: the processes that train together; None for a single one.
        resume_from: run folder of an earlier attempt, continued from its newest state.
        taken_names: installed embeddings: lower-case name → source.
        checked: result of a check of these settings just before; None checks here.

    Raises:
        ConfigError: the settings, names or dataset have problems (all of them are listed).
        DatasetError: an image turned out unusable, or has changed since it was checked.
        HostError: the model was replaced or moved during training.
        TrainingDiverged: the loss or gradients stayed NaN; the last good values have been saved.
        OutOfMemory: memory ran out; the hint names the settings to change.
        BundleError: the result cannot be written.
        PivotalError: there is no state to resume from, or all of them are damaged.
    """
    group = group or SingleProcess()
    emit = _Emitter(sinks)
    states = SavedStates(resume_from / "states") if resume_from else None
    state = _newest(states) if states is not None else None
    resumed = Resumed.of(state.facts) if state is not None else None
    checked = _check(config, model, folders, taken_names, emit, checked, group, resumed)
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
                resumed=resumed,
            )
            if states is not None and state is not None:
                state = _resume(setup, states, state, emit, is_first=group.rank == 0)
                first_step = state.step
            output = None
            if group.rank == 0:
                output = _open_output(setup, folders, sampler, emit, state, closing)
            _report_memory(setup.memory, emit, None)
            watch_peak(model.device)
            emit(Prepared(first_step, setup.steps, setup.trainable_count))
            stage = "training"
            outcome = _run_loop(Loop(setup, output, emit, control, group), first_step, setup, output, control)
            _report_peak(setup, emit)
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
    space = check_space(
        folders.bundles,
        folders.run,
        setup.config,
        trained_count=setup.trainable_count,
        steps=setup.steps,
        # They have been stored by now.
        latent_count=0,
    )
    _report(space, emit)
    output = Output(setup, folders, sampler, emit, state)
    recorder = Recorder(folders.run, state.step if state is not None else 0, lambda text: emit(Warned(text)))
    closing.callback(recorder.close)
    emit.sinks.append(recorder)
    _keep_settings(folders.run / "config.json", setup.config, emit)
    record_start(folders.run, family=setup.model.family, model_name=setup.model.model_name, total_steps=setup.steps)
    return output


def _check(
    config: TrainConfig,
    model: DiffusionModel,
    folders: Folders,
    taken_names: Mapping[str, str],
    emit: Callable[[Event], None],
    checked: Checked | None,
    group: ProcessGroup,
    resumed: Resumed | None,
) -> Checked | None:
    """Raise on settings that cannot be trained; report warnings.

    Returns:
        The result of the check; None in all processes but the first.
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
            family=model.family,
            processes=group.size,
            resumed=resumed,
            cache=folders.cache,
            progress=lambda done, total: emit(Preparing("reading images", done, total)),
        )
    problems = group.from_first(list(checked.problems) if checked is not None else [])
    hints = family_hints(model.family, model.native_resolution, config)
    hints += check_schedule(config, model.alphas_cumprod.tolist())
    problems += [hint for hint in hints if hint not in problems]
    if resumed is not None:
        # When resuming, the bundle may already exist because this run wrote it.
        problems = [problem for problem in problems if problem.field != "output_name"]
    _report(problems, emit)
    return checked


def _report(problems: Sequence[Problem], emit: Callable[[Event], None]) -> None:
    """Raise if any problem is an error; otherwise report them as warnings."""
    if any(problem.is_error for problem in problems):
        raise ConfigError(list(problems))
    for problem in problems:
        emit(Warned(str(problem)))


def _newest(states: SavedStates) -> State:
    """The newest state whose facts are valid."""
    state = states.newest()
    while reason := facts_problem(state.facts):
        states.skip(reason)
        state = states.newest()
    return state


def _resume(setup: Setup, states: SavedStates, state: State, emit: Callable[[Event], None], *, is_first: bool) -> State:
    """Load the newest state that fits the run, and report which ones were skipped.

    Called before anything is written, so a rejected resume leaves the run's files unchanged.
    """
    while reason := _obstacle(setup, state):
        states.skip(reason)
        state = _newest(states)
    load_state(setup, state)
    for path, why in states.skipped.items():
        emit(Warned(f"{path.name} cannot be used ({why}). The run continues from step {state.step}."))
    if is_first:
        states.set_aside_skipped()
    return state


def _obstacle(setup: Setup, state: State) -> str:
    """Why a state cannot be used, or empty; raises if settings, data or model have changed."""
    compare(state.facts, compared_facts(setup))
    return mismatch(setup, state)


def _keep_settings(path: Path, config: TrainConfig, emit: Callable[[Event], None]) -> None:
    """Write the settings into the run folder, where they are needed only to resume without a settings file."""
    try:
        with replacing(path, keep=False) as partial:
            partial.write_text(to_json(config), encoding="utf-8")
    except OSError as error:
        logger.warning("no config.json", exc_info=True)
        text = f"{path} cannot be written ({error.strerror or error}). Keep your settings file if you want to resume."
        emit(Warned(text))


def _run_loop(loop: Loop, first_step: int, setup: Setup, output: Output | None, control: Control) -> Outcome:
    """Run the loop and save the result, even after an error, unless it is to be discarded."""
    is_over = False
    try:
        loop.run(first_step)
        is_over = True
    except PivotalError:
        raise
    except Exception as error:
        # The result is saved next, and a GPU without free memory would not allow that.
        forget_variables(error)
        _raise_if_model_changed(setup.model, error)
        raise
    finally:
        # Even after an error, the values are those of the last good step.
        if not is_over and output is not None and loop.step > first_step and not control.discard_requested:
            output.try_to_save(loop.step, final=True)
    if control.discard_requested:
        return Outcome("discarded", loop.step, None)
    outcome_name = "done" if loop.step >= setup.steps else "stopped"
    if output is None or loop.step == 0:
        return Outcome(outcome_name, loop.step, None)
    return Outcome(outcome_name, loop.step, output.save(loop.step, final=True))


def _is_stopped(model: DiffusionModel, control: Control) -> bool:
    """Whether the run should stop while latents are being encoded."""
    model.poll_requests()
    return control.stop_requested


def _raise_if_model_changed(model: DiffusionModel, error: Exception) -> None:
    """Raise a clear error if a step failed because the host replaced or moved the model."""
    try:
        model.verify()
    except HostError as reason:
        raise reason from error
    except Exception:
        logger.debug("the model cannot be verified", exc_info=True)


def _report_memory(memory: MemoryPlan, emit: Callable[[Event], None], peak: int | None) -> None:
    """Report the estimated memory and, at the end, the measured peak."""
    emit(MemoryEstimated(memory.needed, memory.free, peak, memory.saves))
    if memory.is_short and peak is None:
        emit(Warned(_SHORT))


def _report_peak(setup: Setup, emit: Callable[[Event], None]) -> None:
    """Report how much memory was used; never raises, since the bundle is already written."""
    try:
        _report_memory(setup.memory, emit, peak_bytes(setup.model.device, has_graphs=setup.graphs is not None))
    except Exception:
        logger.warning("the peak memory use is not known", exc_info=True)


class _Emitter:
    """Passes events to all sinks; a sink that fails is logged once and removed."""

    def __init__(self, sinks: Sequence[ProgressSink]) -> None:
        self.sinks = list(sinks)

    def __call__(self, event: Event) -> None:
        for sink in list(self.sinks):
            try:
                sink.handle(event)
            except Exception:
                logger.exception("%s failed and receives no more events", type(sink).__name__)
                self.sinks.remove(sink)
