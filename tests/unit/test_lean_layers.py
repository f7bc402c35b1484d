"""Frozen layers that keep less for the backward pass: the same outputs and gradients, and no trace afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.activations.lean import lean
from lib_pivotal.core.families import Kept
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.targets import choose_targets
from lib_pivotal.core.train.attention_kernels import differentiable_attention
from tests.unit.ldm_blocks import TEXT, GroupNorm32, SmallUNet, layers_with_lora, small_unet

KINDS = ("lora", "loha", "lokr", "dora")
CPU = torch.device("cpu")
WEIGHTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "bf16 over fp32": torch.float32, "fp16": torch.float16}


def adapted(unet: SmallUNet, kind: str) -> AdapterSet:
    chosen = choose_targets(layers_with_lora(unet), rank=4, conv_rank=2, text_encoder_rank=0)
    adapters = AdapterSet.with_ranks("unet", chosen, 0.5, 1, CPU, kind=kind, lokr_factor=4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        adapters.flat.values.copy_(0.1 * torch.randn(adapters.flat.values.shape, generator=generator))
    return adapters


def autocast_of(precision: str) -> Callable[[], contextlib.AbstractContextManager]:
    if precision == "fp32":
        return contextlib.nullcontext
    return lambda: torch.autocast("cpu", dtype=torch.float16 if precision == "fp16" else torch.bfloat16)


def step(
    kind: str, precision: str, level: Kept, *, checkpoints: bool = False
) -> tuple[list[torch.Tensor], dict[int, int]]:
    """The output and all gradients of a step, and bytes kept for its backward pass by storage."""
    unet = small_unet().to(WEIGHTS[precision])
    for module in unet.modules():
        # On a GPU autocast sees to their weights.
        if isinstance(module, GroupNorm32):
            module.float()
    adapters = adapted(unet, kind)
    autocast = autocast_of(precision)
    if checkpoints:
        unet.run = lambda block, *inputs: checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
    generator = torch.Generator().manual_seed(7)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 7, TEXT, generator=generator).requires_grad_()
    own = {parameter.untyped_storage().data_ptr() for parameter in [*unet.parameters(), adapters.flat.values]}
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        alive.append(tensor)
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with attach([adapters]), lean(unet, autocast, level):
        with autocast(), contextlib.nullcontext() if checkpoints else hooks:
            output = unet(noisy, torch.tensor([3.0, 400.0]), text)
        output.float().pow(2).sum().backward()
    return [output.detach(), text.grad, *(leaf.grad for leaf in adapters.flat.leaves)], kept


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("precision", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_norms_and_gates_that_keep_less_change_no_bit(kind, precision, checkpoints):
    plain, _ = step(kind, precision, "all", checkpoints=checkpoints)
    leaner, _ = step(kind, precision, "less", checkpoints=checkpoints)
    for one, other in zip(plain, leaner, strict=True):
        assert one.abs().sum() > 0
        assert torch.equal(one, other)


@pytest.mark.parametrize("checkpoints", [False, True])
@pytest.mark.parametrize("precision", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_saving_memory_changes_nothing_but_rounding(kind, precision, checkpoints):
    plain, _ = step(kind, precision, "all", checkpoints=checkpoints)
    leaner, _ = step(kind, precision, "least", checkpoints=checkpoints)
    tolerance = 1e-6 if precision == "fp32" else 1e-2
    for one, other in zip(plain, leaner, strict=True):
        assert float((one - other).float().norm()) <= tolerance * float(one.float().norm())


def test_less_is_kept():
    kept = {level: sum(step("lora", "fp32", level)[1].values()) for level in ("all", "less", "least")}
    assert kept["less"] < 0.8 * kept["all"]
    assert kept["least"] < 0.8 * kept["less"]


def test_under_autocast_no_copies_of_weights_are_kept():
    """Weights in another precision than the products are copied for each product, and torch keeps the copies."""
    unet_bytes = sum(parameter.numel() * 2 for parameter in small_unet().parameters())
    plain, saving = (sum(step("lora", "bf16 over fp32", level)[1].values()) for level in ("less", "least"))
    assert plain - saving > unet_bytes


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_an_adapter_behind_a_norm_or_gate_keeps_nothing_that_is_large(kind):
    unet = small_unet()
    adapters = adapted(unet, kind)
    block = unet.transformers[0]
    x = torch.randn(2, 64, 32, requires_grad=True)
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with attach([adapters]), lean(unet, contextlib.nullcontext, "less"):
        for first, second in ((block.norm1, block.attn1.to_q), (block.ff.net[0], block.ff.net[2])):
            between = first(x)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                second(between)
            storages = {tensor.untyped_storage().data_ptr() for tensor in kept}
            assert between.untyped_storage().data_ptr() not in storages


@pytest.mark.parametrize("fails", [False, True])
def test_the_modules_are_as_before_in_the_end(fails):
    unet = small_unet()
    taken = unet.transformers[0].norm1
    taken.forward = foreign = lambda x: x
    before = {name: dict(vars(module)) for name, module in unet.named_modules()}
    with contextlib.suppress(RuntimeError), lean(unet, contextlib.nullcontext, "least"):
        assert "forward" in vars(unet.transformers[1].norm1)
        assert taken.forward is foreign
        if fails:
            raise RuntimeError
    assert {name: dict(vars(module)) for name, module in unet.named_modules()} == before


def test_without_gradients_every_layer_is_itself():
    unet = small_unet()
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 400.0]), torch.randn(2, 7, TEXT)
    with torch.no_grad():
        expected = unet(*inputs)
        with lean(unet, contextlib.nullcontext, "least"):
            assert torch.equal(unet(*inputs), expected)
    with lean(unet, contextlib.nullcontext, "least"), torch.inference_mode():
        assert torch.equal(unet(*inputs), expected)


def test_layers_whose_adapter_waits_keep_no_copies_of_their_weights():
    """As before the LoRA starts."""
    unet, autocast = small_unet(), autocast_of("bf16 over fp32")
    adapters = adapted(unet, "lora")
    adapters.enabled = False
    layer = unet.transformers[0].attn1.to_q
    x = torch.randn(2, 64, 32, requires_grad=True)
    kept: list[torch.Tensor] = []
    with attach([adapters]), autocast(), torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        output = layer(x)
    assert not [tensor for tensor in kept if tensor is not None and tensor.shape == layer.weight.shape]
    (found,) = torch.autograd.grad(output.float().sum(), x)
    with autocast():
        (expected,) = torch.autograd.grad(layer(x).float().sum(), x)
    assert torch.equal(found, expected)


def test_a_host_may_exchange_the_forward_function_of_a_class_meanwhile(monkeypatch):
    """Some webuis do so for each call, to cast weights."""
    unet = small_unet()
    norm = unet.transformers[0].norm1
    x = torch.randn(2, 4, 32)
    with lean(unet, contextlib.nullcontext, "less"), torch.no_grad():
        monkeypatch.setattr(torch.nn.LayerNorm, "forward", lambda self, x: x + 1)
        assert torch.equal(norm(x), x + 1)


@pytest.mark.parametrize(("capability", "is_used"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus_before_ampere_do_not_use_flash_attention(monkeypatch, capability, is_used):
    flags = [True]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.backends.cuda, "flash_sdp_enabled", lambda: flags[-1])
    monkeypatch.setattr(torch.backends.cuda, "enable_flash_sdp", flags.append)
    with differentiable_attention(torch.device("cuda", 0)):
        assert flags[-1] == is_used
    assert flags[-1]
