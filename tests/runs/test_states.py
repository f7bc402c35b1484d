"""Resume states: the newest valid one is loaded, damaged ones are skipped with a warning, the latest is kept."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import ConfigError, PivotalError
from lib_pivotal.core.events import Control, StepDone, Warned
from lib_pivotal.core.train import state as state_module
from lib_pivotal.core.train.run import Folders
from lib_pivotal.core.train.state import State, load_newest, save_state
from lib_pivotal.core.train.state_facts import changed_settings
from tests.runs.harness import Listener, rewrite_state, run
from tests.unit.toy import toy_config, write_images

FILES = ("state-000004.safetensors", "state-000008.safetensors")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of 20 steps that was stopped after 8 and has saved at 4 and 8."""
    root = tmp_path_factory.mktemp("stopped")
    write_images(root / "data")
    control = Control()
    (root / "run").mkdir()
    where = Folders(root / "run", root / "bundles", root / "cache")
    run(toy_config(root / "data", steps=20, save_every=4), where, listener=Listener(control, 8), control=control)
    assert sorted(path.name for path in (root / "run" / "states").iterdir()) == list(FILES)
    return root


@pytest.fixture
def copy(stopped, tmp_path):
    """Folders of a copy of that run, including its bundles."""
    for name in ("run", "bundles"):
        shutil.copytree(stopped / name, tmp_path / name)
    return Folders(tmp_path / "run", tmp_path / "bundles", tmp_path / "cache")


def resume(copy, stopped, **changes):
    control = Control()
    # A few more steps are enough.
    listener = Listener(control)
    listener.handle = lambda event, handle=listener.handle: (
        handle(event),
        control.stop() if isinstance(event, StepDone) else None,
    )
    config = toy_config(stopped / "data", **{"steps": 20, "save_every": 4, **changes})
    return run(config, copy, listener=listener, control=control, resume_from=copy.run)


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


ODD = {
    "cut short": cut,
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "no header": lambda path: save_file({"a": torch.zeros(1)}, path),
    "header is not JSON": lambda path: save_file({}, path, {"pivotal_state": "[" * 100_000}),
    "header is a list": lambda path: save_file({}, path, {"pivotal_state": "[]"}),
    "no bundle path": lambda path: rewrite_state(path, facts={"bundle_path": None}),
    "bundle path is a number": lambda path: rewrite_state(path, facts={"bundle_path": 7}),
    "written is a list": lambda path: rewrite_state(path, facts={"written": []}),
    "written holds numbers": lambda path: rewrite_state(path, facts={"written": {"a": 1}}),
    "config is a list": lambda path: rewrite_state(path, facts={"config": []}),
    "step is a text": lambda path: rewrite_state(path, facts={"step": "8"}),
    "step is negative": lambda path: rewrite_state(path, facts={"step": -5}),
    "step is NaN": lambda path: rewrite_state(path, facts={"step": float("nan")}),
    "no LoRA": lambda path: rewrite_state(path, tensors={"lora/unet": None}),
    "LoRA of another shape": lambda path: rewrite_state(path, tensors={"lora/unet": torch.zeros(3)}),
    "no embeddings": lambda path: rewrite_state(path, tensors={"table/clip_l": None}),
    "embeddings are NaN": lambda path: rewrite_state(path, tensors={"table/clip_l": torch.full((3, 16), float("nan"))}),
    "embeddings in a type that torch only stores": lambda path: rewrite_state(
        path, tensors={"table/clip_l": torch.zeros(3, 16).to(torch.float8_e4m3fn)}
    ),
    "embeddings are whole numbers": lambda path: rewrite_state(
        path, tensors={"table/clip_l": torch.zeros(3, 16).int()}
    ),
    "half of the moments": lambda path: rewrite_state(path, tensors={"optimiser/unet/exp_avg": None}),
    "moments of another shape": lambda path: rewrite_state(path, tensors={"optimiser/unet/exp_avg_sq": torch.zeros(2)}),
    "step count of another shape": lambda path: rewrite_state(path, tensors={"optimiser/unet/step": torch.zeros(2)}),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_invalid_state_is_skipped_and_set_aside(copy, stopped, kind):
    states = copy.run / "states"
    ODD[kind](states / FILES[1])
    outcome, listener = resume(copy, stopped)
    assert outcome.step == 5, "the run goes on from step 4"
    warnings = [event.message for event in listener.of(Warned) if "state-" in event.message]
    assert len(warnings) == 1 and FILES[1] in warnings[0] and "step 4" in warnings[0], warnings
    assert {path.name for path in states.iterdir()} == {
        FILES[0],
        "state-000005.safetensors",
        f"{FILES[1]}.damaged",
    }
    assert outcome.bundle_path.name == "toy.safetensors"


@pytest.mark.parametrize("kind", ["cut short", "no bundle path", "no LoRA"])
def test_an_error_says_that_all_states_are_damaged(copy, stopped, kind):
    before = {path.name for path in (copy.run / "states").iterdir()}
    for name in FILES:
        ODD[kind](copy.run / "states" / name)
    with pytest.raises(PivotalError, match="are damaged") as caught:
        resume(copy, stopped)
    assert all(name in str(caught.value) for name in FILES)
    assert {path.name for path in (copy.run / "states").iterdir()} == before, "a refused resume changes nothing"


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir()])
def test_an_error_says_that_there_is_no_state(tmp_path, make):
    make(tmp_path / "states")
    with pytest.raises(PivotalError, match="There is no state"):
        load_newest(tmp_path / "states")


