"""Generations one after another and at once: batches, inner passes, queued, interrupted and failed jobs."""

from __future__ import annotations

import concurrent.futures
import re
import time

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case, reference


@case(ALWAYS)
def the_same_image_twice_has_the_same_infotext_and_hashes(bench: Bench) -> None:
    first, second = (bench.generate("<lora:A:1> zogA hat") for _ in range(2))
    assert "TI hashes" in first["text"] and "zogA" in first["text"].split("TI hashes")[1]
    assert first["text"] == second["text"]
    parsed = bench.webui.post("/pivotal-test/parse_infotext", {"text": first["text"]})
    assert re.search(r"zogA: [0-9a-f]{10,12}", parsed["TI hashes"])


@case(ALWAYS, BUNDLES)
def batches_and_iterations_keep_the_names(bench: Bench) -> None:
    prompt = "<lora:A:1> zogA"
    wanted = reference(bench, prompt, files={"zogA": 12})["c"][-1]
    assert set(bench.generate(prompt, n_iter=2)["c"]) == {wanted}
    two = bench.generate(prompt, batch_size=2)["c"]
    assert two == reference(bench, prompt, files={"zogA": 12}, batch_size=2)["c"]


@case(ALWAYS, BUNDLES)
def images_of_one_batch_may_have_different_prompts(bench: Bench) -> None:
    """In the webui the tags of the first prompt count for all of them."""

    def encodings(*prompts: str) -> list[str]:
        seen = bench.webui.post("/pivotal-test/inner_pass", {"prompt": list(prompts)})["conds"]
        return [digest for kind, digest, _ in seen if kind == "c"]

    found = encodings("<lora:A:1> zogA", "<lora:B:1> a cat, zogA and s1")
    with bench.files(plainone=12, plaintwo=11):
        assert encodings("<lora:A:1> plainone", "<lora:B:1> a cat, plainone and plaintwo") == found
    assert encodings("zogA", "a cat, zogA and s1") != found


@case(ALWAYS, BUNDLES)
def inner_passes_of_other_extensions_follow_their_own_prompt(bench: Bench) -> None:
    with_tag = bench.webui.post("/pivotal-test/inner_pass", {"prompt": "<lora:A:1> zogA"})["conds"]
    without = bench.webui.post("/pivotal-test/inner_pass", {"prompt": "zogA"})["conds"]
    with bench.files(zogA=12):
        wanted = bench.webui.post("/pivotal-test/inner_pass", {"prompt": "<lora:plain_A:1> zogA"})["conds"]
    assert [item[1] for item in with_tag if item[0] == "c"] == [item[1] for item in wanted if item[0] == "c"]
    assert [item[1] for item in without if item[0] == "c"] != [item[1] for item in wanted if item[0] == "c"]


@case()
def an_interrupted_job_leaves_no_name_behind(bench: Bench) -> None:
    plain, named = bench.c("zogA cat"), bench.c("<lora:A:1> zogA cat")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        job = pool.submit(bench.webui.pixels, "<lora:A:1> zogA", steps=150)
        time.sleep(0.3)
        bench.webui.post("/sdapi/v1/interrupt")
        job.result()
    assert bench.c("zogA cat") == plain
    assert bench.c("<lora:A:1> zogA cat") == named != plain


@case()
def queued_jobs_do_not_mix_their_names(bench: Bench) -> None:
    prompts = ["<lora:A:1> s1 queue", "<lora:B:1> s1 queue", "s1 queue"]
    wanted = [bench.webui.pixels(prompt) for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = list(pool.map(bench.webui.pixels, prompts * 2))
    assert found == wanted * 2


@case()
def a_failed_job_leaves_no_name_behind(bench: Bench) -> None:
    plain = bench.c("zogA cat")
    assert bench.webui.post("/pivotal-test/failing_pass", {"prompt": "<lora:A:1> zogA"})["failed"]
    assert bench.c("zogA cat") == plain
    assert bench.c("<lora:A:1> zogA cat") != plain
