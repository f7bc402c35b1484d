"""Another checkpoint or, in Forge, other low bits are chosen in the webui while a run is going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
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


@pytest.fixture(params=["page", "API"])
def choose(request: pytest.FixtureRequest, webui: Webui) -> Iterator[Callable[[str, str], None]]:
    """Chooses a checkpoint and how Forge stores its UNet, on the page or over the API."""
    if webui.kind not in ("forge", "forge-neo"):
        pytest.skip("only Forge has low bits to choose")
    titles = [item["title"] for item in webui.get("/sdapi/v1/sd-models")]

    def choose(name: str, low_bits: str) -> None:
        title = next(title for title in titles if title.startswith(f"{name}."))
        if request.param == "page":
            webui.post("/pivotal-test/choose_on_the_page", {"checkpoint": title, "low_bits": low_bits})
        else:
            # In this order, since Forge's API applies low bits only together with a checkpoint.
            webui.post("/sdapi/v1/options", {"forge_unet_storage_dtype": low_bits, "sd_model_checkpoint": title})

    yield choose
    choose("random", "Automatic")
    webui.pixels("a red circle")


def test_low_bits_chosen_with_a_checkpoint_during_a_run_count_after_it(
    webui: Webui, choose: Callable[[str, str], None], data: Path
) -> None:
    choose("other", "float8-e4m3fn")
    wanted = webui.pixels("a red circle")
    assert "torch.float8_e4m3fn" in state_of(webui)["dtypes"]
    choose("random", "Automatic")
    image, before = webui.pixels("a red circle"), state_of(webui)
    start(webui, settings(data, "e2e_low_bits", steps=6, sample_every=2, if_exists="overwrite"))
    wait_for_step(webui, 1)
    choose("other", "float8-e4m3fn")
    status = wait(webui)
    assert status["state"] == "done", status["message"]
    assert len(status["samples"]) == 8
    assert state_of(webui)["weights"] == before["weights"]
    assert webui.pixels("a red circle") == wanted
    assert "torch.float8_e4m3fn" in state_of(webui)["dtypes"]
    choose("random", "Automatic")
    assert webui.pixels("a red circle") == image
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle <lora:e2e_low_bits:1>") != image
