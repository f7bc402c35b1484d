"""Runs in a real webui through its API, and comparisons that tests of several files make around them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import NAMES, settings
from tests.e2e.server import Webui

__all__ = [
    "assert_conds_equal_files",
    "assert_delta_is_ours",
    "assert_fp8_changes_little",
    "assert_same",
    "losses_of",
    "start",
    "state_of",
    "train",
    "wait",
    "wait_for_step",
]


def start(webui: Webui, config: dict[str, Any]) -> dict[str, Any]:
    """Start a run; returns the answer."""
    return webui.post("/pivotal/v1/train", config)


def wait(webui: Webui) -> dict[str, Any]:
    """Status of the run once it is over and the webui has everything back."""
    while (status := webui.get("/pivotal/v1/status"))["is_active"]:
        time.sleep(0.2)
    return status


def train(webui: Webui, config: dict[str, Any]) -> dict[str, Any]:
    """Status of a run that was started and has ended well."""
    start(webui, config)
    status = wait(webui)
    assert status["state"] == "done", status["message"]
    return status


def wait_for_step(webui: Webui, step: int) -> None:
    """Wait until the run has finished a step."""
    while (status := webui.get("/pivotal/v1/status"))["step"] < step:
        assert status["is_active"], status
        time.sleep(0.1)


def losses_of(status: dict[str, Any]) -> list[float]:
    """The loss of each step."""
    return [point[1] for point in status["losses"]]


def assert_recorded_passes_learn_the_same(webui: Webui, data: Path, name: str) -> None:
    """Passes that are recorded, by a stand-in for CUDA graphs, learn what usual ones learn."""
    config = settings(data, f"usual_{name}", steps=16, sample_every=0, lora_start=0.4, text_encoder_rank=2)
    usual = losses_of(train(webui, config))
    recorded = {"config": {**config, "output_name": f"recorded_{name}"}, "run": str(webui.data / "runs" / "recorded")}
    found = webui.post("/pivotal-test/train_recorded", recorded)
    assert found["losses"] == pytest.approx(usual, rel=1e-3)
    assert all(repeated > recorded > 0 for recorded, repeated in found["counts"]), found["counts"]
    assert len(found["counts"]) > 1


def state_of(webui: Webui) -> dict[str, Any]:
    """Digests and flags of everything in the webui that a run must leave as it was."""
    return webui.post("/pivotal-test/fingerprint")


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    """Two states are equal but for the cache of encoded prompts, which a run empties."""
    names = {*before, *after} - {"cached_conds"}
    changed = {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
    assert not changed, f"before and after: {changed}"


def assert_conds_equal_files(webui: Webui, lora: str, names: Sequence[str]) -> None:
    """Encodings with a bundle equal those with the same vectors as ordinary files, and only those."""
    prompts = [*names, f"{names[0]} and {names[1]}, red background"]
    bundled = [webui.post("/pivotal-test/conds", {"prompt": text, "lora": lora})["digest"] for text in prompts]
    plain = [webui.post("/pivotal-test/conds", {"prompt": text})["digest"] for text in prompts]
    folder = str(webui.data / "embeddings")
    exported = webui.post("/pivotal-test/export_embeddings", {"lora": lora, "folder": folder})
    try:
        assert sorted(exported) == sorted(names)
        files = [webui.post("/pivotal-test/conds", {"prompt": text})["digest"] for text in prompts]
    finally:
        webui.post("/pivotal-test/remove_embeddings", {"names": exported, "folder": folder})
    assert bundled == files
    assert all(one != other for one, other in zip(bundled, plain, strict=True))


def assert_delta_is_ours(webui: Webui, name: str, tolerance: float = 1e-5) -> dict[str, int]:
    """What the webui adds to the weights for a bundle is what was trained; returns how many layers of each kind.

    Forge and reForge add it to the weights themselves, where rounding makes it less exact.
    """
    merges = webui.kind != "a1111"
    answer = webui.post(f"/pivotal-test/{'merged' if merges else 'lora'}_delta", {"name": name})
    assert not answer["lost"]
    assert max(answer["worst"].values()) <= (0.02 if merges else tolerance), answer["worst"]
    return answer["count"]


def assert_fp8_changes_little(
    webui: Webui, store: Callable[[bool], None], data: Path, name: str, **changes: int
) -> None:
    """A run on weights in fp8 leaves them and the images alone, and has nearly the losses of a run on bf16."""
    store(True)
    image, before = webui.pixels("a red circle"), state_of(webui)
    assert "torch.float8_e4m3fn" in before["dtypes"]
    status = train(webui, settings(data, name, **changes))
    assert_same(state_of(webui), before)
    assert webui.pixels("a red circle") == image
    assert webui.pixels(f"{NAMES[0]} <lora:{name}:1>") != webui.pixels(NAMES[0])
    store(False)
    plain = train(webui, settings(data, f"{name}_bf16", **{**changes, "sample_every": 0}, precision="bf16"))
    assert losses_of(status) == pytest.approx(losses_of(plain), rel=0.1)
