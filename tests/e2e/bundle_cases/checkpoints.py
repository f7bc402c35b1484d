"""Other checkpoints: refiner, second pass, the one selected on the page."""

from __future__ import annotations

import time

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case, reference
from tests.e2e.bundle_cases.second_pass import HIRES


def _title(bench: Bench, name: str) -> str:
    titles = [item["title"] for item in bench.webui.get("/sdapi/v1/sd-models")]
    return next(title for title in titles if title.startswith(name))


@case(ALWAYS)
def a_refiner_keeps_the_names(bench: Bench) -> None:
    task = {"refiner_checkpoint": _title(bench, "other"), "refiner_switch_at": 0.5, "steps": 2}
    for _ in range(2):
        found = bench.generate("<lora:A:1> zogA refined", **task)
        wanted = reference(bench, "<lora:A:1> zogA refined", files={"zogA": 12}, **task)
        assert found["c"] == wanted["c"]
        assert len(found["c"]) == 2, "the refiner did not encode again"
    bench.c("nothing")


@case(ALWAYS, BUNDLES)
def a_second_pass_with_another_checkpoint_keeps_the_names(bench: Bench) -> None:
    task = {**HIRES, "hr_checkpoint_name": _title(bench, "other"), "hr_prompt": "<lora:A:1> zogA twice"}
    found = bench.generate("<lora:A:1> zogA twice", **task)["c"]
    plain = {**task, "hr_prompt": "<lora:plain_A:1> zogA twice"}
    assert found == reference(bench, "<lora:A:1> zogA twice", files={"zogA": 12}, **plain)["c"]
    bench.c("nothing")


@case(ALWAYS, BUNDLES)
def other_checkpoints_keep_the_names(bench: Bench) -> None:
    other, first = _title(bench, "other"), _title(bench, "random")
    wanted = bench.c("<lora:A:1> zogA")
    for limit in (1, 2):
        with bench.options(sd_checkpoints_limit=limit):
            for title in (other, first, other, first):
                bench.webui.post("/sdapi/v1/options", {"sd_model_checkpoint": title})
                found = bench.c("<lora:A:1> zogA")
                assert found == reference(bench, "<lora:A:1> zogA", files={"zogA": 12})["c"][-1]
    assert bench.c("<lora:A:1> zogA") == wanted


@case(ALWAYS)
def a_replaced_file_is_applied_again_in_every_model_in_memory(bench: Bench) -> None:
    # The last one that changes the checkpoint: with fewer allowed than are in memory, 1.6.1 throws out a wrong one.
    bench.make.bundle("kept", 3, {"newword": 31})
    bench.refresh()
    other, first = _title(bench, "other"), _title(bench, "random")
    with bench.options(sd_checkpoints_limit=2):
        bench.webui.post("/sdapi/v1/options", {"sd_model_checkpoint": first})
        bench.webui.pixels("<lora:kept:1> cat")
        bench.webui.post("/sdapi/v1/options", {"sd_model_checkpoint": other})
        bench.webui.pixels("nothing")
        time.sleep(0.02)
        bench.make.bundle("kept", 4, {"newword": 41})
        bench.webui.post("/sdapi/v1/options", {"sd_model_checkpoint": first})
        assert bench.webui.pixels("<lora:kept:1> cat") == bench.webui.pixels("<lora:plain_kept:1> cat")
