"""Loading LoRA files in the fake webui: which keys are left out, which files are loaded again, how our errors end."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.hooks import Hooks
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.takeover import add_takeover_hooks, reload_outdated
from tests.contract.fake_webui import FakeWebui

_MERGED = (("A", 1.0, 1.0, None),)


class _Lora:
    """The webui's Lora extension as far as loading goes, with our hooks."""

    def __init__(self, webui: FakeWebui, folder: Path) -> None:
        self.webui = webui
        self.networks, self.options = webui.modules["networks"], webui.modules["shared"].opts.data
        self.data = webui.modules["sd_models"].model_data
        self.path = folder / "A.safetensors"
        self.write(1.0)
        webui.behave("sd_models", "read_state_dict", load_file)
        webui.behave("networks", "load_network", self._load_network)
        self.networks.sd_models = webui.modules["sd_models"]
        self.hooks, self.state = Hooks(), ActiveNames(lambda _run: (None, None), lambda: None, read_settings)
        add_takeover_hooks(self.hooks, self.state)

    def write(self, value: float) -> None:
        tensors = {"lora_unet_x.alpha": torch.tensor(value), "bundle_emb.zog.emb_params": torch.ones(1, 8) * value}
        save_file(tensors, self.path)

    def _load_network(self, name: str, on_disk: Any) -> Any:
        read = self.networks.sd_models.read_state_dict(on_disk.filename)
        own = {key: value for key, value in read.items() if key.startswith("bundle_emb")}
        return types.SimpleNamespace(
            name=name, network_on_disk=on_disk, mtime=9e9, keys=set(read), bundle_embeddings=own
        )

    def load(self) -> Any:
        return self.networks.load_network("A", types.SimpleNamespace(filename=str(self.path)))


@pytest.fixture
def lora(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Lora]:
    made = _Lora(FakeWebui(monkeypatch), tmp_path)
    yield made
    made.hooks.remove()


def test_our_keys_are_left_out_unless_the_webui_goes_first(lora: _Lora) -> None:
    assert lora.load().keys == {"lora_unet_x.alpha"}
    for switched_off in ("pivotal_loader", "pivotal_loader_takes_over"):
        lora.options[switched_off] = False
        assert len(lora.load().bundle_embeddings) == 1
        del lora.options[switched_off]


@pytest.mark.parametrize("setting", ["pivotal_loader", "pivotal_loader_takes_over"])
def test_changing_a_setting_reads_the_active_loras_again(lora: _Lora, setting: str) -> None:
    lora.networks.loaded_networks.append(lora.load())
    lora.networks.networks_in_memory["A"] = lora.load()
    reload_outdated(lora.state)
    assert lora.networks.loaded_networks[0].mtime > 0 and lora.networks.networks_in_memory
    lora.options[setting] = False
    reload_outdated(lora.state)
    assert lora.networks.loaded_networks[0].mtime == 0 and not lora.networks.networks_in_memory


def test_a_replaced_file_is_applied_again_in_every_model_in_memory(lora: _Lora) -> None:
    used, other = (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)) for _ in range(2))
    lora.data.sd_model, lora.data.loaded_sd_models = used, [used, other]
    used[0].network_current_names = other[0].network_current_names = _MERGED
    lora.load()
    lora.load()
    assert used[0].network_current_names == other[0].network_current_names == _MERGED
    lora.write(2.0)  # while it is not in the webui's lists
    lora.load()
    for layer in (used[0], other[0]):
        assert layer.network_current_names not in ((), _MERGED)
    assert not hasattr(used[1], "network_current_names")


def _fail(*_arguments: Any, **_options: Any) -> None:
    raise KeyError("a failure")


def test_a_failure_of_ours_leaves_loading_to_the_webui(lora: _Lora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora.state.files, "read", _fail)
    assert lora.load().keys == {"lora_unet_x.alpha", "bundle_emb.zog.emb_params"}


def test_a_failure_of_the_webuis_is_not_hidden_and_leaves_nothing_exchanged(lora: _Lora) -> None:
    broken = lora.networks.sd_models = types.SimpleNamespace(read_state_dict=_fail)
    with pytest.raises(KeyError):
        lora.load()
    assert lora.networks.sd_models is broken


def test_a_lora_that_takes_no_note_is_still_loaded(lora: _Lora) -> None:
    """Another extension may put an object of its own in place of the webui's."""
    fixed = object()
    lora.hooks.remove()
    lora.webui.behave("networks", "load_network", lambda *_: fixed)
    lora.hooks = Hooks()
    add_takeover_hooks(lora.hooks, lora.state)
    assert lora.load() is fixed
