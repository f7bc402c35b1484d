"""Bundles in prompts on Forge and its relatives: their source, and Forge's own text engine."""

from __future__ import annotations

import importlib
import json
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.contract.host_tree import complaint, find_tree

_ROOT = Path(__file__).resolve().parents[2]
_CONTRACT = _ROOT / "lib_pivotal" / "host" / "forge_contract.json"
_HOSTS = ("forge", "forge-old", "forge-classic", "forge-neo", "reforge")
_LORA_FOLDERS = {"forge": "sd_forge_lora", "forge-neo": "sd_forge_lora"}


def tree_of(host: str) -> Path:
    """A tree of this webui; skips loudly where there is none."""
    tree = find_tree(host)
    if tree is None:
        message = f"NO TREE OF {host} FOUND: bundle prompts were not compared with it (set PIVOTAL_TREES)."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return tree


@pytest.mark.parametrize("host", _HOSTS)
def test_every_function_that_we_hook_or_call_exists(host: str) -> None:
    tree = tree_of(host)
    complaints = []
    for symbol in json.loads(_CONTRACT.read_text(encoding="utf-8"))["symbols"]:
        if host in symbol["hosts"]:
            file = symbol["file"].replace("{lora}", _LORA_FOLDERS.get(host, "Lora"))
            problem = complaint(tree, {**symbol, "file": file})
            if problem:
                complaints.append(f"{file}: {problem}")
    assert not complaints, "\n".join(complaints)


class _Model:
    """Forge's engines are plain objects, with their parts as attributes."""

    current_lora_hash = ""


class _Engine:
    """Forge's own classes, loaded from its source, on a small text encoder; the rest of Forge is stubs."""

    def __init__(self, tree: Path, folder: Path) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

        write_tokenizer(folder / "clip")
        tokenizer = CLIPTokenizer.from_pretrained(folder / "clip")
        engine_module = importlib.import_module("backend.text_processing.classic_engine")
        torch.manual_seed(0)
        config = CLIPTextConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=49408,
            bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
        )  # fmt: skip
        self.model = _Model()
        for key in ("clip_l", "clip_g"):
            encoder = types.SimpleNamespace(transformer=_HoldsTextModel(CLIPTextModel(config)))
            engine = engine_module.ClassicTextProcessingEngine(
                encoder, tokenizer, embedding_key=key, embedding_expected_shape=64, emphasis_name="Original"
            )
            setattr(self.model, f"text_processing_engine_{key[-1]}", engine)

    def chunk(self, key: str, text: str) -> tuple[list[int], list[tuple[int, torch.Tensor]]]:
        """Tokens of the first chunk, and place and vectors of each embedding in it."""
        engine = getattr(self.model, f"text_processing_engine_{key[-1]}")
        chunks, _ = engine.tokenize_line(text)
        return chunks[0].tokens, [(fix.offset, fix.embedding.vec[key]) for fix in chunks[0].fixes]


