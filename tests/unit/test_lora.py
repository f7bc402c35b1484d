"""LoRA layers: the file contains exactly what was trained, and attaching leaves no trace."""

from __future__ import annotations

import contextlib

import pytest
import torch

from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach, fixed
from lib_pivotal.core.lora.lora import FusedLora, Lora
from lib_pivotal.core.lora.naming import diffusers_to_ldm, kohya_key, ldm_to_diffusers, role_of
from lib_pivotal.core.lora.targets import choose_targets, lora_target
from lib_pivotal.core.optim.flat import FlatParameters, Leaves
from lib_pivotal.core.ports import LoraTarget
from tests.unit.toy import ToyModel

LAYERS = {
    "linear": (torch.nn.Linear(6, 10), (3, 6)),
    "conv": (torch.nn.Conv2d(6, 10, 3, stride=2, padding=1), (2, 6, 8, 8)),
    "conv1x1": (torch.nn.Conv2d(6, 10, 1), (2, 6, 5, 7)),
    "dilated": (torch.nn.Conv2d(6, 10, 3, padding=2, dilation=2), (1, 6, 8, 8)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_attached_lora_equals_merged_weight(kind):
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]
    target = LoraTarget("lora_unet_x", "unet", "attention", layer)
    lora = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, torch.device("cpu"))
    with torch.no_grad():
        lora.layers[0].parameters["up"].normal_()
    state = lora.state_dict()
    assert float(state["lora_unet_x.alpha"]) == 2.0
    x = torch.randn(shape)
    with torch.no_grad(), attach([lora]):
        attached = layer(x)
    with torch.no_grad():
        delta = lora.layers[0].adapter.delta(lora.layers[0].parameters, layer)
        plain = layer(x)
        layer.weight += delta
        merged = layer(x)
        layer.weight -= delta
    assert torch.allclose(attached, merged, atol=1e-5) and not torch.allclose(attached, plain, atol=1e-2)
    assert not layer._forward_hooks


def test_output_keeps_its_dtype_over_half_precision_layers():
    layer = torch.nn.Linear(6, 10).bfloat16()
    lora = AdapterSet.with_ranks(
        "unet", [(LoraTarget("k", "unet", "attention", layer), 4)], 0.5, 1, torch.device("cpu")
    )
    with attach([lora]):
        output = layer(torch.randn(2, 6).bfloat16())
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(leaf.grad.dtype == torch.float32 for leaf in lora.flat.leaves)


def test_gradients_land_in_the_flat_buffer():
    layer, shape = LAYERS["linear"]
    lora = AdapterSet.with_ranks(
        "unet", [(LoraTarget("k", "unet", "attention", layer), 4)], 0.5, 1, torch.device("cpu")
    )
    with attach([lora]):
        layer(torch.randn(shape)).pow(2).sum().backward()
    assert lora.flat.gradient.abs().sum() > 0
    assert lora.flat.leaves[1].grad.data_ptr() != 0
    assert torch.equal(lora.flat.gradient[-40:], lora.flat.leaves[1].grad.flatten())


def test_ranks_choose_layers():
    targets = ToyModel().lora_targets()
    keys = {
        name: {target.key for target, _ in choose_targets(targets, rank=rank, conv_rank=conv, text_encoder_rank=text)}
        for name, rank, conv, text in (("attn", 4, 0, 0), ("conv", 0, 4, 0), ("text", 0, 0, 4), ("none", 0, 0, 0))
    }
    assert keys["none"] == set()
    assert all("attn" in key for key in keys["attn"]) and len(keys["attn"]) == 6
    assert keys["conv"] == {"lora_unet_conv_in", "lora_unet_conv_out"}
    assert all(key.startswith("lora_te_") for key in keys["text"]) and keys["text"]


