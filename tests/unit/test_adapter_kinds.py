"""LoRA, LoHa and LoKr: each adds what its file says, starts from nothing, and has the gradients of its formula."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.kinds import adapter_for, adapter_in_file
from lib_pivotal.core.lora.loha import FusedLoha, Loha
from lib_pivotal.core.lora.lokr import factorized
from lib_pivotal.core.ports import LoraTarget
from tests.unit.toy import ToyModel

KINDS = ("lora", "loha", "lokr")
LAYERS = {
    "linear": (lambda: torch.nn.Linear(12, 20), (3, 5, 12)),
    "conv": (lambda: torch.nn.Conv2d(12, 20, 3, stride=2, padding=1), (2, 12, 8, 8)),
    "conv1x1": (lambda: torch.nn.Conv2d(12, 20, 1), (2, 12, 5, 7)),
    "dilated": (lambda: torch.nn.Conv2d(12, 20, 3, padding=2, dilation=2), (1, 12, 8, 8)),
    "few inputs": (lambda: torch.nn.Conv2d(3, 20, 3, padding=1), (1, 3, 8, 8)),
}
CPU = torch.device("cpu")


def adapted(kind: str, layer: torch.nn.Module) -> AdapterSet:
    """An adapter with random values, so that it changes the output."""
    torch.manual_seed(0)
    target = LoraTarget("lora_unet_x", "unet", "attention", layer.requires_grad_(False))
    adapters = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, CPU, kind=kind, lokr_factor=4)
    with torch.no_grad():
        adapters.flat.values.normal_()
    return adapters


def weight_change(layer: torch.nn.Module, adapters: AdapterSet) -> torch.Tensor:
    """The change of the weight, computed from the file with the formulas of the papers."""
    tensors = {key.partition(".")[2]: value.double() for key, value in adapters.state_dict().items()}
    shape = layer.weight.shape
    if "lokr_w1" in tensors:
        small, large = tensors["lokr_w1"], tensors["lokr_w2"]
        blocks = [torch.cat([value * large for value in row], dim=1) for row in small]
        return torch.cat(blocks, dim=0).view(shape)
    if "hada_w1_a" in tensors:
        scale = tensors["alpha"] / tensors["hada_w1_b"].shape[0]
        first = tensors["hada_w1_a"] @ tensors["hada_w1_b"]
        return (scale * first * (tensors["hada_w2_a"] @ tensors["hada_w2_b"])).view(shape)
    down, up = tensors["lora_down.weight"].flatten(1), tensors["lora_up.weight"].flatten(1)
    return (tensors["alpha"] / len(down) * up @ down).view(shape)


@pytest.mark.parametrize("place", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_changes_as_the_file_says(kind, place):
    make, shape = LAYERS[place]
    layer = make()
    adapters = adapted(kind, layer)
    x = torch.randn(shape)
    with attach([adapters]):
        attached = layer(x)
    plain = layer(x)
    layer.weight.data = (layer.weight.double() + weight_change(layer, adapters)).float()
    assert torch.allclose(attached, layer(x), atol=1e-3, rtol=1e-4)
    assert not torch.allclose(attached, plain, atol=1e-1)


@pytest.mark.parametrize("place", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_formula(kind, place):
    make, shape = LAYERS[place]
    layer = make()
    adapters = adapted(kind, layer)
    x = torch.randn(shape, requires_grad=True)
    with attach([adapters]):
        layer(x).pow(2).sum().backward()
    found = [x.grad.clone(), *(leaf.grad.clone() for leaf in adapters.flat.leaves)]
    # The same in fp64 from the file's tensors, through autograd.
    doubles = [leaf.detach().double().requires_grad_() for leaf in adapters.flat.leaves]
    names = list(adapters.layers[0].adapter.shapes)
    values = dict(zip(names, doubles, strict=True))
    if kind == "lora":
        change = 0.5 * values["up"].flatten(1) @ values["down"].flatten(1)
    elif kind == "loha":
        change = 0.5 * (values["w1_a"] @ values["w1_b"]) * (values["w2_a"] @ values["w2_b"])
    else:
        change = torch.kron(values["w1"][(..., *[None] * (values["w2"].ndim - 2))], values["w2"])
    weight = layer.weight.double() + change.view(layer.weight.shape)
    again = x.detach().double().requires_grad_()
    bias = layer.bias.double()
    if weight.ndim == 2:
        output = torch.nn.functional.linear(again, weight, bias)
    else:
        output = torch.nn.functional.conv2d(again, weight, bias, layer.stride, layer.padding, layer.dilation)
    output.pow(2).sum().backward()
    for value, expected in zip(found, [again.grad, *(leaf.grad for leaf in doubles)], strict=True):
        assert torch.allclose(value.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert value.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_training_starts_from_the_unchanged_layer_and_can_leave_it(kind):
    layer = torch.nn.Linear(12, 20).requires_grad_(False)
    target = LoraTarget("k", "unet", "attention", layer)
    adapters = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, CPU, kind=kind, lokr_factor=4)
    x = torch.randn(3, 12)
    with attach([adapters]):
        output = layer(x)
    assert torch.equal(output, layer(x))
    output.pow(2).sum().backward()
    assert adapters.flat.gradient.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_output_and_gradients_keep_their_types_over_half_precision_layers(kind):
    layer = torch.nn.Linear(12, 20).bfloat16()
    adapters = adapted(kind, layer)
    with attach([adapters]):
        output = layer(torch.randn(2, 12).bfloat16())
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(leaf.grad.dtype == torch.float32 for leaf in adapters.flat.leaves)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", ["linear", "conv"])
def test_the_fused_backward_pass_of_loha_equals_autograds_own(place, dtype, autocast):
    make, shape = LAYERS[place]
    results = []
    for kind in (FusedLoha, Loha):
        torch.manual_seed(1)
        layer = make().to(dtype).requires_grad_(False)
        target = LoraTarget("k", "unet", "attention", layer)
        adapters = AdapterSet("unet", [(target, kind(tuple(layer.weight.shape), 4, 3.0))], 1, CPU)
        with torch.no_grad():
            adapters.layers[0].parameters["w2_a"].normal_()
        x = torch.randn(shape).to(dtype).requires_grad_(True)
        with attach([adapters]), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            output = layer(x)
        output.float().pow(2).sum().backward()
        results.append([output.detach().float(), x.grad.float(), *(leaf.grad.clone() for leaf in adapters.flat.leaves)])
    tolerance = 1e-5 if dtype == torch.float32 and not autocast else 5e-2
    for fused, plain in zip(*results, strict=True):
        assert torch.allclose(fused, plain, rtol=tolerance, atol=tolerance * float(plain.abs().max()))


@pytest.mark.parametrize("kind", [FusedLoha, Loha])
def test_loha_is_computed_in_full_precision_under_autocast(kind):
    """At the beginning one factor is so small that fp16 would keep only a few bits of its product."""
    layer = torch.nn.Linear(12, 20, bias=False).requires_grad_(False)
    layer.weight.zero_()
    adapters = AdapterSet("unet", [(LoraTarget("k", "unet", "attention", layer), kind((20, 12), 4, 4.0))], 1, CPU)
    parameters = adapters.layers[0].parameters
    with torch.no_grad():
        parameters["w1_a"].fill_(1000.0)
        parameters["w2_a"].fill_(3e-7)
    expected = adapters.layers[0].adapter.delta(parameters, layer).detach()
    with attach([adapters]), torch.autocast("cpu", dtype=torch.float16):
        output = layer(torch.eye(12))
    assert float((output.float().t() - expected).norm() / expected.norm()) < 2e-3


@pytest.mark.parametrize("kind", ["lora", "loha"])
def test_a_file_with_alpha_zero_can_be_read(kind):
    layer = torch.nn.Linear(12, 20).requires_grad_(False)
    state = {**adapted(kind, layer).state_dict(), "lora_unet_x.alpha": torch.tensor(0.0)}
    target = LoraTarget("lora_unet_x", "unet", "attention", layer)
    adapters = AdapterSet.from_state("unet", [target], state, CPU)
    assert not adapters.layers[0].adapter.delta(adapters.layers[0].parameters, layer).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_brings_the_same_weights_back(kind):
    targets = [target for target in ToyModel().lora_targets() if target.part == "unet"]
    chosen = [(target, 4) for target in targets]
    trained = AdapterSet.with_ranks("unet", chosen, 0.5, 3, CPU, kind=kind, lokr_factor=4)
    with torch.no_grad():
        trained.flat.values.normal_()
    state = trained.state_dict()
    loaded = AdapterSet.from_state("unet", targets, state, CPU)
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    # As strong as it is there, whatever alpha the new run has.
    stronger = AdapterSet.with_ranks("unet", chosen, 2.0, 4, CPU, kind=kind, lokr_factor=4)
    stronger.load(state)
    for old, new in zip(trained.layers, stronger.layers, strict=True):
        x = torch.randn(2, old.target.module.weight.shape[1], *[5] * (old.target.module.weight.ndim - 2))
        zero = torch.zeros(())
        outputs = [
            layer.adapter.forward(layer.target.module, x, layer.target.module(x) * zero, layer.parameters)
            for layer in (old, new)
        ]
        assert torch.allclose(*outputs, rtol=1e-4, atol=1e-4)


def test_another_kind_does_not_fit():
    layer = torch.nn.Linear(12, 20)
    state = adapted("loha", layer).state_dict()
    with pytest.raises(BundleError, match="same kind of LoRA"):
        adapted("lora", layer).load(state)


def test_other_tensors_are_not_taken_for_an_adapter():
    assert adapter_in_file((20, 12), {"diff": torch.zeros(20, 12)}) is None


@pytest.mark.parametrize(
    ("width", "factor", "expected"),
    [(320, 8, (8, 40)), (1280, 4, (4, 320)), (4, 8, (2, 2)), (100, 8, (5, 20)), (320, 0, (16, 20)), (7, 4, (1, 7))],
)
def test_factors_of_a_width(width, factor, expected):
    assert factorized(width, factor) == expected


def test_a_large_factor_makes_a_small_file():
    counts = {
        factor: sum(
            torch.Size(shape).numel()
            for shape in adapter_for((320, 320), 1, 1.0, kind="lokr", lokr_factor=factor).shapes.values()
        )
        for factor in (4, 8, 16)
    }
    assert counts == {4: 16 + 80 * 80, 8: 64 + 40 * 40, 16: 256 + 20 * 20}
