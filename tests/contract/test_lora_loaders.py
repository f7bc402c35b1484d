"""Every kind of LoRA that is trained here changes a layer in the webuis' own loaders as it did in training."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.fuse.layer_rows import LayerRows
from lib_pivotal.core.fuse.solution import fuse_layer
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.ports import LoraTarget
from tests.contract.host_tree import find_tree, version_of

KINDS = ("lora", "loha", "lokr")
_READS_DORA = ("1.9.0", "1.10.1")
LAYERS = {
    "linear": lambda: torch.nn.Linear(24, 32, bias=False),
    "conv": lambda: torch.nn.Conv2d(24, 32, 3, padding=1, bias=False),
    "1x1": lambda: torch.nn.Conv2d(32, 24, 1, bias=False),
}
_VERSIONS = ("1.6.1", "1.7.0", "1.8.0", "1.9.0", "1.10.1")
_CPU = torch.device("cpu")
Change = Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor]


def _skip_loudly(what: str) -> None:
    message = f"NO TREE OF {what} FOUND: the kinds of LoRA were not compared with its loader (set PIVOTAL_TREES)."
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)


def webui_tree(version: str) -> Path:
    """A tree of this version below ``$PIVOTAL_TREES``, or an installed webui."""
    home = Path.home()
    chosen = os.environ.get("PIVOTAL_WEBUI")
    folders = [Path(os.environ.get("PIVOTAL_TREES") or home / "webui-src") / version, home / f"webui-{version}"]
    folders += [Path(chosen)] if chosen else [home / "stable-diffusion-webui"]
    wanted = tuple(int(number) for number in version.split("."))
    for tree in folders:
        if (tree / "CHANGELOG.md").exists() and version_of(tree) == wanted:
            return tree
    _skip_loudly(f"A1111 {version}")
    raise AssertionError


class _AnyModule(types.ModuleType):
    """Stands for a module of the webui that is only imported; its classes match nothing."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _load(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def _stub(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        module = _AnyModule(name)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)


