"""SD2 with velocity and SDXL in the headless host, and key names over the complete lists of all families."""

from __future__ import annotations

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.naming import diffusers_to_ldm, kohya_key, ldm_to_diffusers
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.host.diffusers import load
from lib_pivotal.host.diffusers.ldm_keys import open_clip_state
from lib_pivotal.host.diffusers.shapes import unet_params, unet_shape
from lib_pivotal.host.diffusers.standard import CLIP_L, standard_config
from tests.headless.families import open_clip_names, write_sd2, write_sdxl

SIZE = ImageSize((80, 64), (0, 8), (64, 64))
FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def sd2(tmp_path_factory):
    return write_sd2(tmp_path_factory.mktemp("sd2"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return write_sdxl(tmp_path_factory.mktemp("sdxl"))


def some_vectors(encoder, count=3):
    return (torch.randn(count, encoder.width, generator=torch.Generator().manual_seed(0)) * 0.02).requires_grad_()


def output(model, text, embeddings=None, size=SIZE):
    condition = TextConditioner(model, embeddings).encode([text], [size])[0].conditioning
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return model.predict(noisy, torch.tensor([400]), condition)


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_file_and_folder_are_the_same_model(request, family):
    small = request.getfixturevalue(family)
    file, folder = load(small.file, device="cpu"), load(small.folder, device="cpu")
    assert file.family == folder.family == family
    assert torch.allclose(output(file, "a red hat"), output(folder, "a red hat"), atol=1e-5)
    assert file.is_v_prediction == folder.is_v_prediction == (family == "sd2")
    assert torch.equal(file.alphas_cumprod, folder.alphas_cumprod)
    keys = [{target.key for target in model.lora_targets() if target.part == "unet"} for model in (file, folder)]
    assert keys[0] == keys[1]
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.allclose(file.vae.encode(pixels)[0], folder.vae.encode(pixels)[0], atol=1e-5)


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_gradients_reach_the_vectors_of_every_encoder(request, family):
    model = load(request.getfixturevalue(family).file, device="cpu")
    weights = {encoder.name: some_vectors(encoder) for encoder in model.text_encoders}
    output(model, "a my_hero on a hill", EmbeddingWeights({"my_hero": (0, 3)}, weights)).square().sum().backward()
    for weight in weights.values():
        assert (weight.grad.abs().sum(1) > 0).all()


def test_sd2_reads_the_layer_before_the_last_through_the_last_norm(sd2):
    encoder = load(sd2.file, device="cpu").text_encoders[0]
    ids = torch.full((1, 77), 0)
    ids[0, :4] = torch.tensor([49406, 736, 3801, 49407])
    nothing = torch.empty(0, dtype=torch.int64)
    found = encoder.encode(ids, nothing, nothing, torch.empty(0, 64))
    layers = encoder.text_model(input_ids=ids, output_hidden_states=True).hidden_states
    norm = getattr(encoder.text_model, "text_model", encoder.text_model).final_layer_norm
    assert torch.equal(found.hidden, norm(layers[-2]))
    assert found.pooled is None
    assert encoder.pad_id == 0


def test_sdxl_reads_both_encoders_as_it_was_made(sdxl):
    """The oracle is diffusers' own pipeline."""
    model = load(sdxl.folder, device="cpu")
    first, second = (encoder._part for encoder in model.text_encoders)
    pipe = diffusers.StableDiffusionXLPipeline(
        vae=model.vae._vae,
        unet=model.unet,
        text_encoder=first.model,
        text_encoder_2=second.model,
        tokenizer=first.tokenizer,
        tokenizer_2=padding_with_zero(first.tokenizer),
        scheduler=diffusers.DDIMScheduler(),
        force_zeros_for_empty_prompt=True,
    )
    hidden, empty, pooled, empty_pooled = pipe.encode_prompt(
        "a red hat", device="cpu", do_classifier_free_guidance=True
    )
    for text, wanted, wanted_pooled in (("a red hat", hidden, pooled), ("", empty, empty_pooled)):
        ours, added = TextConditioner(model).encode([text], [SIZE])[0].conditioning
        assert torch.allclose(ours, wanted, atol=1e-5), text
        assert torch.allclose(added["text_embeds"], wanted_pooled, atol=1e-5), text
        assert added["time_ids"].tolist() == [[80, 64, 0, 8, 64, 64]]


def padding_with_zero(tokenizer):
    import copy

    other = copy.deepcopy(tokenizer)
    other.pad_token = "!"
    assert other.pad_token_id == 0
    return other


def test_the_pooled_vector_is_read_behind_long_names(sdxl):
    """Vectors in front of the end token move it; the pooled vector must come from where it is then."""
    model = load(sdxl.file, device="cpu")
    words = {
        encoder.name: encoder.token_vectors()[torch.tensor(encoder.tokenize("red hat"))]
        for encoder in model.text_encoders
    }
    embeddings = EmbeddingWeights({"my_hero": (0, 2)}, words)
    ours = TextConditioner(model, embeddings).encode(["a my_hero, hill"], [SIZE])[0].conditioning
    wanted = TextConditioner(model).encode(["a red hat, hill"], [SIZE])[0].conditioning
    assert torch.allclose(ours[0], wanted[0], atol=1e-6)
    assert torch.allclose(ours[1]["text_embeds"], wanted[1]["text_embeds"], atol=1e-6)


def test_sizes_matter_to_sdxl(sdxl):
    model = load(sdxl.file, device="cpu")
    other = ImageSize((800, 640), (0, 8), (64, 64))
    assert not torch.allclose(output(model, "hat"), output(model, "hat", size=other), atol=1e-4)


def test_velocity_and_zero_terminal_snr_are_read_from_the_file(sdxl, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    tensors = load_file(sdxl.file)
    path = tmp_path / "marked.safetensors"
    save_file({**tensors, "v_pred": torch.empty(0), "ztsnr": torch.empty(0)}, path)
    shutil.copy(sdxl.file.with_suffix(".yaml"), path.with_suffix(".yaml"))
    shutil.copytree(sdxl.file.parent / "text", tmp_path / "text")
    model = load(path, device="cpu")
    assert model.is_v_prediction
    assert model.alphas_cumprod[-1] < 1e-7
    assert model.alphas_cumprod[0] == pytest.approx(1 - 0.00085, abs=1e-6)


def full_unet(family):
    params = standard_config(family)["model"]["params"]
    shape = unet_shape(unet_params(params))
    with torch.device("meta"):
        return diffusers.UNet2DConditionModel.from_config(shape)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_the_whole_unet_map_both_ways_as_in_diffusers(family):
    unet = full_unet(family)
    state = unet.state_dict()
    ldm = {}
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        ldm[f"model.diffusion_model.{diffusers_to_ldm(path, family)}.{leaf}"] = value
        assert ldm_to_diffusers(diffusers_to_ldm(path, family)) == path
    assert len(ldm) == len(state)
    theirs = convert_ldm_unet_checkpoint(dict(ldm), dict(unet.config))
    assert {name: tuple(value.shape) for name, value in theirs.items()} == {
        name: tuple(value.shape) for name, value in state.items()
    }


@pytest.mark.parametrize(
    ("family", "path", "key"),
    [
        ("sdxl", "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
         "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k"),
        ("sdxl", "up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_2_conv"),
        ("sdxl", "mid_block.resnets.1.conv2", "lora_unet_middle_block_2_out_layers_3"),
        ("sdxl", "add_embedding.linear_1", "lora_unet_label_emb_0_0"),
        ("sd2", "down_blocks.0.attentions.0.proj_in", "lora_unet_down_blocks_0_attentions_0_proj_in"),
    ],
)  # fmt: skip
def test_unet_keys(family, path, key):
    assert kohya_key("unet", path, family) == key


@pytest.mark.parametrize(
    ("family", "prefixes"), [("sd1", {"lora_te_"}), ("sd2", {"lora_te_"}), ("sdxl", {"lora_te1_", "lora_te2_"})]
)
def test_text_keys(request, family, prefixes):
    small = request.getfixturevalue("small" if family == "sd1" else family)
    targets = [target for target in load(small.file, device="cpu").lora_targets() if target.part != "unet"]
    assert {target.key.partition("text_model")[0] for target in targets} == prefixes
    names = {target.key.partition("text_model_")[2] for target in targets}
    assert {"encoder_layers_0_self_attn_q_proj", "encoder_layers_0_mlp_fc1"} <= names
    assert len({target.key for target in targets}) == len(targets)


def test_a_full_open_clip_encoder_maps_as_transformers_names_it():
    """SDXL's second encoder: 32 layers of width 1280."""
    config = {**CLIP_L, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
              "num_attention_heads": 20, "hidden_act": "gelu", "projection_dim": 1280}  # fmt: skip
    with torch.device("meta"):
        model = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    back = open_clip_state(open_clip_names(model))
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items() if "position_ids" not in name}
    assert {name: tuple(value.shape) for name, value in back.items()} == wanted


def test_loras_of_both_encoders_act(sdxl):
    model = load(sdxl.file, device="cpu")
    plain = output(model, "a red hat").detach()
    for part in ("clip_l", "clip_g"):
        targets = [(target, 2) for target in model.lora_targets() if target.part == part]
        lora = AdapterSet.with_ranks(part, targets, 1.0, 0, torch.device("cpu"))
        with torch.no_grad():
            lora.flat.values.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
        with attach([lora]):
            assert not torch.allclose(output(model, "a red hat"), plain, atol=1e-4), part
