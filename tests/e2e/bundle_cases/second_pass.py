"""The second pass of hires fix, which has its own prompts and LoRAs."""

from __future__ import annotations

from tests.e2e.bundle_cases.bench import ALWAYS, BUNDLES, Bench, case, reference
from tests.e2e.server import find_webui, kind_of

_OF_FORGE = {"hr_additional_modules": ["Use same choices"]}
"""Host: modules/processing.py, ``hr_additional_modules``, Forge: what the page sends; without it a second pass fails."""
_TREE = find_webui()
_KIND = kind_of(_TREE) if _TREE is not None else "a1111"
HIRES = {
    "enable_hr": True,
    "hr_scale": 2,
    "hr_second_pass_steps": 1,
    # Forge-Neo has none for latents.
    "hr_upscaler": "None" if _KIND == "forge-neo" else "Latent",
    "denoising_strength": 0.7,
    **(_OF_FORGE if _KIND in ("forge", "forge-neo") else {}),
}
_FIRST_CONDS = "hires_fix_use_firstpass_conds"
"""Host: modules/processing.py, the second pass's prompt is encoded with the first pass's LoRAs; A1111 1.6.1-1.10.1."""


@case(ALWAYS, BUNDLES)
def a_second_pass_has_its_own_names(bench: Bench) -> None:
    files = {"fileone": 11, "filetwo": 21}
    for use_first, second in ((False, "filetwo"), (True, "fileone")):
        with bench.options(**{_FIRST_CONDS: use_first}):
            found = bench.generate("<lora:A:1> s1", hr_prompt="<lora:B:1> s1", **HIRES)["c"]
            wanted = reference(
                bench, "<lora:A:1> fileone", files=files, hr_prompt=f"<lora:plain_B:1> {second}", **HIRES
            )["c"]
            assert found == wanted, use_first


@case()
def a_second_pass_without_the_lora_knows_no_name(bench: Bench) -> None:
    with bench.options(**{_FIRST_CONDS: False}):
        wanted = bench.generate("zogA", **HIRES)["c"][-1]
        found = bench.generate("<lora:A:1> zogA", hr_prompt="zogA", **HIRES)["c"]
    assert found[-1] == wanted
    assert found[0] != found[-1]


def _uses_no_encoding_of_an_earlier_pass(bench: Bench, prompt: str, hr_prompt: str) -> None:
    """With one setting the second pass is encoded with the LoRAs of the first pass, with the other with its own."""
    task = {"prompt": prompt, "hr_prompt": hr_prompt, **HIRES}
    with bench.options(**{_FIRST_CONDS: False}):
        wanted = bench.generate(**task)["pixels"]
    with bench.options(**{_FIRST_CONDS: True}):
        other = bench.generate(**task)["pixels"]
    with bench.options(**{_FIRST_CONDS: False}):
        assert bench.generate(**task)["pixels"] == wanted
    assert other != wanted


@case(ALWAYS)
def a_second_pass_uses_no_stale_encoding(bench: Bench) -> None:
    _uses_no_encoding_of_an_earlier_pass(bench, "<lora:A:1> zogA", "zogA")


@case(ALWAYS)
def a_second_pass_uses_no_encoding_of_another_weight(bench: Bench) -> None:
    _uses_no_encoding_of_an_earlier_pass(bench, "<lora:A:1> dog", "<lora:A:0.2> dog again")


@case(ALWAYS)
def comments_of_a_second_pass_are_about_its_own_prompt(bench: Bench) -> None:
    bench.c("<lora:A:1> zogA")
    with bench.options(**{_FIRST_CONDS: False}):
        assert not bench.generate("<lora:A:1> zogA", hr_prompt="cat", **HIRES)["comments"]
        assert "zogA is in the LoRA A" in bench.generate("cat", hr_prompt="zogA", **HIRES)["comments"]
