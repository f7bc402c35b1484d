"""Another checkpoint is chosen in the webui while a run is going on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors import safe_open

from tests.e2e.images import settings
from tests.e2e.runs import assert_same, start, state_of, wait, wait_for_step
from tests.e2e.server import Webui


def test_a_checkpoint_chosen_during_a_run_is_loaded_after_it(webui: Webui, data: Path) -> None:
    chosen = webui.get("/sdapi/v1/options")["sd_model_checkpoint"]
    webui.choose("other")
    other = webui.pixels("a red circle")
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": chosen})
    image, before = webui.pixels("a red circle"), state_of(webui)
    assert image != other
    start(webui, settings(data, "e2e_chosen", steps=6, sample_every=2))
    wait_for_step(webui, 1)
    with ThreadPoolExecutor(1) as pool:
        # A1111 answers when the run is over, Forge at once; previews follow in both.
        answer = pool.submit(webui.choose, "other")
        status = wait(webui)
        answer.result()
    assert status["state"] == "done", status["message"]
    assert len(status["samples"]) == 8
    with safe_open(status["bundle_path"], "pt") as file:
        assert file.metadata()["ss_sd_model_name"].startswith(Path(chosen.split(" [")[0]).stem)
    assert webui.pixels("a red circle") == other
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": chosen})
    assert webui.pixels("a red circle") == image
    assert_same(state_of(webui), before)
