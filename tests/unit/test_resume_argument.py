"""What ``--resume`` takes, and the sentence for what it does not take."""

from __future__ import annotations

import re

import pytest

from lib_pivotal.cli.resume import find_run, output_folder_of, resume_problems
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.file_lock import locked
from lib_pivotal.core.train.state import State, save_state
from tests.unit.toy import write_images


@pytest.fixture
def run(tmp_path):
    """A run folder with one state, its bundle, and a folder of images next to them."""
    run = tmp_path / "out" / "runs" / "zog-20260101-120000"
    run.mkdir(parents=True)
    save_state(run / "states", State(2, {}, {"config": to_dict(TrainConfig())}), 1)
    for name in ("config.json", "log.txt", "loss.csv"):
        (run / name).write_text("{}")
    (run / "samples").mkdir()
    (run / "samples" / "step-000002-0.png").write_bytes(b"")
    (tmp_path / "out" / "zog.safetensors").write_bytes(b"")
    write_images(tmp_path / "images", 1)
    (tmp_path / "images" / "config.json").write_text("{}")
    return run


@pytest.mark.parametrize(
    "part", ["", "states", "states/state-000002.safetensors", "config.json", "loss.csv", "samples/step-000002-0.png"]
)
def test_anything_in_a_run_stands_for_the_run(run, part):
    assert find_run(run / part if part else run) == run


def test_a_run_without_a_state_yet_is_a_run(run):
    (run / "states" / "state-000002.safetensors").unlink()
    assert find_run(run) == run


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("out/zog.safetensors", "A file is not a run folder. .*runs/zog-20260101-120000"),
        ("out/runs/zog-20260101-120001", "nothing of this name. Did you mean .*runs/zog-20260101-120000"),
        ("nope", "nothing of this name. Give the run folder"),
        ("out", "not a run folder. .*example .*runs/zog-20260101-120000"),
        ("out/runs", "not a run folder. .*example .*runs/zog-20260101-120000"),
        ("images", "not a run folder. Give the run folder"),
        ("images/00.png", "A file is not a run folder. Give the run folder"),
        ("x" * 300, "File name too long|nothing of this name"),
    ],
)
def test_anything_else_is_named_and_left_as_it_is(run, tmp_path, given, words):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        find_run(tmp_path / given)
    (problem,) = caught.value.problems
    assert problem.is_error and given in problem.field
    assert re.search(words, f"{problem.message} {problem.hint}"), problem
    assert sorted(tmp_path.rglob("*")) == before


def test_the_output_goes_where_the_run_is(run, tmp_path, monkeypatch):
    assert output_folder_of(run) == tmp_path / "out"
    monkeypatch.chdir(run)
    assert output_folder_of(type(run)()) == tmp_path / "out"
    monkeypatch.undo()
    (tmp_path / "link").symlink_to(run)
    assert output_folder_of(tmp_path / "link") == tmp_path / "out"
    assert output_folder_of(tmp_path / "images") == type(run)()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "There is no state to resume from"),
        (lambda path: path.write_bytes(b"short"), "are damaged"),
        (
            lambda path: save_state(path.parent, State(2, {}, {"config": to_dict(TrainConfig(seed=9))}), 1),
            "started with 9",
        ),
    ],
)
def test_a_run_that_cannot_go_on_is_found_by_the_check(run, change, words):
    assert resume_problems(run, TrainConfig()) == []
    change(run / "states" / "state-000002.safetensors")
    before = sorted(run.rglob("*"))
    (problem,) = resume_problems(run, TrainConfig())
    assert problem.is_error and words in problem.message
    assert sorted(run.rglob("*")) == before, "a check changes nothing"


def test_a_damaged_state_with_an_older_one_is_a_warning(run):
    (run / "states" / "state-000004.safetensors").write_bytes(b"short")
    (problem,) = resume_problems(run, TrainConfig())
    assert not problem.is_error and "state-000004" in problem.message and "step 2" in problem.hint


def test_a_run_that_is_on_is_found_by_the_check(run):
    with locked(run / ".lock"):
        (problem,) = resume_problems(run, TrainConfig())
    assert "Another process" in problem.message
