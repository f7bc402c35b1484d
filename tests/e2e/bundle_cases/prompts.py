"""Names in prompts: where they work, and what the options of a tag do."""

from __future__ import annotations

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case, reference, references


@case(ALWAYS, BUNDLES)
def a_name_gives_what_an_embedding_file_gives(bench: Bench) -> None:
    prompt = "<lora:A:1> a zogA on a hill, s1"
    assert bench.generate(prompt)["c"] == reference(bench, prompt, files={"zogA": 12, "s1": 11})["c"]


@case()
def a_name_without_its_lora_is_plain_text(bench: Bench) -> None:
    before = bench.c("a zogA")
    bench.c("<lora:A:1> a zogA")
    assert bench.c("a zogA") == before


@case(ALWAYS)
def a_comment_says_that_a_name_without_its_lora_is_plain_text(bench: Bench) -> None:
    bench.c("<lora:A:1> a zogA")
    assert "zogA is in the LoRA A" in bench.generate("a zogA")["comments"]
    assert not bench.generate("a zogAB, zog")["comments"]


@case(ALWAYS, BUNDLES)
def names_work_in_the_negative_prompt(bench: Bench) -> None:
    fields = {"negative_prompt": "zogA, bad"}
    wanted = reference(bench, "<lora:A:1> cat", files={"zogA": 12}, **fields)
    assert bench.generate("<lora:A:1> cat", **fields)["uc"] == wanted["uc"]


@case(ALWAYS, BUNDLES)
def names_work_in_every_prompt_syntax(bench: Bench) -> None:
    texts = (
        "[zogA:cat:1]", "[cat:zogA:1]", "[zogA|cat]", "zogA AND cat", "(zogA:1.3)", "zogA BREAK zogA",
        "zogA's hat", "zogA.\nzogA", "zogA zogA", "(((zogA)))", "ZOGA", "word " * 74 + "zogA", "word, " * 37 + "zogA",
    )  # fmt: skip
    prompts = [f"<lora:A:1>{text}" for text in texts]
    # Some of them change the prompt after a step.
    wanted = references(bench, prompts, files={"zogA": 12}, steps=2)
    for prompt, digest in zip(prompts, wanted):
        assert bench.c(prompt, steps=2) == digest, prompt


@case(ALWAYS)
def dotted_names_work(bench: Bench) -> None:
    bench.make.bundle("dotted", 9, {"mychar.v1.0": 91, "mychar.v2.0": 92}, key="emb_params")
    bench.refresh()
    prompt, plain = "<lora:dotted:1> mychar.v1.0 and mychar.v2.0", "<lora:dotted:1> firstone and secondone"
    assert bench.c(prompt) == reference(bench, plain, files={"firstone": 91, "secondone": 92})["c"][-1]


@case(ALWAYS)
def names_next_to_punctuation_work(bench: Bench) -> None:
    bench.make.bundle("marks", 10, {"<s0>": 101, "<s1>": 102, "my_char_": 103, "asuka (eva)": 104})
    bench.refresh()
    files = {"wordone": 101, "wordtwo": 102, "wordthree": 103, "wordfour": 104}
    pairs = (
        ("<s0><s1> dog", "wordone wordtwo dog"),
        ("photo of <s0>, smiling", "photo of wordone , smiling"),
        ("<s1>.", "wordtwo ."),
        ("(<s0>:1.2), x", "(wordone:1.2), x"),
        ("my_char_, x", "wordthree , x"),
        (r"asuka \(eva\), x", "wordfour , x"),
    )
    wanted = references(bench, [f"<lora:marks:1> {plain}" for _, plain in pairs], files=files)
    for (text, _), digest in zip(pairs, wanted):
        assert bench.c(f"<lora:marks:1> {text}") == digest, text


@case(ALWAYS)
def tags_rename_and_switch_off(bench: Bench) -> None:
    plain, files = "<lora:A:1> otherword", {"otherword": 12}
    wanted = reference(bench, plain, files=files)["c"][-1]
    assert bench.c("<lora:A:1:ti=zogA/hero> hero") == wanted
    assert bench.c("<lora:A:1:ti=pre_> pre_zogA") == wanted
    bench.make.bundle("default", 17, {"<embedding>": 12})
    bench.refresh()
    default = bench.c("<lora:default:1:ti=embedding/hero> hero")
    assert default == reference(bench, "<lora:default:1> otherword", files=files)["c"][-1]
    off = bench.c("<lora:A:1:ti=off> zogA")
    assert off == reference(bench, "<lora:A:1> zogA", files={})["c"][-1]
    assert bench.c("<lora:A:1> zogA") != off


@case(ALWAYS, BUNDLES)
def weights_and_aliases_make_no_difference_to_names(bench: Bench) -> None:
    prompts = ("<lora:A:0> zogA", "<lora:A:0.5> zogA", "<lora:A:1:0.3> zogA")
    for prompt, digest in zip(prompts, references(bench, prompts, files={"zogA": 12})):
        assert bench.c(prompt) == digest, prompt


@case(ALWAYS)
def the_lora_that_the_settings_add_counts(bench: Bench) -> None:
    without = bench.c("zogA by settings")
    with bench.options(sd_lora="A"):
        added = bench.c("zogA by settings")
    assert added != without
    assert added == bench.c("<lora:A:1>zogA by settings")
    assert bench.c("zogA by settings") == without


@case(ALWAYS, BUNDLES)
def the_longest_embedding_fills_a_chunk(bench: Bench) -> None:
    bench.make.raw("long", 19, {"bundle_emb.zoglong.emb_params": bench.make.vectors(191, count=75)})
    bench.refresh()
    path = bench.make.file("plainlong", 191, 75)
    try:
        bench.webui.post("/pivotal-test/reload_textual_inversion")
        for text in ("{} hat", "a hat, {}", "hat {} and {}"):
            wanted = bench.c("<lora:plain_long:1> " + text.replace("{}", "plainlong"))
            assert bench.c("<lora:long:1> " + text.replace("{}", "zoglong")) == wanted, text
    finally:
        path.unlink()
        bench.webui.post("/pivotal-test/reload_textual_inversion")


@case(ALWAYS, BUNDLES)
def names_in_every_alphabet_work(bench: Bench) -> None:
    names = {"初音ミク": 111, "мия_v1": 112, "हिन्दी_1": 113, "Élodie x": 114}
    bench.make.bundle("ミク_v1", 11, names)
    bench.refresh()
    prompts = [f"<lora:ミク_v1:1> {text}" for text in ("a {}, hat", "({}:1.2) hat")]
    plain = {f"plainword{seed}": seed for seed in names.values()}
    wanted = references(bench, [prompt.format(word) for prompt in prompts for word in plain], files=plain)
    found = [bench.c(prompt.format(name)) for prompt in prompts for name in names]
    assert found == wanted
