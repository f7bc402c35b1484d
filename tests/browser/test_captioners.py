"""Captions from the webui's own DeepDanbooru, in a browser and a real webui; its weights are random."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

import torch
from PIL import Image
from playwright.sync_api import expect

from lib_pivotal.core.config.schema import field_info
from tests.e2e.server import Webui, find_installed

pytestmark = pytest.mark.long

BLOCKS = {name: info["block"] for name, info in field_info().items()}
WAIT_MS = 180_000
TAGS = ["red_hat", "small (robot)"]


@pytest.fixture(scope="module")
def tagger(webui: Webui) -> None:
    """The webui's own network where it looks for its weights, and settings with which all tags are given."""
    found = find_installed()
    assert found is not None
    folder = webui.data / "models" / "torch_deepdanbooru"
    folder.mkdir(parents=True, exist_ok=True)
    path = found[0] / "modules" / "deepbooru_model.py"
    if not path.exists():
        pytest.skip("this webui has no programs that describe images")
    spec = importlib.util.spec_from_file_location("pivotal_deepbooru_model", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # It only needs them when it computes.
        host = types.ModuleType("modules")
        host.devices = types.ModuleType("modules.devices")  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "modules", host)
        patch.setitem(sys.modules, "modules.devices", host.devices)
        spec.loader.exec_module(module)
    torch.manual_seed(0)
    state = {name: value.half() for name, value in module.DeepDanbooruModel().state_dict().items()}
    # Host: modules.safe refuses the zip files that a newer torch writes.
    torch.save({**state, "tags": TAGS}, folder / "model-resnet_custom_v3.pt", _use_new_zipfile_serialization=False)
    webui.post("/sdapi/v1/options", {"interrogate_deepbooru_score_threshold": 0.0, "deepbooru_sort_alpha": True})


@pytest.fixture
def folder() -> Iterator[Path]:
    """Three images; one has a caption."""
    with tempfile.TemporaryDirectory(prefix="bare-") as name:
        for number in range(3):
            Image.new("RGB", (96, 64), (90 * number, 20, 90)).save(Path(name) / f"{number}.png")
        (Path(name) / "0.txt").write_text("zog, by hand", encoding="utf-8")
        yield Path(name)


def test_missing_captions_are_written_and_others_only_appended_to(tagger, tab, folder):
    page = tab.page
    tab.fill({"concepts": [{"name": "zog"}], "data_folder": str(folder), "resolution": 64}, BLOCKS)
    tab.go_to("Data set")
    page.click("#pivotal_browser_look")
    expect(page.locator(".pivotal-page").first).to_contain_text("3 of 3 images", timeout=WAIT_MS)
    page.get_by_text("Captions from the webui's own programs", exact=True).click()
    progress = page.locator("#pivotal_browser_progress").first
    page.click("#pivotal_browser_write")
    expect(progress).to_contain_text("Caption files written: 2", timeout=WAIT_MS)
    # Spaces and escaped brackets, as the webui's settings say by default.
    written = "red hat, small \\(robot\\)"
    assert [(folder / f"{number}.txt").read_text() for number in range(3)] == ["zog, by hand", written, written]
    page.locator("#pivotal_browser_appends input").check()
    page.click("#pivotal_browser_write")
    # The other two have these tags.
    expect(progress).to_contain_text("Caption files written: 1", timeout=WAIT_MS)
    texts = [(folder / f"{number}.txt").read_text() for number in range(3)]
    assert texts == [f"zog, by hand, {written}", written, written]
