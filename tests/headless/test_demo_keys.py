"""Names of an SD1 checkpoint's tensors: the map covers the small model's modules and loses nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint  # noqa: E402

from lib_pivotal.demo.base_model.networks import make_text_encoder, make_unet, make_vae  # noqa: E402
from lib_pivotal.host.diffusers.ldm_keys import PREFIXES, parts_with, to_ldm, unet_state  # noqa: E402


@pytest.fixture(scope="module")
def states():
    words = {f"text_model.{n.removeprefix('text_model.')}": v for n, v in make_text_encoder().state_dict().items()}
    return make_unet().state_dict(), make_vae().state_dict(), words


def test_names_map_one_to_one_and_back(states):
    unet, vae, text = states
    ldm = to_ldm(unet, vae, text, "sd1")
    assert len(ldm) == len(unet) + len(vae) + len(text)
    assert all(key.startswith(tuple(PREFIXES.values())) for key in ldm)
    config = {"down_block_types": [0] * 4, "up_block_types": [0] * 4}
    for back, state in (
        (unet_state(ldm), unet),
        (convert_ldm_vae_checkpoint(dict(ldm), config), vae),
        (parts_with(ldm, PREFIXES["text"]), text),
    ):
        assert set(back) == set(state)
        assert all(torch.equal(back[name], value) for name, value in state.items())


def test_names_are_those_that_webuis_look_for(states):
    ldm = to_ldm(*states, "sd1")
    for key in (
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.output_blocks.2.1.conv.weight",
        "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "first_stage_model.encoder.down.2.downsample.conv.weight",
        "first_stage_model.decoder.up.3.upsample.conv.bias",
        "first_stage_model.decoder.mid.attn_1.proj_out.weight",
        "first_stage_model.quant_conv.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    ):
        assert key in ldm
    assert ldm["first_stage_model.decoder.mid.attn_1.q.weight"].ndim == 4
    assert not any("temporal" in key or "ema" in key for key in ldm)
