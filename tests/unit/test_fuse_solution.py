"""The fused change of a layer does to each bundle's inputs what that bundle did, at the lowest rank that can."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.fuse.layer_rows import LayerRows
from lib_pivotal.core.fuse.recorder import InputRecorder
from lib_pivotal.core.fuse.solution import fuse_layer, output_energy
from lib_pivotal.core.ports import LoraTarget

LAYERS = {
    "linear": (lambda: torch.nn.Linear(24, 32), (5, 40, 24)),
    "conv": (lambda: torch.nn.Conv2d(6, 10, 3, padding=1), (5, 6, 9, 7)),
    "strided": (lambda: torch.nn.Conv2d(6, 10, 3, padding=1, stride=2), (5, 6, 9, 7)),
    "1x1": (lambda: torch.nn.Conv2d(24, 12, 1), (5, 24, 6, 6)),
}


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _low_rank(shape, rank: int, seed: int) -> torch.Tensor:
    flat = _random(shape[0], rank, seed=seed) @ _random(rank, shape[1:].numel(), seed=seed + 1)
    return flat.view(shape)


def _gram(layer, x) -> torch.Tensor:
    target = LoraTarget("lora_unet_x", "unet", "attention", layer)
    recorder = InputRecorder([target])
    with recorder.attached(), torch.no_grad():
        layer(x)
    return recorder.gram(target)


def _outputs(layer, change: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if change.ndim == 2:
        return x @ change.t()
    return torch.nn.functional.conv2d(x, change, None, layer.stride, layer.padding)


def _error(layer, fused: torch.Tensor, delta: torch.Tensor, x: torch.Tensor) -> float:
    wanted = _outputs(layer, delta, x)
    return float((_outputs(layer, fused, x) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("place", LAYERS)
def test_a_bundle_alone_stays_what_it_is(place):
    make, shape = LAYERS[place]
    layer = make()
    delta = _low_rank(layer.weight.shape, 3, 1)
    fused = fuse_layer(LayerRows(layer), [delta], [_gram(layer, _random(*shape))], 3)
    assert fused.down.shape[0] == fused.up.shape[1] == 3
    assert (fused.delta - delta).norm() <= 1e-4 * delta.norm()


@pytest.mark.parametrize("place", LAYERS)
def test_equal_bundles_are_one(place):
    make, shape = LAYERS[place]
    layer = make()
    delta = _low_rank(layer.weight.shape, 3, 1)
    grams = [_gram(layer, _random(*shape, seed=seed)) for seed in (1, 2)]
    fused = fuse_layer(LayerRows(layer), [delta, delta], grams, 6)
    assert (fused.delta - delta).norm() <= 1e-4 * delta.norm()


def test_bundles_with_different_inputs_both_stay_exact():
    layer = torch.nn.Linear(24, 32)
    deltas = [_low_rank(layer.weight.shape, 3, seed) for seed in (1, 5)]
    inputs = [_random(5, 40, 24, seed=seed) for seed in (1, 2)]
    inputs[0][..., :12] = 0
    inputs[1][..., 12:] = 0
    fused = fuse_layer(LayerRows(layer), deltas, [_gram(layer, x) for x in inputs], 6)
    for delta, x in zip(deltas, inputs, strict=True):
        assert _error(layer, fused.delta, delta, x) < 1e-3
        assert _error(layer, deltas[0] + deltas[1], delta, x) > 0.5


def test_without_the_other_bundles_change_its_inputs_stay_untouched():
    """A bundle that has no LoRA on a layer wants nothing to happen to its inputs."""
    layer = torch.nn.Linear(24, 32)
    delta = _low_rank(layer.weight.shape, 3, 1)
    inputs = [_random(5, 40, 24, seed=seed) for seed in (1, 2)]
    inputs[0][..., :12] = 0
    inputs[1][..., 12:] = 0
    fused = fuse_layer(LayerRows(layer), [delta, None], [_gram(layer, x) for x in inputs], 3)
    assert _error(layer, fused.delta, delta, inputs[0]) < 1e-3
    assert _outputs(layer, fused.delta, inputs[1]).norm() < 1e-3 * _outputs(layer, delta, inputs[1]).norm()


def test_least_squares_is_better_than_sum_and_mean_where_inputs_overlap():
    layer = torch.nn.Linear(24, 32)
    deltas = [_low_rank(layer.weight.shape, 3, seed) for seed in (1, 5)]
    inputs = [_random(5, 40, 24, seed=seed) @ torch.diag(_random(24, seed=seed + 7).exp()) for seed in (1, 2)]
    fused = fuse_layer(LayerRows(layer), deltas, [_gram(layer, x) for x in inputs], 6).delta
    rivals = {"sum": deltas[0] + deltas[1], "mean": (deltas[0] + deltas[1]) / 2}
    own = [_error(layer, fused, delta, x) for delta, x in zip(deltas, inputs, strict=True)]
    for name, rival in rivals.items():
        others = [_error(layer, rival, delta, x) for delta, x in zip(deltas, inputs, strict=True)]
        assert sum(own) < 0.8 * sum(others), name


@pytest.mark.parametrize("place", LAYERS)
def test_a_lower_rank_keeps_what_matters_on_the_inputs(place):
    make, shape = LAYERS[place]
    layer = make()
    rows = LayerRows(layer)
    deltas = [_low_rank(layer.weight.shape, 3, seed) for seed in (1, 5)]
    x = _random(*shape) * torch.linspace(0.01, 3, shape[1 if layer.weight.ndim > 2 else 2]).view(
        (-1, 1, 1) if layer.weight.ndim > 2 else (-1,)
    )
    gram = _gram(layer, x)
    whole = fuse_layer(rows, deltas, [gram, gram], 6).delta
    small = fuse_layer(rows, deltas, [gram, gram], 2).delta
    up, sizes, down = torch.linalg.svd(whole.flatten(1), full_matrices=False)
    plain = ((up[:, :2] * sizes[:2]) @ down[:2]).view(whole.shape)
    assert torch.linalg.matrix_rank(small.flatten(1), rtol=1e-4) == 2
    assert output_energy(rows, small - whole, gram) < 0.9 * output_energy(rows, plain - whole, gram)


def test_wide_convolutions_use_pixels(monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.fuse.layer_rows._WIDEST", 10)
    layer = torch.nn.Conv2d(6, 10, 3, padding=1)
    rows = LayerRows(layer)
    assert rows.width == 6
    weight = _random(10, 6, 3, 3)
    assert torch.equal(rows.weight(rows.matrix(weight)), weight)
    deltas = [_low_rank(layer.weight.shape, 3, seed) for seed in (1, 5)]
    inputs = [_random(5, 6, 9, 7, seed=seed) for seed in (1, 2)]
    inputs[0][:, :3] = 0
    inputs[1][:, 3:] = 0
    fused = fuse_layer(rows, deltas, [_gram(layer, x) for x in inputs], 6)
    assert fused.down.shape == (6, 6, 3, 3) and fused.up.shape == (10, 6, 1, 1)
    for delta, x in zip(deltas, inputs, strict=True):
        assert _error(layer, fused.delta, delta, x) < 1e-3


def test_a_layer_that_was_not_used_gets_the_mean():
    layer = torch.nn.Linear(4, 3)
    deltas = [_low_rank(layer.weight.shape, 1, seed) for seed in (1, 5)]
    fused = fuse_layer(LayerRows(layer), deltas, [torch.zeros(4, 4)] * 2, 2)
    assert torch.allclose(fused.delta, (deltas[0] + deltas[1]) / 2, atol=1e-5)


def test_zeros_stay_zeros():
    layer = torch.nn.Linear(24, 32)
    fused = fuse_layer(LayerRows(layer), [torch.zeros(32, 24)], [_gram(layer, _random(5, 40, 24))], 3)
    assert torch.equal(fused.delta, torch.zeros(32, 24))


def test_energy_is_that_of_the_outputs():
    layer = torch.nn.Linear(24, 32)
    delta, x = _low_rank(layer.weight.shape, 3, 1), _random(5, 40, 24)
    expected = float(_outputs(layer, delta, x).pow(2).sum(-1).mean())
    assert output_energy(LayerRows(layer), delta, _gram(layer, x)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("order", ["tokens last", "tokens first"])
def test_tokens_of_names_count_as_often_as_they_weigh(order):
    layer = torch.nn.Linear(8, 8)
    target = LoraTarget("lora_te_x", "clip_l", "attention", layer)
    x, weights = _random(2, 5, 8), torch.ones(2, 5)
    weights[1, 3] = 4.0
    recorder = InputRecorder([target])
    recorder.token_weights = weights
    with recorder.attached(), torch.no_grad():
        layer(x if order == "tokens last" else x.transpose(0, 1))
    rows = torch.cat([x.flatten(0, 1), x[1, 3].expand(3, 8)])
    assert torch.allclose(recorder.gram(target), rows.t() @ rows / 13, atol=1e-5)


def test_recording_leaves_no_hook_after_an_error():
    layer = torch.nn.Linear(8, 8)
    recorder = InputRecorder([LoraTarget("k", "unet", "attention", layer)])
    with pytest.raises(RuntimeError), recorder.attached():
        layer(_random(2, 5, 9))
    assert not layer._forward_pre_hooks