@pytest.fixture(params=_VERSIONS)
def a1111(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Change:
    """The change of a weight by the Lora extension of a version of A1111."""
    return a1111_loader(webui_tree(request.param), monkeypatch)


def a1111_loader(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Change:
    """The change of a weight by the Lora extension of an A1111."""
    folder = tree / "extensions-builtin" / "Lora"
    names = ("sd_models", "cache", "errors", "hashes", "shared", "devices", "models", "models.sd3", "models.sd3.mmdit")
    _stub(monkeypatch, "modules", *(f"modules.{name}" for name in names))
    devices = sys.modules["modules.devices"]
    devices.device, devices.cpu, devices.dtype = _CPU, _CPU, torch.float32  # type: ignore[attr-defined]
    _load(monkeypatch, "lyco_helpers", folder / "lyco_helpers.py")
    network = _load(monkeypatch, "network", folder / "network.py")
    kinds = [
        getattr(_load(monkeypatch, f"network_{name}", folder / f"network_{name}.py"), f"ModuleType{name.title()}")()
        for name in ("lora", "hada", "lokr")
    ]

    def change(layer: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        net = types.SimpleNamespace(te_multiplier=1.0, unet_multiplier=1.0, dyn_dim=None)
        weights = network.NetworkWeights("lora_unet_x", "diffusion_model_x", tensors, layer)
        modules = [module for kind in kinds if (module := kind.create_module(net, weights)) is not None]
        assert len(modules) == 1, sorted(tensors)
        found = modules[0].calc_updown(layer.weight)
        return (found[0] if isinstance(found, tuple) else found).float()

    return change


def trained(kind: str, layer: torch.nn.Module, factor: int = 4) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The change of a weight in training, read off the layer's outputs, and the tensors in the file."""
    torch.manual_seed(3)
    layer.requires_grad_(False)
    target = LoraTarget("k", "unet", "attention", layer)
    adapters = AdapterSet.with_ranks("unet", [(target, 4)], 0.5, 1, _CPU, kind=kind, lokr_factor=factor)
    with torch.no_grad():
        adapters.flat.values.normal_()
        for magnitudes in adapters.flats[1:]:
            magnitudes.values.mul_(torch.rand(magnitudes.values.shape) + 0.5)
    return change_in_training(adapters, layer), {
        key.partition(".")[2]: value for key, value in adapters.state_dict().items()
    }


def change_in_training(adapters: AdapterSet, layer: torch.nn.Module) -> torch.Tensor:
    """The change of a layer's weight by adapters, read off its outputs."""
    width, shape = layer.weight.shape[1], layer.weight.shape
    # One input channel at a time; a convolution reads its kernel off an impulse in the middle, mirrored.
    probes = torch.eye(width) if len(shape) == 2 else torch.zeros(width, width, 5, 5)
    if len(shape) == 4:
        probes[range(width), range(width), 2, 2] = 1.0
    with attach([adapters]):
        response = layer(probes)
    response = response - layer(probes)
    if len(shape) == 2:
        return response.t()
    reach = shape[2] // 2
    window = response[:, :, 2 - reach : 3 + reach, 2 - reach : 3 + reach]
    return window.flip(2, 3).transpose(0, 1)


def _assert_same(change: Change, kind: str, place: str) -> None:
    layer = LAYERS[place]()
    expected, tensors = trained(kind, layer)
    found = change(layer, tensors)
    assert found.shape == layer.weight.shape
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("place", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a1111_adds_what_wastrained(a1111: Change, kind: str, place: str) -> None:
    _assert_same(a1111, kind, place)


@pytest.mark.parametrize("place", LAYERS)
def test_a1111_computes_a_dora_as_trained_from_1_9_on_and_ignores_the_magnitudes_before(
    a1111: Change, place: str, request: pytest.FixtureRequest
) -> None:
    layer = LAYERS[place]()
    expected, tensors = trained("dora", layer)
    found = a1111(layer, tensors)
    if request.node.callspec.params["a1111"] in _READS_DORA:
        assert (found - expected).norm() <= 1e-5 * expected.norm()
    else:
        plain = a1111(layer, {key: value for key, value in tensors.items() if key != "dora_scale"})
        assert torch.equal(found, plain)
        assert (found - expected).norm() > 0.1 * expected.norm()


def _assert_same_when_fused(change: Change, place: str) -> None:
    layers = [LAYERS[place]() for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    deltas = [trained(kind, layer)[0] for kind, layer in zip(("lora", "lokr"), layers, strict=True)]
    rows = LayerRows(layers[0])
    grams = [torch.randn(50, rows.width, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    fused = fuse_layer(rows, deltas, [gram.t() @ gram / 50 for gram in grams], 6)
    tensors = {"lora_down.weight": fused.down, "lora_up.weight": fused.up, "alpha": torch.tensor(6.0)}
    found = change(layers[0], tensors)
    assert (found - fused.delta).norm() <= 1e-5 * fused.delta.norm()


@pytest.mark.parametrize("place", LAYERS)
def test_a1111_adds_what_was_fused(a1111: Change, place: str) -> None:
    _assert_same_when_fused(a1111, place)


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch) -> Change:
    """The change of a weight by Forge's patcher."""
    tree = find_tree("forge")
    if tree is None:
        _skip_loudly("forge")
    return forge_loader(tree, monkeypatch)


def forge_loader(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Change:
    """The change of a weight by the patcher of a Forge."""
    _stub(monkeypatch, "backend", "backend.memory_management", "backend.utils", "packages_3rdparty")
    for name in ("webui_lora_collection", "comfyui_lora_collection"):
        _stub(monkeypatch, f"packages_3rdparty.{name}", f"packages_3rdparty.{name}.lora")
    sys.modules["backend.memory_management"].cast_to_device = lambda tensor, device, dtype: tensor.to(device, dtype)  # type: ignore[attr-defined]
    patcher = _load(monkeypatch, "pivotal_forge_lora", tree / "backend" / "patcher" / "lora.py")
    keys = _load(monkeypatch, "pivotal_forge_keys", tree / "packages_3rdparty" / "comfyui_lora_collection" / "lora.py")

    def change(layer: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        found = keys.load_lora({f"x.{suffix}": value for suffix, value in tensors.items()}, {"x": "w"})
        patches, unused = found if isinstance(found, tuple) else (found, {})
        assert not unused
        before = layer.weight.detach().clone()
        after = patcher.merge_lora_to_weight([(1.0, patches["w"], 1.0, None, None)], before.clone(), key="w")
        return (after - before).float()

    return change


@pytest.mark.parametrize("place", LAYERS)
@pytest.mark.parametrize("kind", [*KINDS, "dora"])
def test_forge_adds_what_wastrained(forge: Change, kind: str, place: str) -> None:
    _assert_same(forge, kind, place)


@pytest.mark.parametrize("place", LAYERS)
def test_forge_adds_what_was_fused(forge: Change, place: str) -> None:
    _assert_same_when_fused(forge, place)
