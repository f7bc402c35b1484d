"""Forge's own LoRA extension and patcher, loaded from its source, on a model of one layer; the rest is stubs."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

__all__ = ["LORA_KEY", "ForgeLoras"]

LORA_KEY = "lora_unet_x"
_LAYER = "x.weight"


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **values: Any) -> Any:
    module = types.ModuleType(name)
    module.__dict__.update(values)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    return module


def _source(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    spec.loader.exec_module(module)
    return module


def _owner(model: Any, path: str) -> tuple[Any, str]:
    parts = path.split(".")
    for part in parts[:-1]:
        model = getattr(model, part)
    return model, parts[-1]


def _set(model: Any, path: str, value: Any) -> None:
    owner, name = _owner(model, path)
    delattr(owner, name)
    setattr(owner, name, value)


def _get_with_parent(model: Any, path: str) -> tuple[Any, str, Any]:
    owner, name = _owner(model, path)
    return owner, name, getattr(owner, name)


def _read(filename: str, safe_load: bool = False) -> dict[str, torch.Tensor]:
    """As Forge reads: a file that cannot be read gets another name."""
    assert safe_load
    try:
        return load_file(filename)
    except Exception as error:
        Path(filename).replace(f"{filename}.corrupted")
        raise ValueError(str(error)) from error


class _Objects:
    """What a model consists of, in Forge's own manner."""

    def __init__(self, unet: Any, clip: Any) -> None:
        self.unet, self.clip = unet, clip

    def shallow_copy(self) -> _Objects:
        return _Objects(self.unet, self.clip)


