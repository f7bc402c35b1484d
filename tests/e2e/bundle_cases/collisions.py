"""One name for two embeddings."""

from __future__ import annotations

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case, reference


@case(ALWAYS)
def of_two_loras_the_first_mentioned_wins_whatever_came_before(bench: Bench) -> None:
    both = "<lora:A:1><lora:B:1> s1 dog"
    wanted = reference(bench, both, files={"s1": 11})["c"]
    for prompt in (both, "<lora:B:1> s1 dog", both, "<lora:A:1> s1 dog", "<lora:A:1> s1 dog", both):
        found = bench.generate(prompt)
        if prompt == both:
            assert found["c"] == wanted
    swapped = "<lora:B:1><lora:A:1> s1 dog"
    assert bench.generate(swapped)["c"] == reference(bench, swapped, files={"s1": 21})["c"]


@case(ALWAYS)
def a_comment_names_a_collision_and_both_embeddings_can_be_used(bench: Bench) -> None:
    assert "s1@B" in bench.generate("<lora:A:1><lora:B:1> s1 dog")["comments"]
    found = bench.generate("<lora:A:1><lora:B:1> s1@B dog, s1@A")
    assert not found["comments"]
    wanted = reference(bench, "<lora:A:1><lora:B:1> otherb dog, othera", files={"otherb": 21, "othera": 11})
    assert found["c"] == wanted["c"]


@case(ALWAYS)
def an_installed_embedding_wins_and_a_comment_says_so(bench: Bench) -> None:
    wanted = reference(bench, "<lora:A:1> zogA", files={"zogA": 99})["c"]
    with bench.files(zogA=99):
        found = bench.generate("<lora:A:1> zogA")
        assert found["c"] == wanted
        assert "zogA" in found["comments"]
        own = bench.c("<lora:A:1> zogA@A")
    assert own == reference(bench, "<lora:A:1> zogA", files={"zogA": 12})["c"][-1]


@case(BUNDLES)
def an_installed_embedding_survives_a_bundle_of_its_name(bench: Bench) -> None:
    with bench.options(lora_in_memory_limit=5):
        bench.c("<lora:A:1> zogA")
        with bench.files(zogA=99):
            alone = bench.c("zogA cat")
            wanted = bench.c("<lora:plain_A:1> zogA cat")
            assert bench.c("<lora:A:1> zogA cat") == wanted
            bench.c("nothing")
            assert bench.c("zogA cat") == alone


@case(ALWAYS)
def a_comment_names_an_installed_embedding_in_other_capitals(bench: Bench) -> None:
    with bench.files(zoga=99):
        assert "zogA" in bench.generate("<lora:A:1> zoga")["comments"]


@case(ALWAYS)
def a_setting_makes_bundles_win(bench: Bench) -> None:
    wanted = reference(bench, "<lora:A:1> zogA", files={"zogA": 12})["c"][-1]
    with bench.files(zogA=99), bench.options(pivotal_loader_bundle_wins=True):
        assert bench.c("<lora:A:1> zogA") == wanted


@case(ALWAYS, BUNDLES)
def two_names_of_one_file_are_one_bundle(bench: Bench) -> None:
    tensors = {"bundle_emb.zogtwin.emb_params": bench.make.vectors(181)}
    bench.make.raw("twin", 18, tensors, {"ss_output_name": "othertwin"})
    bench.refresh()
    tags = "<lora:twin:1><lora:othertwin:1>"
    found = bench.generate(f"{tags} zogtwin hat")
    assert not found["comments"]
    # In the webui the LoRA is applied twice then.
    with bench.files(plaintwin=181):
        assert bench.c(f"{tags} plaintwin hat") == found["c"][-1]