def test_a_changed_setting_is_refused_and_not_mistaken_for_damage(copy, stopped):
    with pytest.raises(ConfigError) as caught:
        resume(copy, stopped, rank=8)
    assert [problem.field for problem in caught.value.problems] == ["rank"]


# -- which ones are kept


def save(folder, step, keep=1):
    return save_state(folder, State(step, {"a": torch.zeros(1)}, {}), keep)


def test_the_state_just_saved_is_never_removed(tmp_path):
    """A damaged state of a later step does not count as newer."""
    save(tmp_path, 8)
    (tmp_path / "state-000012.safetensors").write_bytes(b"damaged")
    assert save(tmp_path, 10).exists()
    assert load_newest(tmp_path).step == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-000010.safetensors", "state-000012.safetensors"]


@pytest.mark.parametrize(("keep", "left"), [(1, [6]), (2, [4, 6]), (5, [1, 2, 4, 6])])
def test_older_states_are_removed_beyond_the_number_asked_for(tmp_path, keep, left):
    foreign = tmp_path / "state-of-the-art.safetensors"
    foreign.write_bytes(b"the user's")
    for step in (1, 2, 4, 6):
        save(tmp_path, step, keep)
    foreign.unlink()
    assert [int(path.name[6:12]) for path in sorted(tmp_path.iterdir())] == left


def test_states_are_ordered_by_number_beyond_six_digits(tmp_path):
    for step in (999_999, 1_000_000):
        save(tmp_path, step, 2)
    assert load_newest(tmp_path).step == 1_000_000
    save(tmp_path, 1_000_001, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["state-1000001.safetensors"]


def test_a_state_that_is_in_use_is_written_next_to_it_and_found_again(tmp_path, monkeypatch):
    save(tmp_path, 4)
    replace = state_module.os.replace

    def busy(source, target):
        if str(target).endswith("state-000004.safetensors"):
            raise PermissionError(13, "used by another process")
        replace(source, target)

    monkeypatch.setattr("lib_pivotal.core.atomic_file._WAITS", ())
    monkeypatch.setattr("os.replace", busy)
    (tmp_path / "state-000004.safetensors").write_bytes(b"damaged")
    assert save(tmp_path, 4).name == "state-000004-2.safetensors"
    assert load_newest(tmp_path).step == 4


# -- settings of earlier releases


def test_settings_that_an_earlier_release_did_not_have_count_as_their_defaults():
    now = json.loads(json.dumps(to_dict(TrainConfig(concepts=(Concept("zog"),)))))
    before = json.loads(json.dumps(now))
    del before["flip"], before["concepts"][0]["stop_at"]
    assert changed_settings(before, now) == []
    assert [problem.field for problem in changed_settings(before, {**now, "flip": True})] == ["flip"]
    now["concepts"][0]["stop_at"] = 0.5
    assert [problem.field for problem in changed_settings(before, now)] == ["concepts"]