def test_a_layer_that_nothing_reads_gets_no_adapter():
    family = FAMILIES["sd2"]
    paths = [f"text_model.encoder.layers.{number}.mlp.fc1" for number in (2, 22, 23)]
    targets = [lora_target("clip_l", path, torch.nn.Linear(2, 2), "sd2") for path in paths]
    chosen = choose_targets(targets, rank=0, conv_rank=0, text_encoder_rank=1, unread_layers=family.unread_layers)
    assert [target for target, _ in chosen] == targets[:2]


def sd1_ldm_paths() -> list[str]:
    """Every Linear and Conv2d of the SD1 UNet, written out from its block structure."""
    block = ["norm", "proj_in", "proj_out"]
    for attention in ("attn1", "attn2"):
        block += [f"transformer_blocks.0.{attention}.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")]
    block += [f"transformer_blocks.0.{name}" for name in ("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3")]
    resnet = ["in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3"]
    paths = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"]
    for number in range(1, 12):
        level, layer = divmod(number - 1, 3)
        if layer == 2:
            paths.append(f"input_blocks.{number}.0.op")
            continue
        skip = ["skip_connection"] if layer == 0 and level in (1, 2) else []
        paths += [f"input_blocks.{number}.0.{name}" for name in resnet + skip]
        paths += [f"input_blocks.{number}.1.{name}" for name in block] if level < 3 else []
    paths += [f"middle_block.{slot}.{name}" for slot in (0, 2) for name in resnet]
    paths += [f"middle_block.1.{name}" for name in block]
    for number in range(12):
        level, layer = divmod(number, 3)
        paths += [f"output_blocks.{number}.0.{name}" for name in [*resnet, "skip_connection"]]
        paths += [f"output_blocks.{number}.1.{name}" for name in block] if level > 0 else []
        if layer == 2 and level < 3:
            paths.append(f"output_blocks.{number}.{1 if level == 0 else 2}.conv")
    return paths


def test_names_map_both_ways_over_the_complete_unet():
    paths = sd1_ldm_paths()
    mapped = [ldm_to_diffusers(path) for path in paths]
    assert len(set(mapped)) == len(paths)
    assert [diffusers_to_ldm(path, "sd1") for path in mapped] == paths


@pytest.mark.parametrize("path", ["input_blocks.1.0.nonsense", "label_emb.1", "down.1", ""])
def test_foreign_paths_are_refused(path):
    with pytest.raises(ValueError, match="Stable Diffusion"):
        ldm_to_diffusers(path)


