"""What a file of weights is, whoever wrote it: kind, layers, ranks, family, which programs read it."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.inspection import describe, verify
from lib_pivotal.core.bundle.tools_add import pack
from lib_pivotal.core.errors import ConfigError
from tests.unit.bundle_samples import LORA, NETWORKS, network, sd1, sdxl

BUNDLED = {"bundle_emb.zog_v1.string_to_param.*": sd1()}


def saved(path, tensors, metadata=None):
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path, metadata)
    return path


@pytest.mark.parametrize("title", NETWORKS)
def test_every_kind_is_named_with_its_layers(tmp_path, title):
    tensors, rank, read_by = NETWORKS[title]
    found = describe(saved(tmp_path / "x.safetensors", {**tensors, **BUNDLED}))
    kind = re.sub(r" \((whole|by output|kohya|text encoder|with the.*|ComfyUI.*)\)", "", title)
    assert found["kind"] == f"{kind} + embeddings"
    (entry,) = found["lora"]["kinds"]
    assert (entry["kind"], entry["layers"]) == (kind, 1)
    assert read_by in entry["read_by"]
    assert found["lora"]["ranks"] == ({str(rank): 1} if rank else {})
    assert found["lora"]["layers"] == 1
    assert sorted(found["lora"]["keys"]) == sorted(tensors)


@pytest.mark.parametrize("title", NETWORKS)
def test_a_sound_file_of_any_kind_has_no_problem_but_its_readers(tmp_path, title):
    tensors, _, read_by = NETWORKS[title]
    problems = verify(saved(tmp_path / "x.safetensors", {**tensors, **BUNDLED}))
    if read_by == "all webuis":
        assert not problems
    else:
        (problem,) = [problem for problem in problems if read_by in problem.message]
        assert problem.is_error == (read_by == "no webui")


def test_several_kinds_in_one_file(tmp_path):
    other_layer = {key.replace("to_k", "to_v"): value for key, value in NETWORKS["LoHa"][0].items()}
    tensors = {**NETWORKS["LoCon"][0], **NETWORKS["LoRA"][0], **other_layer}
    found = describe(saved(tmp_path / "x.safetensors", tensors))
    assert found["kind"] == "LoCon + LoHa"
    assert {entry["kind"]: entry["layers"] for entry in found["lora"]["kinds"]} == {"LoRA": 1, "LoCon": 1, "LoHa": 1}


K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        (network(K, lora_down__weight=(4, 768), lora_up__weight=(320, 4)), "SD1"),
        (network(K, lora_down__weight=(4, 1024), lora_up__weight=(320, 4)), "SD2"),
        (network("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", lora_down__weight=(4, 2048), lora_up__weight=(640, 4)),
         "SDXL"),
        (network("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k", lora_down__weight=(4, 640), lora_up__weight=(640, 4)),
         "SDXL"),
        (NETWORKS["LoHa"][0], "SD1"),
        (NETWORKS["LoKr"][0], "SD1"),
        (NETWORKS["LoKr (whole)"][0], "SD1"),
        (NETWORKS["full"][0], "SD1"),
        (NETWORKS["PEFT LoRA"][0], "SD1"),
        (NETWORKS["old diffusers LoRA"][0], "SD1"),
        (network("lora_te_text_model_encoder_layers_0_self_attn_q_proj", lora_down__weight=(4, 768), lora_up__weight=(768, 4)), "SD1"),
        (network("lora_te_text_model_encoder_layers_0_self_attn_q_proj", lora_down__weight=(4, 1024), lora_up__weight=(1024, 4)), "SD2"),
        (network("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", lora_down__weight=(4, 1280), lora_up__weight=(1280, 4)), "SDXL"),
        (network("lora_unet_double_blocks_0_img_attn_proj", lora_down__weight=(4, 3072), lora_up__weight=(3072, 4)), "Flux"),
        (network("transformer.single_transformer_blocks.0.proj_mlp", lora_A__weight=(4, 3072), lora_B__weight=(3072, 4)), "Flux"),
        (network("lora_unet_joint_blocks_0_x", lora_down__weight=(4, 1536), lora_up__weight=(1536, 4)), "Stable Diffusion 3"),
        (LORA, ""),
    ],
)  # fmt: skip
def test_family_from_names_and_widths(tmp_path, tensors, family):
    assert describe(saved(tmp_path / "x.safetensors", tensors))["family"] == family


def test_a_family_in_the_metadata_that_the_layers_contradict(tmp_path):
    path = saved(tmp_path / "x.safetensors", NETWORKS["LoRA"][0], {"ss_base_model_version": "sdxl_base_v1-0"})
    assert "Its LoRA is for SD1, and its metadata says that it is for SDXL." in str(verify(path))
    tensors = {**NETWORKS["LoRA"][0], **{f"bundle_emb.zog_v1.{key}": value for key, value in sdxl().items()}}
    assert "Its vectors are for SDXL, and its LoRA is for SD1" in str(
        verify(saved(tmp_path / "y.safetensors", tensors))
    )


OTHERS = {
    "a checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": (4, 4), "first_stage_model.decoder.conv_in.weight": (4,)},
    "a UNet": {"conv_in.weight": (4, 4, 3, 3), "down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3)},
    "a VAE": {"decoder.conv_in.weight": (4, 4), "encoder.conv_in.weight": (4, 4)},
    "a text encoder": {"text_model.embeddings.token_embedding.weight": (10, 768), "text_model.final_layer_norm.bias": (768,)},
    "a ControlNet": {"control_model.input_blocks.0.0.weight": (4, 4)},
    "an IP-Adapter": {"image_proj.proj.weight": (4, 4), "ip_adapter.1.to_k_ip.weight": (4, 4)},
    "an embedding file": {"emb_params": (2, 768)},
}  # fmt: skip


@pytest.mark.parametrize("subject", OTHERS)
def test_what_is_not_a_lora_is_named_and_nothing_is_packed_into_it(tmp_path, subject):
    path = saved(tmp_path / "x.safetensors", {key: torch.ones(*sides) for key, sides in OTHERS[subject].items()})
    saved(tmp_path / "e.safetensors", {"emb_params": sd1()})
    assert describe(path)["kind"] == subject.partition(" ")[2]
    assert subject in str(verify(path)[0])
    with pytest.raises(ConfigError, match=f"It is {subject}, not a LoRA"):
        pack(path, {"zog_v1": tmp_path / "e.safetensors"}, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_checkpoints_weights_are_not_read(tmp_path, monkeypatch):
    path = saved(tmp_path / "x.safetensors", {"model.diffusion_model.x.weight": torch.ones(4)})
    monkeypatch.setattr("lib_pivotal.core.bundle.network_check._examine", pytest.fail)
    assert verify(path)


def test_unknown_keys_are_a_kind_of_their_own(tmp_path):
    path = saved(tmp_path / "x.safetensors", {"some.layer": torch.ones(3, 3, 3), "other.layer": torch.ones(2)})
    assert describe(path)["kind"] == "unknown"
    assert "an unknown kind" in str(verify(path))
    path = saved(tmp_path / "y.safetensors", {**LORA, "lora_unet_a.strange": torch.ones(2)})
    assert "1 key belongs to an unknown kind of LoRA: lora_unet_a.strange" in str(verify(path))


def test_every_kind_stays_readable_as_a_bundle(tmp_path):
    for title, (tensors, _, _) in NETWORKS.items():
        path = saved(tmp_path / "x.safetensors", {**tensors, **BUNDLED})
        assert read_bundle(path).lora.keys() == tensors.keys(), title
