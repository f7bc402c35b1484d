"""The webui's page: refresh buttons, cards, token counter."""

from __future__ import annotations

import concurrent.futures
import re
from typing import Any

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case


@case(ALWAYS, BUNDLES)
def refreshing_embeddings_loses_no_names(bench: Bench) -> None:
    wanted = bench.c("<lora:A:1> zogA hill")
    bench.webui.post("/pivotal-test/reload_textual_inversion")
    if bench.version >= (1, 8):
        bench.webui.post("/sdapi/v1/refresh-embeddings")
    with bench.files(unrelated=77):
        assert bench.c("<lora:A:1> zogA hill, x") != bench.c("<lora:plain_A:1> zogA hill, x")
        assert bench.c("<lora:A:1> zogA hill") == wanted


@case((1, 8))
def cards_of_embeddings_do_not_break(bench: Bench) -> None:
    bench.c("<lora:A:1> zogA")
    bench.webui.post("/pivotal-test/cards", {"page": "textual"})


@case(ALWAYS)
def cards_of_loras_show_and_insert_the_names(bench: Bench) -> None:
    item = next(item for item in bench.webui.post("/pivotal-test/cards", {"page": "lora"}) if item["name"] == "A")
    assert "zogA" in str(item["description"])
    assert "zogA" in item["prompt"]
    assert "zogA" in str(item["search_terms"] or item["search_term"])


@case(ALWAYS)
def names_on_cards_are_never_markup(bench: Bench) -> None:
    bench.make.bundle("marked", 16, {'<img src=x onerror="alert(1)">': 161})
    bench.refresh()
    shown = bench.webui.post("/pivotal-test/card_html", {"page": "lora"})["html"]
    assert "<img src=x" not in shown
    assert len(re.findall("&lt;img src=x", shown)) >= 3  # searched for, shown and inserted


def _count(bench: Bench, text: str, **fields: Any) -> int:
    answer = bench.webui.post("/pivotal-test/token_count", {"text": text, **fields})["answer"]
    return int(re.search(r">(\d+)/", answer)[1])


@case(ALWAYS)
def the_counter_knows_names_before_the_first_image(bench: Bench) -> None:
    bench.make.bundle("counted", 13, {"quizzaciously": 131})
    bench.refresh()
    plain = _count(bench, "quizzaciously hat")
    assert plain > 3
    assert _count(bench, "<lora:counted:1> quizzaciously hat") == 3  # two vectors and a word
    bench.c("<lora:counted:1> quizzaciously hat")
    assert _count(bench, "quizzaciously hat") == plain


@case(BUNDLES)
def the_counter_of_the_negative_prompt_knows_the_names_of_the_prompt(bench: Bench) -> None:
    if bench.version < BUNDLES:
        return  # that webui does not say which of the two it counts
    bench.make.bundle("counted", 13, {"quizzaciously": 131})
    bench.refresh()
    plain = _count(bench, "cat") and _count(bench, "quizzaciously hat", negative=True)
    _count(bench, "<lora:counted:1> cat")
    assert _count(bench, "quizzaciously hat", negative=True) == 3 < plain


@case(ALWAYS)
def counting_during_a_generation_disturbs_neither(bench: Bench) -> None:
    bench.make.bundle("counted", 13, {"quizzaciously": 131})
    bench.refresh()
    wanted = bench.webui.pixels("<lora:A:1> zogA, quizzaciously hat", steps=8)
    counted = set()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        job = pool.submit(bench.webui.pixels, "<lora:A:1> zogA, quizzaciously hat", steps=8)
        while not job.done():
            counted.add(_count(bench, "<lora:counted:1> quizzaciously hat"))
    assert job.result() == wanted
    assert counted == {3}