@pytest.mark.parametrize(
    ("ldm", "key", "role"),
    [
        ("input_blocks.1.1.transformer_blocks.0.attn1.to_q", "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "attention"),
        ("output_blocks.11.1.transformer_blocks.0.ff.net.0.proj", "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj", "feed_forward"),
        ("middle_block.0.in_layers.2", "lora_unet_mid_block_resnets_0_conv1", "conv"),
        ("input_blocks.4.0.skip_connection", "lora_unet_down_blocks_1_resnets_0_conv_shortcut", "conv"),
        ("output_blocks.2.1.conv", "lora_unet_up_blocks_0_upsamplers_0_conv", "conv"),
        ("output_blocks.5.2.conv", "lora_unet_up_blocks_1_upsamplers_0_conv", "conv"),
        ("input_blocks.1.1.proj_in", "lora_unet_down_blocks_0_attentions_0_proj_in", "projection"),
        ("time_embed.0", "lora_unet_time_embedding_linear_1", "other"),
    ],
)  # fmt: skip
def test_kohya_keys(ldm, key, role):
    path = ldm_to_diffusers(ldm)
    assert kohya_key("unet", path, "sd1") == key
    assert role_of(path, 3 if ldm.endswith(("conv", "in_layers.2")) else 1) == role


def test_a_file_brings_the_same_weights_back():
    model = ToyModel()
    targets = model.lora_targets()
    trained = AdapterSet.with_ranks(
        "unet", choose_targets(targets, rank=4, conv_rank=0, text_encoder_rank=0)[:6], 0.5, 3, torch.device("cpu")
    )
    with torch.no_grad():
        trained.flat.values.normal_()
    state = trained.state_dict()
    loaded = AdapterSet.from_state("unet", targets, state, torch.device("cpu"))
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert [layer.adapter.alpha / layer.adapter.rank for layer in loaded.layers] == [0.5] * len(trained.layers)
    state["lora_unet_attn1_to_q.lora_down.weight"] = torch.zeros(4, 7)
    with pytest.raises(BundleError, match="lora_unet_attn1_to_q"):
        AdapterSet.from_state("unet", targets, state, torch.device("cpu"))


def test_nothing_that_the_fused_lora_saves_requires_a_gradient():
    # With gradient checkpointing, torch 2.0 fails on saved views of an input that does.
    layer = torch.nn.Linear(6, 10).requires_grad_(False)
    lora = AdapterSet("unet", [(LoraTarget("k", "unet", "attention", layer), FusedLora((10, 6), 4, 3.0))], 1,
                      torch.device("cpu"))  # fmt: skip
    saved = []
    with attach([lora]), torch.autograd.graph.saved_tensors_hooks(lambda item: saved.append(item) or item, lambda x: x):
        layer(torch.randn(3, 5, 6, requires_grad=True))
    assert saved
    assert not any(item.requires_grad for item in saved if item is not layer.weight)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", ["unet", "clip_l"])
def test_the_fused_backward_pass_equals_autograds_own(part, dtype, autocast):
    gradients = []
    for kind in (FusedLora, Lora):
        torch.manual_seed(1)
        layer = torch.nn.Linear(6, 10).to(dtype).requires_grad_(False)
        target = LoraTarget("k", part, "attention", layer)
        lora = AdapterSet(part, [(target, kind((10, 6), 4, 3.0))], 1, torch.device("cpu"))
        with torch.no_grad():
            lora.layers[0].parameters["up"].normal_()
        x = torch.randn(3, 5, 6).to(dtype).requires_grad_(True)
        with attach([lora]), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = layer(x)
        output.float().pow(2).sum().backward()
        gradients.append([output.detach().float(), x.grad.float(), *(leaf.grad.clone() for leaf in lora.flat.leaves)])
    is_exact = dtype == torch.float32 and not autocast
    for fused, plain in zip(*gradients, strict=True):
        assert torch.allclose(fused, plain, rtol=1e-5 if is_exact else 3e-2, atol=1e-4 if is_exact else 0.5)
        assert fused.abs().sum() > 0


# -- one function of autograd for a layer of the UNet and its LoRA


def joined_lora(layer):
    torch.manual_seed(1)
    lora = AdapterSet.with_ranks("unet", [(LoraTarget("k", "unet", "attention", layer), 4)], 0.5, 1,
                                 torch.device("cpu"))  # fmt: skip
    with torch.no_grad():
        lora.layers[0].parameters["up"].normal_()
    return lora


def test_autograd_sees_one_function_for_layer_and_lora():
    layer = torch.nn.Linear(6, 10).requires_grad_(False)
    lora = joined_lora(layer)
    x = torch.randn(3, 5, 6, requires_grad=True)
    with attach([lora]):
        inputs = [node for node, _ in layer(x).grad_fn.next_functions if node is not None]
    assert [node.variable is x for node in inputs] == [True]
    assert "forward" not in vars(layer)


def test_a_lora_behind_an_input_without_a_gradient_is_trained():
    layer = torch.nn.Linear(6, 10).requires_grad_(False)
    lora = joined_lora(layer)
    with attach([lora]):
        layer(torch.randn(3, 5, 6)).pow(2).sum().backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in lora.flat.leaves)


def test_the_gradient_passes_through_a_layer_in_eight_bits():
    class Converting(torch.nn.Linear):
        """As in hosts: the weight is converted whenever it is used."""

        def forward(self, x):
            return torch.nn.functional.linear(x, self.weight.to(x.dtype), self.bias)

    gradients = []
    for dtype in (torch.float8_e4m3fn, torch.float32):
        torch.manual_seed(1)
        layer = Converting(6, 10).requires_grad_(False)
        layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn).to(dtype)
        lora = joined_lora(layer)
        x = torch.randn(3, 5, 6, requires_grad=True, generator=torch.Generator().manual_seed(2))
        with attach([lora]):
            layer(x).pow(2).sum().backward()
        gradients.append((x.grad, lora.flat.gradient))
    for eight, full in zip(*gradients, strict=True):
        assert torch.equal(eight, full) and eight.abs().sum() > 0


