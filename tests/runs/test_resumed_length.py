"""A resumed run keeps its number of steps and its order of images, whichever release started it."""

from __future__ import annotations

import pytest

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.events import Control, Prepared, StepDone
from lib_pivotal.core.train import step_count
from lib_pivotal.core.train.state import load_newest
from lib_pivotal.core.train.state_facts import facts_problem
from tests.runs.harness import Listener, folders, rewrite_state, run, stopped_run
from tests.unit.toy import toy_config, write_images

CONCEPTS = (Concept("zog_x", init_text="teal thing", vectors=3), Concept("mib_y", vectors=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cast")
    write_images(folder / "a", 6)
    write_images(folder / "b", 2, "mib_y")
    return folder


def settings(data, **changes):
    return toy_config(data, **{"concepts": CONCEPTS, "steps": 0, "batch_size": 4, **changes})


def resumed(config, where, at):
    control = Control()
    listener = Listener(control, at)
    run(config, where, listener=listener, control=control, resume_from=where.run)
    return listener


def length(listener) -> int:
    return listener.of(Prepared)[0].total_steps


def test_a_resumed_run_keeps_its_length(tmp_path, data, monkeypatch):
    where = folders(tmp_path)
    _, first = stopped_run(settings(data), where, at=2)
    assert length(first) == 400, "6 and 2 images, each seen 200 times"
    monkeypatch.setattr(step_count, "_MAX_VIEWS", 50)
    assert length(resumed(settings(data), where, 3)) == 400
    assert length(resumed(settings(data, steps=700), where, 4)) == 700
    assert length(resumed(settings(data), where, 5)) == 700


def test_a_resumed_run_equals_one_without_a_stop(tmp_path, data):
    where = folders(tmp_path, "a")
    _, first = stopped_run(settings(data), where, at=3)
    second = resumed(settings(data), where, 6)
    _, straight = stopped_run(settings(data), folders(tmp_path, "b"), at=6)
    assert first.losses + second.losses == straight.losses


def of_an_earlier_release(where):
    """Make the state look as if it had been saved before there was a balance or an automatic length."""
    state = load_newest(where.run / "states")
    config = {name: value for name, value in state.facts["config"].items() if name not in ("balance", "balance_cap")}
    rewrite_state(state.path, facts={"steps": None, "balances": None, "config": config})


def test_a_run_of_an_earlier_release_goes_on_as_it_began(tmp_path, data):
    where = folders(tmp_path, "a")
    unbalanced = settings(data, balance=0.0, steps=600)
    _, straight = stopped_run(unbalanced, folders(tmp_path, "b"), at=8)
    stopped_run(unbalanced, where, at=3)
    of_an_earlier_release(where)
    second = resumed(settings(data), where, 5)
    assert length(second) == 600
    # Also when it is stopped and resumed again.
    third = resumed(settings(data), where, 8)
    assert length(third) == 600
    assert second.losses + third.losses == straight.losses[3:]
    _, balanced = stopped_run(settings(data, steps=600), folders(tmp_path, "c"), at=8)
    assert balanced.losses != straight.losses


@pytest.mark.parametrize(
    "facts", [{"steps": "many"}, {"steps": -1}, {"steps": True}, {"steps": 10**12}, {"balances": 1}]
)
def test_invalid_facts_are_recognized_and_the_state_before_is_used(tmp_path, data, facts):
    assert facts_problem({"config": {}, "bundle_path": "", "data": "", "model": "", **facts})
    where = folders(tmp_path)
    config = settings(data, steps=8, save_every=2)
    stopped_run(config, where, at=4)
    rewrite_state(where.run / "states" / "state-000004.safetensors", facts=facts)
    assert resumed(config, where, 3).of(StepDone)[0].step == 3
