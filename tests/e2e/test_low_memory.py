"""Training in webuis that were started in a low-memory mode; each needs a webui of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.images import NAMES, settings
from tests.e2e.runs import assert_same, losses_of, start, state_of, train, wait, wait_for_step
from tests.e2e.server import Webui, find_installed, running

pytestmark = pytest.mark.a1111("these modes are A1111's; Forge and reForge move parts of the model by themselves")


@pytest.fixture(scope="module", params=["--medvram", "--lowvram"])
def low(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, random_checkpoints: list[Path]
) -> Iterator[Webui]:
    """A webui in a low-memory mode that has made an image, so that its hooks have moved something."""
    tree, python = find_installed()
    folder = tmp_path_factory.mktemp("low") / "data"
    with running(tree, python, folder, random_checkpoints, arguments=(request.param,)) as server:
        server.pixels("a red circle")
        yield server


def test_a_run_leaves_the_mode_and_every_weight_and_pixel_as_they_were(low: Webui, data: Path) -> None:
    image, before = low.pixels("a red circle"), state_of(low)
    assert before["low_memory"] == [True, ["decode", "encode"]]
    assert before["hooks"] > 2
    # Previews are made before, during and after it.
    status = train(low, settings(data, "low", steps=4, sample_every=2))
    assert len(status["samples"]) == 6
    assert_same(state_of(low), before)
    assert low.pixels("a red circle") == image
    assert low.pixels(f"{NAMES[0]} <lora:low:1>") != low.pixels(NAMES[0])
    # Previews do not change what is learned.
    assert losses_of(train(low, settings(data, "low_2", steps=4, sample_every=0))) == losses_of(status)


def test_a_run_that_is_stopped_or_fails_leaves_everything_as_it_was(low: Webui, data: Path) -> None:
    image, before = low.pixels("a red circle"), state_of(low)
    start(low, settings(data, "low_stopped", steps=500, sample_every=0))
    wait_for_step(low, 1)
    low.post("/pivotal/v1/stop")
    assert wait(low)["state"] == "stopped"
    assert_same(state_of(low), before)
    run = str(low.data / "runs" / "broken")
    answer = low.post("/pivotal-test/train_broken", {"config": settings(data, "low_x"), "run": run, "raise_at": 2})
    assert answer == {"error": "deliberate"}
    assert_same(state_of(low), before)
    assert low.pixels("a red circle") == image
