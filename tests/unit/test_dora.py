"""DoRA: the weight of the paper with its norm per input, from the unchanged layer on, and gradients with a fixed norm."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach, disabled
from lib_pivotal.core.lora.weight_change import WeightChange
from lib_pivotal.core.ports import LoraTarget
from tests.unit.test_adapter_kinds import CPU, LAYERS


def doras(*layers: torch.nn.Module, scatter: float = 0.5) -> AdapterSet:
    """Adapters with random values."""
    torch.manual_seed(0)
    targets = [
        LoraTarget(f"lora_unet_{number}", "unet", "attention", layer.requires_grad_(False))
        for number, layer in enumerate(layers)
    ]
    adapters = AdapterSet.with_ranks("unet", [(target, 4) for target in targets], 0.5, 1, CPU, kind="dora")
    with torch.no_grad():
        if scatter:
            adapters.flat.values.normal_()
            magnitudes = adapters.flats[1].values
            magnitudes.mul_(1.0 + scatter * (torch.rand(magnitudes.shape) - 0.5))
    return adapters


def changed_weight(weight: torch.Tensor, values: dict[str, torch.Tensor], *, is_fixed: bool = False) -> torch.Tensor:
    """The paper's formula, in fp64."""
    whole = weight.double() + (values["up"].flatten(1) @ values["down"].flatten(1)).view(weight.shape)
    rest = [0, *range(2, weight.ndim)]
    norm = (whole.detach() if is_fixed else whole).square().sum(dim=rest, keepdim=True).sqrt()
    return values["magnitude"] * whole / norm


def in_double(adapters: AdapterSet) -> dict[str, torch.Tensor]:
    return {name: value.detach().double().requires_grad_() for name, value in adapters.layers[0].parameters.items()}


@pytest.mark.parametrize("place", LAYERS)
def test_the_layer_has_the_papers_weight_and_its_gradients(place):
    make, shape = LAYERS[place]
    layer = make()
    adapters = doras(layer)
    x = torch.randn(shape, requires_grad=True)
    with attach([adapters]):
        output = layer(x)
        output.pow(2).sum().backward()
    values = in_double(adapters)
    again = x.detach().double().requires_grad_()
    weight, bias = changed_weight(layer.weight, values, is_fixed=True), layer.bias.double()
    if weight.ndim == 2:
        expected = functional.linear(again, weight, bias)
    else:
        expected = functional.conv2d(again, weight, bias, layer.stride, layer.padding, layer.dilation)
    assert torch.allclose(output.double(), expected, rtol=1e-4, atol=1e-4)
    expected.pow(2).sum().backward()
    found = {"x": x.grad, **{name: value.grad for name, value in adapters.layers[0].parameters.items()}}
    for name, value in {"x": again, **values}.items():
        assert found[name].abs().sum() > 0
        assert torch.allclose(found[name].double(), value.grad, rtol=1e-3, atol=1e-3 * float(value.grad.abs().max()))
    with attach([adapters]), disabled([adapters]):
        assert torch.equal(layer(x), layer(x.detach()))
    assert not layer._forward_pre_hooks and not layer._forward_hooks


@pytest.mark.parametrize("place", LAYERS)
def test_training_starts_from_exactly_the_unchanged_layer(place):
    make, shape = LAYERS[place]
    layer = make()
    adapters = doras(layer, scatter=0.0)
    x = torch.randn(shape)
    with attach([adapters]):
        output = layer(x)
    assert torch.equal(output, layer(x))
    output.pow(2).sum().backward()
    assert all(flat.gradient.abs().sum() > 0 for flat in adapters.flats)


def test_changes_and_their_norms_are_those_of_the_formula():
    layers = [torch.nn.Linear(12, 20), torch.nn.Conv2d(12, 20, 3), torch.nn.Linear(12, 20)]
    adapters = doras(*layers)
    deltas = [item.adapter.delta(item.parameters, item.target.module) for item in adapters.layers]
    first = {name: value.detach().double() for name, value in adapters.layers[0].parameters.items()}
    expected = changed_weight(layers[0].weight, first) - layers[0].weight.double()
    assert torch.allclose(deltas[0].double(), expected, atol=1e-5)
    norms = torch.stack([delta.norm() for delta in deltas])
    assert torch.allclose(WeightChange(adapters).norms(), norms.detach())


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_keeps_its_types_and_loses_only_its_rounding(autocast):
    exact, layer = torch.nn.Linear(12, 20), torch.nn.Linear(12, 20)
    layer.load_state_dict(exact.state_dict())
    x = torch.randn(64, 12)
    reference = doras(exact)
    with attach([reference]):
        expected = exact(x)
    layer = layer if autocast else layer.bfloat16()
    adapters = doras(layer)
    for flat, other in zip(adapters.flats, reference.flats, strict=True):
        flat.values.data.copy_(other.values)
    with attach([adapters]), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = layer(x if autocast else x.bfloat16())
    assert output.dtype == torch.bfloat16
    assert (output.float() - expected).norm() < 2e-2 * expected.norm()
    output.float().sum().backward()
    assert all(leaf.grad.dtype == torch.float32 for flat in adapters.flats for leaf in flat.leaves)


def test_a_channel_without_weights_stays_finite():
    layer = torch.nn.Linear(12, 20)
    with torch.no_grad():
        layer.weight[:, 3] = 0.0
    adapters = doras(layer, scatter=0.0)
    with attach([adapters]):
        output = layer(torch.randn(2, 12))
    output.sum().backward()
    assert output.isfinite().all() and all(flat.gradient.isfinite().all() for flat in adapters.flats)


def test_a_file_brings_the_same_weights_back():
    layers = [torch.nn.Linear(12, 20), torch.nn.Conv2d(12, 20, 3)]
    trained = doras(*layers)
    state = trained.state_dict()
    assert state["lora_unet_0.dora_scale"].shape == (1, 12)
    assert state["lora_unet_1.dora_scale"].shape == (1, 12, 1, 1)
    assert {float(value) for key, value in state.items() if key.endswith("alpha")} == {4.0}
    targets = [layer.target for layer in trained.layers]
    loaded = AdapterSet.from_state("unet", targets, state, CPU)
    again = doras(*layers, scatter=0.0)
    again.load(state)
    for adapters in (loaded, again):
        assert adapters.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in adapters.state_dict().items())


def test_another_alpha_keeps_its_meaning():
    trained = doras(torch.nn.Linear(12, 20))
    state = trained.state_dict()
    other = {
        **state,
        "lora_unet_0.alpha": torch.tensor(8.0),
        "lora_unet_0.lora_up.weight": state["lora_unet_0.lora_up.weight"] / 2,
    }
    loaded = AdapterSet.from_state("unet", [trained.layers[0].target], other, CPU)
    deltas = [
        item.layers[0].adapter.delta(item.layers[0].parameters, item.layers[0].target.module)
        for item in (trained, loaded)
    ]
    assert torch.allclose(*deltas, atol=1e-6)


def test_magnitudes_per_output_or_on_other_kinds_are_not_taken_for_ours():
    trained = doras(torch.nn.Linear(12, 20))
    target = trained.layers[0].target
    state = {**trained.state_dict(), "lora_unet_0.dora_scale": torch.ones(20, 1)}
    with pytest.raises(BundleError):
        AdapterSet.from_state("unet", [target], state, CPU)
    with pytest.raises(BundleError, match="one value per input"):
        trained.load(state)
    loha = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, CPU, kind="loha").state_dict()
    found = AdapterSet.from_state("unet", [target], {**loha, "lora_unet_0.dora_scale": torch.ones(1, 12)}, CPU)
    assert not found.layers