def test_a_forward_function_that_a_host_gives_the_class_meanwhile_is_used(monkeypatch):
    class Patched(torch.nn.Linear):
        pass

    layer = Patched(6, 10).requires_grad_(False)
    lora = joined_lora(layer)
    x = torch.randn(3, 5, 6)
    with attach([lora]):
        before = layer(x)
        # As A1111 does to convert weights in the forward pass.
        monkeypatch.setattr(Patched, "forward", lambda self, x: torch.nn.Linear.forward(self, x) + 1)
        assert torch.allclose(layer(x), before + 1, atol=1e-6)
        with torch.no_grad():
            assert torch.allclose(layer(x), before + 1, atol=1e-6)


def test_a_forward_function_of_somebody_else_stays():
    layer = torch.nn.Linear(6, 10).requires_grad_(False)
    lora = joined_lora(layer)
    x = torch.randn(3, 5, 6)
    with torch.no_grad():
        expected = (
            2 * torch.nn.Linear.forward(layer, x)
            + x @ lora.layers[0].adapter.delta(lora.layers[0].parameters, layer).t()
        )

    def theirs(x):
        return 2 * torch.nn.Linear.forward(layer, x)

    layer.forward = theirs
    with attach([lora]):
        assert torch.allclose(layer(x), expected, atol=1e-5)
    assert layer.forward is theirs
    with attach([lora]):
        layer.forward = other = lambda x: x
    assert layer.forward is other, "put there meanwhile"


# -- conversion


def test_parameters_are_converted_once_while_they_are_fixed_and_again_after_they_changed():
    flat = FlatParameters("unet", [(2, 3), (4,)], torch.device("cpu"))
    leaves = Leaves({"down": (flat, 0), "up": (flat, 1)})
    optimizer = torch.optim.AdamW([flat.values], lr=0.1)
    seen = []
    for step in range(3):
        with flat.fixed():
            first = leaves.converted("up", torch.bfloat16)
            assert leaves.converted("up", torch.bfloat16).data_ptr() == first.data_ptr()
            assert torch.equal(first, leaves["up"].detach().to(torch.bfloat16)) and first.shape == (4,)
            seen.append((first.data_ptr(), first.float().mean().item()))
        flat.gradient.fill_(step + 1.0)
        optimizer.step()
    places, values = zip(*seen, strict=True)
    assert len(set(places)) == 1, "a recorded graph finds it at the same place"
    assert len(set(values)) == 3
    assert leaves.converted("up", torch.bfloat16).data_ptr() not in places, "outside, values may change at any time"
    with flat.fixed():
        assert leaves.converted("down", torch.float32).data_ptr() == leaves["down"].data_ptr()


def test_a_step_in_half_precision_converts_all_parameters_together():
    torch.manual_seed(0)
    module = torch.nn.Linear(6, 5).to(torch.bfloat16).requires_grad_(False)
    target = LoraTarget("lora_unet_x", "unet", "attention", module)
    gradients = []
    for is_fixed in (False, True):
        part = AdapterSet.with_ranks("unet", [(target, 2)], 1.0, 0, torch.device("cpu"))
        with torch.no_grad():
            part.flat.values.add_(0.1)
        x = torch.randn(3, 6, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
        with attach([part]), fixed([part]) if is_fixed else contextlib.nullcontext():
            module(x).float().pow(2).sum().backward()
        gradients.append((part.flat.gradient.clone(), x.grad))
    (plain, into_x), (once, into_x_once) = gradients
    assert torch.equal(plain, once) and torch.equal(into_x, into_x_once) and plain.abs().sum() > 0