class ForgeLoras:
    """A Forge with a model of one layer, whose LoRAs are merged as Forge merges them.

    Args:
        monkeypatch: restores ``sys.modules`` afterwards.
        tree: Forge's source.
        folder: for LoRA files.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tree: Path, folder: Path) -> None:
        self.folder, self.comments = folder, []
        self._stubs(monkeypatch, folder)
        lora = _source(monkeypatch, "backend.patcher.lora", tree / "backend" / "patcher" / "lora.py")
        base = _source(monkeypatch, "backend.patcher.base", tree / "backend" / "patcher" / "base.py")
        lora.model_lora_keys_unet = lambda model: {LORA_KEY: _LAYER}
        lora.model_lora_keys_clip = lambda model: {}
        extension = tree / "extensions-builtin" / "sd_forge_lora"
        _source(monkeypatch, "network", extension / "network.py")
        self.networks = _source(monkeypatch, "networks", extension / "networks.py")
        self.activation = _source(
            monkeypatch, "extra_networks_lora", extension / "extra_networks_lora.py"
        ).ExtraNetworkLora()
        self.extra_networks = sys.modules["modules.extra_networks"]
        self.extra_networks.extra_network_registry["lora"] = self.activation
        self._base, self._in_memory = base, []
        self.load(self.another_model())

    def _stubs(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        for name in ("modules", "backend", "packages_3rdparty", "backend.patcher"):
            _module(monkeypatch, name).__path__ = []
        options = types.SimpleNamespace(
            data={}, sd_lora="None", lora_preferred_name="Filename", lora_add_hashes_to_infotext=True,
            extra_networks_default_multiplier=1.0,
        )  # fmt: skip
        _module(
            monkeypatch, "modules.shared", opts=options, cmd_opts=types.SimpleNamespace(lora_dir=str(folder)),
            walk_files=lambda path, allowed_extensions: sorted(str(item) for item in Path(path).glob("*.safetensors")),
        )  # fmt: skip
        data = types.SimpleNamespace(sd_model=None)
        data.get_sd_model = lambda: data.sd_model
        _module(
            monkeypatch, "modules.sd_models", model_data=data, read_metadata_from_safetensors=lambda _path: {},
            get_empty_cond=lambda *_: None,
        )  # fmt: skip
        _module(monkeypatch, "modules.cache", cached_data_for_file=lambda _title, _key, _file, read: read())
        shown = logging.getLogger("forge").error
        _module(monkeypatch, "modules.errors", display=lambda error, task: shown("%s: %s", task, error), report=shown)
        hashes = {"sha256_from_cache": lambda *_, **__: None, "sha256": lambda *_, **__: ""}
        _module(monkeypatch, "modules.hashes", **hashes)
        _module(monkeypatch, "modules.scripts")
        _module(monkeypatch, "modules.sd_hijack", model_hijack=types.SimpleNamespace())
        _module(monkeypatch, "backend.args", dynamic_args={})
        _module(
            monkeypatch, "backend.utils", load_torch_file=_read, set_attr_raw=_set, get_attr_with_parent=_get_with_parent,
            get_attr=lambda model, path: _get_with_parent(model, path)[2],
            tensor2parameter=lambda value: torch.nn.Parameter(value, requires_grad=False),
        )  # fmt: skip
        _module(monkeypatch, "backend.operations", bnb_avaliable=False)
        _module(
            monkeypatch, "backend.memory_management", signal_empty_cache=False, module_size=lambda _model: 1,
            cast_to_device=lambda tensor, device, dtype: tensor.to(device, dtype),
        )  # fmt: skip
        for name in ("webui_lora_collection", "comfyui_lora_collection"):
            _module(monkeypatch, f"packages_3rdparty.{name}").__path__ = []
            _module(monkeypatch, f"packages_3rdparty.{name}.lora", load_lora=_matching)

        tree_networks = types.ModuleType("modules.extra_networks")
        monkeypatch.setitem(sys.modules, "modules.extra_networks", tree_networks)
        sys.modules["modules"].extra_networks = tree_networks
        _fill_extra_networks(tree_networks)

    def load(self, model: Any) -> None:
        """Make a model the loaded one; as in reForge, all others stay in memory."""
        self.model = model
        self._in_memory = [model, *(item for item in self._in_memory if item is not model)]
        data = sys.modules["modules.sd_models"].model_data
        data.sd_model, data.loaded_sd_models = model, self._in_memory

    def another_model(self) -> Any:
        """A model that is not loaded yet."""
        base = self._base
        cpu, unet, text = torch.device("cpu"), torch.nn.Module(), torch.nn.Module()
        unet.x = torch.nn.Linear(2, 2, bias=False).requires_grad_(False)
        unet.x.weight.zero_()
        unet.storage_dtype = torch.float32
        patcher = base.ModelPatcher(unet, cpu, cpu)
        clip = types.SimpleNamespace(patcher=base.ModelPatcher(text, cpu, cpu), cond_stage_model=text)
        clip.clone = lambda: clip
        model = types.SimpleNamespace(current_lora_hash=str([]), forge_objects_original=_Objects(patcher, clip))
        model.forge_objects = model.forge_objects_original.shallow_copy()
        model.forge_objects_after_applying_lora = model.forge_objects_original.shallow_copy()
        return model

    def write(self, label: str, value: float, **named: torch.Tensor) -> Path:
        """A LoRA that adds ``value`` to every weight, with more tensors under any keys."""
        path = self.folder / f"{label}.safetensors"
        ones = {
            f"{LORA_KEY}.lora_down.weight": torch.ones(1, 2),
            f"{LORA_KEY}.lora_up.weight": torch.ones(2, 1) * value,
        }
        save_file({**ones, f"{LORA_KEY}.alpha": torch.tensor(1.0), **named}, path)
        return path

    def generate(self, *labels: str, weights: tuple[str, ...] = ("1",)) -> tuple[float, list[str]]:
        """What the LoRAs of a prompt add to a weight, and the comments on the image.

        Args:
            labels: in the tags.
            weights: what follows the label in every tag.
        """
        task = types.SimpleNamespace(
            prompts=[""], negative_prompts=[""], extra_generation_params={}, scripts=None, comments=[]
        )
        task.comment = task.comments.append
        data = {"lora": [self.extra_networks.ExtraNetworkParams([label, *weights]) for label in labels]}
        self.extra_networks.activate(task, data)
        self.model.forge_objects_after_applying_lora.unet.refresh_loras()
        return float(self.model.forge_objects_original.unet.model.x.weight[0, 0]), task.comments


def _matching(lora: dict[str, Any], keys: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The patches for known layers, and the keys that belong to none."""
    patches, rest = {}, dict(lora)
    for key, layer in keys.items():
        if f"{key}.lora_up.weight" in lora:
            up, down, alpha = (rest.pop(f"{key}.{end}") for end in ("lora_up.weight", "lora_down.weight", "alpha"))
            patches[layer] = ("lora", (up, down, float(alpha), None, None))
    return patches, rest


def _fill_extra_networks(module: Any) -> None:
    """``activate`` as Forge has it: a failing network is activated again without arguments."""

    class ExtraNetwork:
        def __init__(self, name: str) -> None:
            self.name = name

    class ExtraNetworkParams:
        def __init__(self, items: list[Any]) -> None:
            self.items, self.positional, self.named = items, list(items), {}

    def activate(task: Any, data: dict[str, list[Any]]) -> None:
        network, done = module.extra_network_registry["lora"], False
        try:
            if "lora" in data:
                network.activate(task, list(data["lora"]))
                done = True
        except Exception as error:
            sys.modules["modules.errors"].display(error, "activating")
        if not done:
            network.activate(task, [])

    module.ExtraNetwork, module.ExtraNetworkParams, module.activate = ExtraNetwork, ExtraNetworkParams, activate
    module.extra_network_registry = {}
