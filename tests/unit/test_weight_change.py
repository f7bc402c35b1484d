"""Norms of what the adapters change, and their limit: the same as from the built changes, for every kind of LoRA."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.weight_change import WeightChange
from lib_pivotal.core.ports import LoraTarget

CPU = torch.device("cpu")
KINDS = ("lora", "loha", "lokr")


def adapters_of(kind: str) -> AdapterSet:
    """Adapters of layers of several shapes in mixed order, with random values."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(12, 20),
        torch.nn.Conv2d(12, 20, 3),
        torch.nn.Linear(12, 20),
        torch.nn.Linear(8, 4),
        torch.nn.Conv2d(12, 20, 1),
        torch.nn.Linear(12, 20),
    ]
    targets = [LoraTarget(f"k{number}", "unet", "attention", layer) for number, layer in enumerate(layers)]
    chosen = [(target, 4 if number != 5 else 2) for number, target in enumerate(targets)]
    adapters = AdapterSet.with_ranks("unet", chosen, 0.5, 1, CPU, kind=kind, lokr_factor=4)
    with torch.no_grad():
        adapters.flat.values.normal_()
    return adapters


def built(adapters: AdapterSet) -> torch.Tensor:
    return torch.stack(
        [layer.adapter.delta(layer.parameters, layer.target.module).norm() for layer in adapters.layers]
    ).detach()


@pytest.mark.parametrize("most", [1, 2**24])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_those_of_the_built_changes_in_the_order_of_the_layers(kind, most, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.lora.weight_change._MAX_VALUES", most)
    adapters = adapters_of(kind)
    found = WeightChange(adapters).norms()
    assert torch.allclose(found, built(adapters), rtol=1e-5)
    weights = torch.stack([layer.target.module.weight.norm() for layer in adapters.layers]).detach()
    assert float(WeightChange(adapters).largest()) == pytest.approx(float((found / weights).max()), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_scales_what_is_above_it_and_leaves_the_rest_exactly(kind):
    adapters = adapters_of(kind)
    before, values = built(adapters), [leaf.detach().clone() for leaf in adapters.flat.leaves]
    most = float(before.median()) * 1.001
    WeightChange(adapters).limit(most)
    assert torch.allclose(built(adapters), before.clamp(max=most), rtol=1e-4)
    directions = [layer.adapter.delta(layer.parameters, layer.target.module).detach() for layer in adapters.layers]
    assert all(abs(float(item.norm()) - float(norm)) <= 1e-4 * most or norm > most
               for item, norm in zip(directions, before, strict=True))  # fmt: skip
    leaves = iter(zip(adapters.flat.leaves, values, strict=True))
    for layer, norm in zip(adapters.layers, before, strict=True):
        same = [torch.equal(new, old) for new, old in (next(leaves) for _ in layer.adapter.shapes)]
        assert all(same) if norm <= most else not any(same)


def test_an_untrained_lora_changes_nothing_and_can_be_limited():
    target = LoraTarget("k", "unet", "attention", torch.nn.Linear(12, 20))
    adapters = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, CPU)
    change = WeightChange(adapters)
    values = adapters.flat.values.detach().clone()
    assert float(change.largest()) == 0.0
    change.limit(1.0)
    assert torch.equal(adapters.flat.values, values)


@pytest.mark.parametrize("kind", [*KINDS, "dora"])
def test_weights_in_eight_bits_count_as_what_they_are(kind):
    if not hasattr(torch, "float8_e4m3fn"):
        pytest.skip("this torch has no fp8")
    found = []
    for dtype in (torch.float8_e4m3fn, torch.float32):
        torch.manual_seed(0)
        layer = torch.nn.Linear(12, 20).to(torch.float8_e4m3fn).to(dtype)
        target = LoraTarget("k", "unet", "attention", layer)
        adapters = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, CPU, kind=kind, lokr_factor=4)
        with torch.no_grad():
            adapters.flat.values.normal_()
        with attach([adapters]), torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(torch.linspace(-1, 1, 24).view(2, 12)).detach().float()
        found.append((float(WeightChange(adapters).largest()), output))
    (eight, small), (wide, full) = found
    assert eight == pytest.approx(wide, rel=0.01)
    assert torch.allclose(small, full, rtol=0.05, atol=0.1)
