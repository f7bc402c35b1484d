"""Other kinds of LoRA, fusing and adding a name in a browser, up to an image with the result."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect
from safetensors.torch import load_file

from tests.browser.tab_page import TabPage
from tests.browser.test_page import BLOCKS, settings
from tests.e2e.images import CONCEPTS, NAMES, draw
from tests.e2e.runs import train

pytestmark = pytest.mark.long

WAIT_MS = 120_000
MATRICES = {"loha": "hada_w1_a", "lokr": "lokr_w1", "dora": "dora_scale"}
"""Kind of LoRA → a tensor that only it has."""


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        yield draw(Path(folder))


@pytest.fixture(scope="module")
def apart(webui, images) -> list[Path]:
    """A bundle of each name."""
    # The API takes numbers, where the page takes texts.
    common = {"steps": 12, "sample_every": 0, "unet_lr": 1e-3, "embedding_lr": 5e-3, "alpha": 2.0}
    runs = [
        train(webui, settings(images, f"apart-{concept['name']}", concepts=[concept], **common)) for concept in CONCEPTS
    ]
    return [Path(run["bundle_path"]) for run in runs]


def train_on_page(tab: TabPage, given: dict[str, Any], webui) -> Path:
    """Train with what is filled in; returns the bundle."""
    tab.press("run_train")
    tab.expect_notice("started")
    # Until then the page shows the previous run.
    expect(tab.page.locator("#pivotal_run_train")).to_be_disabled()
    tab.expect_status("Finished")
    expect(tab.page.locator("#pivotal_run_train")).to_be_enabled()
    return webui.data / "models" / "Lora" / f"{given['output_name']}.safetensors"


def assert_acts(webui, bundle: Path, *names: str) -> None:
    """The LoRA and each name change the image."""
    tag = f"<lora:{bundle.stem}:1>"
    prompts = ["a red circle", f"a red circle {tag}", *names, *(f"{name} {tag}" for name in names)]
    assert len({webui.pixels(prompt) for prompt in prompts}) == len(prompts)


@pytest.mark.parametrize("kind", list(MATRICES))
def test_a_kind_of_lora_that_is_chosen_on_the_page_is_trained_and_acts(tab, webui, images, kind):
    given = settings(images, f"kind-{kind}", steps=12, sample_every=0)
    tab.fill(given, BLOCKS)
    tab.unfold("lora")
    tab.choose("lora_lora_kind", kind)
    # Host: extensions-builtin/Lora/network_hada.py, A1111 1.6.1-1.10.1: the matrices are multiplied in the file's
    # precision, and torch before 2.2 has no product of fp16 matrices on the CPU.
    tab.unfold("output")
    tab.choose("output_save_precision", "fp32")
    bundle = train_on_page(tab, given, webui)
    assert tab.read_last(webui.data)["lora_kind"] == kind
    assert any(key.endswith(MATRICES[kind]) for key in load_file(bundle))
    assert_acts(webui, bundle, NAMES[0])
    tab.choose("lora_lora_kind", "lora")
    tab.choose("output_save_precision", "fp16")


def test_bundles_are_fused_on_the_page(tab, webui, images, apart):
    page = tab.page
    tab.go_to("Bundle tools")
    tab.choose("bundles_bundle", apart[0].stem)
    expect(page.locator("#pivotal_bundles_view").first).to_contain_text(NAMES[0], timeout=WAIT_MS)
    tab.unfold("fuse")
    tab.choose("fuse_others", apart[1].stem)
    # With samples of the size that the model was made for it would take many minutes in Forge.
    page.locator("#pivotal_fuse_data input, #pivotal_fuse_data textarea").first.fill(str(images))
    tab.press("fuse_start")
    view = page.locator("#pivotal_fuse_view").first
    expect(view).to_contain_text(re.compile("Fused apart"), timeout=WAIT_MS)
    for bundle in apart:
        expect(view).to_contain_text(bundle.stem)
    status = webui.get("/pivotal/v1/fuse")
    assert status["path"].replace("\\", "/") in view.inner_text().replace("\\", "/")
    assert_acts(webui, Path(status["path"]), *NAMES)


def test_a_name_is_added_to_a_bundle_on_the_page(tab, webui, images, apart):
    tab.unfold("training")
    changes = {"start_from": str(apart[0]), "keep_names": 1}
    given = settings(images, "added", concepts=CONCEPTS[1:], steps=12, sample_every=0, **changes)
    tab.fill(given, BLOCKS)
    bundle = train_on_page(tab, given, webui)
    assert_acts(webui, bundle, *NAMES)
    tab.fill_fields({"start_from": "", "keep_names": 0}, BLOCKS)
