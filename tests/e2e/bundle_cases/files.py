"""LoRA files that are replaced, damaged, hostile, or for another model."""

from __future__ import annotations

import time

from safetensors.torch import save_file

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case, reference


@case(ALWAYS)
def a_replaced_file_changes_encodings_and_weights(bench: Bench) -> None:
    bench.make.bundle("fresh", 3, {"newword": 31})
    bench.refresh()
    before, image = bench.generate("<lora:fresh:1> newword"), bench.webui.pixels("<lora:fresh:1> cat")
    time.sleep(0.02)
    bench.make.bundle("fresh", 4, {"newword": 41})
    after = bench.generate("<lora:fresh:1> newword")
    assert after["c"] != before["c"]
    assert after["c"] == reference(bench, "<lora:fresh:1> newword", files={"newword": 41})["c"]
    assert bench.webui.pixels("<lora:fresh:1> cat") != image
    assert bench.webui.pixels("<lora:fresh:1> cat") == bench.webui.pixels("<lora:plain_fresh:1> cat")


@case(ALWAYS, BUNDLES)
def a_file_replaced_while_not_in_use_is_used_next_time(bench: Bench) -> None:
    bench.make.bundle("idle", 3, {"newword": 31})
    bench.refresh()
    bench.webui.pixels("<lora:idle:1> newword")
    bench.webui.pixels("nothing")
    time.sleep(0.02)
    bench.make.bundle("idle", 4, {"newword": 41})
    assert bench.webui.pixels("<lora:idle:1> cat") == bench.webui.pixels("<lora:plain_idle:1> cat")
    found = bench.c("<lora:idle:1> newword")
    assert found == reference(bench, "<lora:idle:1> newword", files={"newword": 41})["c"][-1]


@case(ALWAYS)
def vectors_for_another_model_are_not_used_and_a_comment_says_so(bench: Bench) -> None:
    wide, large = bench.make.vectors(71, width=768), bench.make.vectors(72, width=1280)
    bench.make.raw("xl", 7, {"bundle_emb.bigone.clip_l": wide, "bundle_emb.bigone.clip_g": large})
    bench.refresh()
    found = bench.generate("<lora:xl:1> bigone")
    assert found["c"] == reference(bench, "<lora:xl:1> bigone", files={})["c"]
    assert "bigone" in found["comments"] and "SDXL" in found["comments"]


@case(ALWAYS)
def odd_embedding_keys_lose_neither_lora_nor_names(bench: Bench) -> None:
    vectors = bench.make.vectors(81)
    for number, named in enumerate((
        {"bundle_emb.oddone.clip_l": vectors, "bundle_emb.oddone.clip_l_out": vectors + 1},
        {"bundle_emb.oddone.emb_params": vectors, "bundle_emb.nokey": vectors + 1},
        {"bundle_emb.oddone.emb_params": vectors, "bundle_emb.scalar.emb_params": vectors.sum()},
        {"bundle_emb.oddone.emb_params": vectors, "bundle_emb.cube.emb_params": vectors[None] + 1},
        {"bundle_emb.oddone.clip_l": vectors, "bundle_emb.oddone.t5": vectors + 1},
    )):  # fmt: skip
        name = f"odd{number}"
        bench.make.raw(name, 8, named)
        bench.refresh()
        prompt = f"<lora:{name}:1> oddone hat"
        assert bench.c(prompt) == reference(bench, prompt, files={"oddone": 81})["c"][-1], sorted(named)


@case(ALWAYS, blocks=True)
def hostile_names_change_no_prompt(bench: Bench) -> None:
    names = {",": 1, "masterpiece": 2, "a": 3, "<|endoftext|>": 4, '<script>alert("x")</script>': 5, "../../x": 6}
    bench.make.bundle("hostile", 12, names)
    bench.refresh()
    prompt = "<lora:hostile:1> a cat, masterpiece"
    found = bench.generate(prompt)
    assert found["c"] == reference(bench, prompt, files={})["c"]
    assert "masterpiece" in found["comments"]
    parsed = bench.webui.post(
        "/pivotal-test/parse_infotext", {"text": bench.generate("<lora:hostile:1> ../../x")["text"]}
    )
    assert parsed["Steps"] == "1"


@case(ALWAYS)
def a_comment_names_a_broken_or_missing_lora_and_the_others_work(bench: Bench) -> None:
    for number, contents in enumerate((b"", b"\xff" * 7 + b"\x0f" + b"{", (2**60).to_bytes(8, "little") + b"{}")):
        (bench.make.loras / f"broken{number}.safetensors").write_bytes(contents)
    bench.refresh()
    wanted = bench.c("<lora:A:1> zogA")
    for number in range(3):
        found = bench.generate(f"<lora:broken{number}:1><lora:A:1><lora:missing:1> zogA")
        assert found["c"][-1] == wanted
        assert f"broken{number}.safetensors" in found["comments"]
        assert "missing" in found["comments"]
        renamed = (bench.make.loras / f"broken{number}.safetensors.corrupted").exists()
        assert (f"has renamed it to broken{number}.safetensors.corrupted" in found["comments"]) == renamed


@case(ALWAYS, blocks=True)
def a_name_without_tokens_blocks_no_other_lora(bench: Bench) -> None:
    bench.make.raw("blank", 14, {"bundle_emb. .emb_params": bench.make.vectors(141)})
    bench.refresh()
    bench.c("<lora:blank:1> cat")
    prompt = "<lora:A:1> zogA again"
    assert bench.c(prompt) == reference(bench, prompt, files={"zogA": 12})["c"][-1]


@case(ALWAYS)
def files_next_to_a_lora_belong_to_it_if_the_settings_say_so(bench: Bench) -> None:
    bench.make.raw("pair", 15, {})
    rows = bench.make.vectors(151, count=2)
    save_file({"clip_l": rows}, bench.make.loras / "pair_emb.safetensors")
    bench.refresh()
    prompt = "<lora:pair:1> <s0><s1> dog"
    without = bench.c(prompt)
    with bench.options(pivotal_loader_pairs=True):
        found = bench.c(prompt)
    save_file({"emb_params": rows}, bench.make.embeddings / "bothrows.safetensors")
    try:
        bench.webui.post("/pivotal-test/reload_textual_inversion")
        wanted = bench.c("<lora:plain_pair:1> bothrows dog")
    finally:
        (bench.make.embeddings / "bothrows.safetensors").unlink()
        bench.webui.post("/pivotal-test/reload_textual_inversion")
    assert found == wanted != without


@case(ALWAYS)
def onetrainers_folder_next_to_a_lora_belongs_to_it_if_the_settings_say_so(bench: Bench) -> None:
    bench.make.raw("trained", 16, {})
    folder = bench.make.loras / "trained.safetensors_embeddings"
    folder.mkdir(exist_ok=True)
    save_file({"emp_params": bench.make.vectors(161)}, folder / "nim_v1.safetensors")
    bench.refresh()
    prompt = "<lora:trained:1> nim_v1 hat"
    without = bench.c(prompt)
    with bench.options(pivotal_loader_pairs=True):
        found = bench.c(prompt)
    assert found == reference(bench, prompt, files={"nim_v1": 161})["c"][-1] != without
