"""The webui is killed during a run and started again: the run continues to the same end as one that was left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lib_pivotal.core.train.recorder import read_losses
from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_same, start, state_of, train, wait, wait_for_step
from tests.e2e.server import Webui, find_installed, kind_of, make_data_folder


@contextmanager
def started_in(folder: Path) -> Iterator[Webui]:
    """Within the context a webui runs in a data folder that is there already."""
    webui = Webui(*find_installed(), folder)
    try:
        webui.wait()
        yield webui
    finally:
        webui.stop()


@pytest.mark.long
def test_the_run_of_a_killed_webui_continues_to_the_same_end(
    random_checkpoints: list[Path], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    make_data_folder(folder, random_checkpoints[:1], kind=kind_of(find_installed()[0]))
    config = settings(data, "whole", steps=12, save_every=4, sample_every=6)
    with started_in(folder) as webui:
        whole = train(webui, config)
        start(webui, {**config, "output_name": "killed"})
        wait_for_step(webui, 6)
        webui.kill()
    with started_in(folder) as webui:
        run = next(item for item in webui.get("/pivotal/v1/runs")["runs"] if item["output_name"] == "killed")
        assert run["state"] == "interrupted"
        assert run["states"] == [4]
        image, before = webui.pixels("a red circle"), state_of(webui)
        webui.post("/pivotal/v1/resume", {"run": run["name"]})
        status = wait(webui)
        assert status["state"] == "done", status["message"]
        assert_same(state_of(webui), before)
        assert webui.pixels("a red circle") == image
        assert webui.pixels(f"{NAMES[0]} <lora:killed:1>") == webui.pixels(f"{NAMES[0]} <lora:whole:1>") != image
    folders = [Path(item["run_folder"]) for item in (status, whole)]
    assert folders[0].name == run["name"]
    assert read_losses(folders[0]) == read_losses(folders[1])
    names = [sorted(path.name for path in (item / "samples").iterdir()) for item in folders]
    assert names[0] == names[1]
    resumed, straight = (load_file(item["bundle_path"]) for item in (status, whole))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[key], straight[key]) for key in straight)