class _HoldsTextModel(torch.nn.Module):
    """Forge's module has its parts one level deeper than some versions of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text_model = getattr(model, "text_model", model)


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Engine]:
    tree = tree_of("forge")
    known = set(sys.modules)
    options = types.SimpleNamespace(data={}, emphasis="Original")
    stubs: dict[str, dict[str, Any]] = {
        "backend.memory_management": {},
        "modules": {},
        "modules.shared": {"opts": options},
        "modules.devices": {"device": torch.device("cpu")},
        "modules.sd_hijack": {"model_hijack": types.SimpleNamespace()},
        "modules.sd_models": {"model_data": types.SimpleNamespace(sd_model=None)},
        "networks": {"loaded_networks": [], "available_networks": {}, "load_networks": lambda *_: None},
    }
    for name, values in stubs.items():
        module = types.ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent == "modules":
            setattr(sys.modules["modules"], child, module)
    monkeypatch.syspath_prepend(str(tree))
    import backend

    backend.memory_management = sys.modules["backend.memory_management"]
    engine = _Engine(tree, tmp_path)
    sys.modules["modules.sd_models"].model_data.sd_model = engine.model
    yield engine
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("backend", "modules"):
            del sys.modules[name]


def _activate(path: Path, label: str = "A") -> None:
    on_disk = types.SimpleNamespace(filename=str(path))
    net = types.SimpleNamespace(name=label, mentioned_name=label, network_on_disk=on_disk)
    sys.modules["networks"].loaded_networks[:] = [net]


def _names() -> Any:
    """The active names, put together as at installation."""
    from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
    from lib_pivotal.host.bundle_prompts.encoders import LiveEncoders
    from lib_pivotal.host.bundle_prompts.lookup import unhooked_find, unhooked_tokenize
    from lib_pivotal.host.bundle_prompts.settings import read_settings

    return ActiveNames(unhooked_find(), LiveEncoders(unhooked_tokenize()), read_settings)


def test_names_work_in_both_of_forges_engines(forge: _Engine, tmp_path: Path) -> None:
    from lib_pivotal.host.bundle_prompts.hooks import Hooks
    from lib_pivotal.host.bundle_prompts.lookup import add_lookup_hooks

    first, second = torch.randn(3, 32), torch.randn(3, 32)
    path = tmp_path / "A.safetensors"
    save_file({"bundle_emb.<s0>.clip_l": first, "bundle_emb.<s0>.clip_g": second}, path)
    before = forge.chunk("clip_l", "a <s0>, dog")
    hooks, state = Hooks(), _names()
    add_lookup_hooks(hooks, state)
    try:
        assert forge.chunk("clip_l", "a <s0>, dog") == before
        _activate(path)
        for key, vectors in (("clip_l", first), ("clip_g", second)):
            tokens, fixes = forge.chunk(key, "a <s0>, dog")
            assert tokens[2:5] == [0, 0, 0]
            ((offset, found),) = fixes
            assert offset == 1
            assert torch.equal(found, vectors)
        sys.modules["networks"].loaded_networks.clear()
        assert forge.chunk("clip_l", "a <s0>, dog") == before
    finally:
        hooks.remove()


_LORA = {"lora_unet_x.lora_down.weight": torch.zeros(1, 1)}
_MANY = {f"bundle_emb.n{i}.clip_l": torch.ones(1, 32) for i in range(14)}


@pytest.fixture
def loading(forge: _Engine, tmp_path: Path) -> Iterator[Any]:
    """Forge's cached reader of files with our hooks, a file with a bundle, and what was read from disk."""
    import functools

    from lib_pivotal.host.bundle_prompts.hooks import Hooks
    from lib_pivotal.host.bundle_prompts.takeover import add_takeover_hooks

    path = tmp_path / "A.safetensors"
    save_file({**_LORA, **_MANY}, path)
    networks = sys.modules["networks"]
    reads: list[str] = []

    @functools.lru_cache(maxsize=5)
    def load_lora_state_dict(filename: str) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        reads.append(filename)
        return load_file(filename)

    networks.load_lora_state_dict = load_lora_state_dict
    networks.load_network = lambda name, on_disk: types.SimpleNamespace(
        name=name, mentioned_name=name, network_on_disk=on_disk
    )
    hooks, state = Hooks(), _names()
    add_takeover_hooks(hooks, state)
    yield types.SimpleNamespace(networks=networks, path=path, reads=reads, state=state, model=forge.model)
    hooks.remove()


def test_forges_loader_never_sees_our_keys(loading: Any) -> None:
    """With more than 12 keys that fit nothing it drops the whole LoRA."""
    from lib_pivotal.host.bundle_prompts.takeover import reload_outdated

    networks, path, model = loading.networks, loading.path, loading.model
    assert set(networks.load_lora_state_dict(str(path))) == set(_LORA)
    networks.loaded_networks[:] = [networks.load_network("A", types.SimpleNamespace(filename=str(path)))]
    model.current_lora_hash = "as it was"
    reload_outdated(loading.state)
    assert model.current_lora_hash == "as it was"
    save_file({**_LORA, "lora_unet_y.alpha": torch.tensor(1.0)}, path)
    reload_outdated(loading.state)
    assert model.current_lora_hash != "as it was"
    assert set(networks.load_lora_state_dict(str(path))) == {*_LORA, "lora_unet_y.alpha"}
    assert len(loading.reads) == 2


def test_forge_reads_a_file_again_that_was_replaced_while_it_was_inactive(loading: Any) -> None:
    networks, path = loading.networks, loading.path
    for _ in range(2):
        networks.load_lora_state_dict(str(path))
    assert len(loading.reads) == 1
    save_file({**_LORA, "lora_unet_y.alpha": torch.tensor(1.0)}, path)
    assert "lora_unet_y.alpha" in networks.load_lora_state_dict(str(path))
    assert len(loading.reads) == 2


def test_forge_never_sees_our_keys_while_bundled_embeddings_are_on(loading: Any) -> None:
    """Forge has no bundle handling of its own, so the priority setting does not matter."""
    data = sys.modules["modules.shared"].opts.data
    data["pivotal_loader_takes_over"] = False
    assert set(loading.networks.load_lora_state_dict(str(loading.path))) == set(_LORA)
    data["pivotal_loader"] = False
    assert set(loading.networks.load_lora_state_dict(str(loading.path))) == {*_LORA, *_MANY}
