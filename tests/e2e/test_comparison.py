"""The parts of a bundle compared in a real webui: each cell is what a user would get, and everything is restored."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.bundle_cases.bench import Bench
from tests.e2e.bundles import Maker
from tests.e2e.images import settings
from tests.e2e.runs import start, wait, wait_for_step
from tests.e2e.server import Webui, find_webui, kind_of, version_of

pytestmark = pytest.mark.long

TAGS = {
    "whole": "<lora:A:1> ",
    "unet": "<lora:A:te=0:unet=1:ti=off> ",
    "text encoder": "<lora:A:te=1:unet=0:ti=off> ",
    "embeddings": "<lora:A:0> ",
    "nothing": "",
}
SIZE = {"steps": 2, "width": 64, "height": 64, "cfg_scale": 4, "seed": 5}
PROMPTS = ["a zogA, hat", "zogA and s1"]


@pytest.fixture(scope="module")
def bench(server: Webui, random_checkpoints: list[Path]) -> Iterator[Bench]:
    """A webui with a bundle ``A``; the checkpoint ``random`` is loaded."""
    server.choose("random")
    tree = find_webui()
    assert tree is not None
    bench = Bench(server, Maker(server.data, random_checkpoints[0]), version_of(tree))
    bench.prepare()
    yield bench
    server.post("/sdapi/v1/options", {"sd_lora": "None"})


def title_of(webui: Webui, name: str) -> str:
    titles = [item["title"] for item in webui.get("/sdapi/v1/sd-models")]
    return next(title for title in titles if title.startswith(f"{name}.safetensors"))


def finished(webui: Webui) -> dict[str, Any]:
    while (status := webui.get("/pivotal/v1/compare"))["is_active"]:
        time.sleep(0.1)
    return status


def compare(webui: Webui, **choices: Any) -> dict[str, Any]:
    webui.post("/pivotal/v1/compare", {**SIZE, **choices})
    return finished(webui)


def pixels(image: Image.Image, columns: int, rows: int) -> list[list[bytes]]:
    """The cells of a comparison, row by row: the images are at the lower right."""
    left, top = image.width - 64 * columns, image.height - 64 * rows
    return [
        [
            image.crop((left + 64 * x, top + 64 * y, left + 64 * x + 64, top + 64 * y + 64)).tobytes()
            for x in range(columns)
        ]
        for y in range(rows)
    ]


def alone(webui: Webui, prompt: str, **fields: Any) -> bytes:
    """What the webui makes of a prompt by itself."""
    task = {"prompt": prompt, **SIZE, "sampler_name": "Euler", **fields}
    image = webui.post("/sdapi/v1/txt2img", task)["images"][0]
    return Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB").tobytes()


def test_every_cell_is_the_image_of_its_prompt_and_all_differ(bench: Bench) -> None:
    webui = bench.webui
    # A LoRA that the user has added to all prompts, and what the page remembers of the last prompt.
    webui.post("/sdapi/v1/options", {"sd_lora": "plain_B"})
    before = alone(webui, "a red circle")
    history, options = (webui.data / "params.txt").read_bytes(), webui.get("/sdapi/v1/options")
    status = compare(webui, bundle="A", prompts=PROMPTS)
    assert status["state"] == "done", status["message"]
    assert status["parts"] == list(TAGS)
    assert (webui.data / "params.txt").read_bytes() == history
    assert webui.get("/sdapi/v1/options") == options
    assert alone(webui, "a red circle") == before
    webui.post("/sdapi/v1/options", {"sd_lora": "None"})
    with Image.open(status["path"]) as image:
        cells, texts = pixels(image, len(TAGS), len(PROMPTS)), image.text
    assert len({cell for row in cells for cell in row}) == 10
    wanted = [[alone(webui, f"{tag}{prompt}") for tag in TAGS.values()] for prompt in PROMPTS]
    assert [[cell == image for cell, image in zip(*rows)] for rows in zip(cells, wanted)] == [[True] * 5] * 2
    assert texts["parameters"].startswith("<lora:A:1> a zogA, hat")
    infotexts = json.loads(texts["pivotal_comparison"])
    assert len(infotexts) == 10
    assert all("Seed: 5" in cell["infotext"] for cell in infotexts)


def test_a_second_checkpoint_is_used_and_the_first_one_is_loaded_again(bench: Bench) -> None:
    webui = bench.webui
    before = webui.pixels("a red circle")
    options = webui.get("/sdapi/v1/options")
    second = title_of(webui, "other")
    status = compare(webui, bundle="A", prompts=["zogA"], checkpoint=second)
    assert status["state"] == "done", status["message"]
    assert status["checkpoints"] == [title_of(webui, "random"), second]
    assert webui.get("/sdapi/v1/options") == options
    assert webui.pixels("a red circle") == before
    with Image.open(status["path"]) as image:
        first, other = pixels(image, len(TAGS), 2)
    assert len({*first, *other}) == 10
    webui.choose("other")
    assert [alone(webui, f"{tag}zogA") for tag in TAGS.values()] == other
    webui.choose("random")


@pytest.mark.parametrize("how", ["compare_stop", "interrupt"])
def test_it_can_be_interrupted_and_restores_the_checkpoint(bench: Bench, how: str) -> None:
    webui = bench.webui
    before = webui.pixels("a red circle")
    second = title_of(webui, "other")
    webui.post("/pivotal/v1/compare", {**SIZE, "bundle": "A", "prompts": ["x"], "checkpoint": second, "steps": 4})
    # In the second half, so that the second checkpoint is loaded.
    while webui.get("/pivotal/v1/compare")["done"] < 6:
        time.sleep(0.1)
    webui.post("/pivotal/v1/compare_stop" if how == "compare_stop" else "/sdapi/v1/interrupt")
    status = finished(webui)
    assert (status["state"], len(status["cells"])) == ("stopped", status["done"])
    with Image.open(status["path"]) as image:
        cells = [cell for row in pixels(image, 5, 2) for cell in row]
    assert [set(cell) == {255} for cell in cells] == [number >= status["done"] for number in range(10)]
    assert webui.pixels("a red circle") == before


def test_the_bundle_of_a_run_is_compared_in_its_folder_and_another_waits_for_the_training(
    bench: Bench, data: Path
) -> None:
    webui = bench.webui
    prompts = "zogling on a hill"
    start(webui, settings(data, "compared", steps=8, sample_prompts=prompts, sample_steps=2))
    wait_for_step(webui, 1)
    status, answer = webui.try_post("/pivotal/v1/compare")
    assert (status, "Training is running" in answer["message"]) == (409, True)
    webui.post("/pivotal/v1/compare", {**SIZE, "bundle": "A", "prompts": ["x"], "steps": 1})
    assert webui.get("/pivotal/v1/compare")["state"] == "queued"
    run = wait(webui)
    assert (run["state"], finished(webui)["state"]) == ("done", "done")
    webui.post("/pivotal/v1/compare")
    status = finished(webui)
    assert status["state"] == "done", status["message"]
    assert Path(status["path"]) == Path(run["run_folder"]) / "compare-000008.png"
    assert status["prompts"] == [prompts, "mibblefox"]
    assert status["parts"] == list(TAGS)


def plot(webui: Webui, prompt: str, label: str, values: str) -> list[bytes]:
    """The cells of an X/Y/Z plot over one axis."""
    # Not from /sdapi/v1/script-info, which fails in 1.6.1.
    script = webui.post("/pivotal-test/plot_script")
    nothing = [script["axes"].index("Nothing"), "", []]
    x = [script["axes"].index(f"[Pivotal] {label}"), values, []]
    # Legend, where reForge has three more settings; single images, smaller grids and seeds.
    legend = [False, False, False, 0] if kind_of(find_webui()) == "reforge" else [False]
    flags = [*legend, True, *[False] * (script["arguments"] - len(legend) - 12)]
    # Width of the margins, and values as a list.
    arguments = [*x, *nothing, *nothing, *flags, 0, True]
    task = {"prompt": prompt, **SIZE, "sampler_name": "Euler", "script_name": "x/y/z plot", "script_args": arguments}
    images = webui.post("/sdapi/v1/txt2img", task)["images"]
    return [Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB").tobytes() for image in images[1:]]


def test_axes_of_the_plot_give_what_their_prompts_give(bench: Bench) -> None:
    webui, prompt = bench.webui, "<lora:A:1> a zogA"
    parts = plot(webui, prompt, "Parts of a bundle", "whole, unet, text encoder, embeddings, nothing")
    assert len(parts) == len(set(parts)) == 5
    assert parts == [alone(webui, f"{tag}a zogA") for tag in TAGS.values()]
    weights = plot(webui, prompt, "Bundle weight", "0, 0.5, 1")
    assert (weights[0], weights[2]) == (parts[3], parts[0])
    assert weights[0] != parts[4], "with the weight 0 the embeddings still work"
    assert weights[1] not in parts
    with pytest.raises(AssertionError, match="saved no bundle at step '1'"):
        plot(webui, prompt, "Step of the newest run", "1")
    names = plot(webui, prompt, "Name", "zogA, s1")
    assert names == [parts[0], alone(webui, "<lora:A:1> a s1")]


def test_a_plot_without_a_bundle_says_why(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="must contain the tag of a bundle"):
        plot(bench.webui, "a zogA", "Bundle weight", "0, 1")
