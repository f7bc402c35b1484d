"""Negative LoRAs in the fake webui: they change the rows of the negative prompt, no other row, and no weight."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.bundle.negative_lora import NEGATIVE_LORA_KEY
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.lora.naming import ldm_to_diffusers
from lib_pivotal.core.lora.targets import lora_target
from lib_pivotal.host.bundle_prompts.activation import add_activation_hooks
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.hooks import Hooks
from lib_pivotal.host.bundle_prompts.negative_loras import NegativeLoras, negative_keys
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.takeover import add_takeover_hooks
from lib_pivotal.host.webui.uncond_rows import denoising
from tests.contract.fake_webui import FakeWebui

WIDTH, TOKENS = 8, 4
PATH = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
COND, UNCOND = torch.randn(2, TOKENS, WIDTH), torch.randn(1, TOKENS, WIDTH)


PLACES = {
    "convolution": ("input_blocks.1.0.in_layers.2", lambda: torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1), "sd1"),
    # Its levels have several transformer blocks.
    "SDXL": ("input_blocks.4.1.transformer_blocks.1.attn2.to_k", lambda: torch.nn.Linear(WIDTH, WIDTH), "sdxl"),
}


class UNet(torch.nn.Module):
    """One layer at a place where UNets of the LDM layout have one; each row is changed by itself."""

    def __init__(self, path: str, layer: torch.nn.Module) -> None:
        super().__init__()
        owner: torch.nn.Module = self
        *folders, name = path.split(".")
        for folder in folders:
            owner.add_module(folder, torch.nn.Module())
            owner = getattr(owner, folder)
        owner.add_module(name, layer)
        self.layer = [layer]

    def forward(self, x: Any, timesteps: Any = None, context: Any = None, **_options: Any) -> Any:
        return self.layer[0](x)


class Session:
    """A webui with our hooks, a UNet, and a negative LoRA on disk."""

    def __init__(self, webui: FakeWebui, folder: Path, place: str = "") -> None:
        torch.manual_seed(0)
        linear = (PATH, lambda: torch.nn.Linear(WIDTH, WIDTH, bias=False), "sd1")
        self.path, layer, self.family = PLACES.get(place, linear)
        self.webui, self.folder, self.unet = webui, folder, UNet(self.path, layer()).requires_grad_(False)
        self.networks, self.comments = webui.modules["networks"], []
        webui.modules["sd_models"].model_data.sd_model = types.SimpleNamespace(
            model=types.SimpleNamespace(diffusion_model=self.unet)
        )
        webui.modules["devices"].device = torch.device("cpu")
        self.hooks, self.negatives = Hooks(), NegativeLoras()
        self.names = ActiveNames(lambda _run: (None, None), lambda: None, read_settings)
        add_activation_hooks(self.hooks, self.names, self.negatives)

    def write(self, name: str = "zog-neg", kind: str = "lora", **metadata: str) -> torch.Tensor:
        """Write a negative LoRA; returns its change of the layer's weight."""
        target = lora_target("unet", ldm_to_diffusers(self.path), self.unet.layer[0], self.family)
        adapters = AdapterSet.with_ranks("unet", [(target, 2)], 0.5, 1, torch.device("cpu"), kind=kind, lokr_factor=2)
        adapters.flat.values.data.normal_()
        tensors = adapters.state_dict()
        values = {"ss_base_model_version": FAMILIES[self.family].base_version, NEGATIVE_LORA_KEY: "zog", **metadata}
        save_file(tensors, self.folder / f"{name}.safetensors", values)
        layer = adapters.layers[0]
        return layer.adapter.delta(layer.parameters, layer.target.module).detach()

    def activate(self, *names: str, strength: float = 1.0) -> None:
        """Begin a generation with these LoRAs in its prompt."""
        self.networks.loaded_networks[:] = [
            types.SimpleNamespace(
                name=name,
                mentioned_name=name,
                network_on_disk=types.SimpleNamespace(filename=str(self.folder / f"{name}.safetensors")),
                unet_multiplier=strength,
                te_multiplier=strength,
                dyn_dim=None,
            )
            for name in names
        ]
        task = types.SimpleNamespace(comment=self.comments.append, extra_generation_params={})
        self.webui.modules["extra_networks"].activate(task, {})

    def changed(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        """What the negative LoRA adds to the UNet's output."""
        found: torch.Tensor = self.unet(x, torch.zeros(len(x)), **options) - x @ self.unet.layer[0].weight.t()
        return found


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    made = Session(FakeWebui(monkeypatch), tmp_path, getattr(request, "param", ""))
    yield made
    made.negatives.remove()
    made.hooks.remove()


def step(cond: Any = COND, uncond: Any = UNCOND) -> None:
    denoising(types.SimpleNamespace(text_cond=cond, text_uncond=uncond))


def assert_rows(found: torch.Tensor, x: torch.Tensor, delta: torch.Tensor, rows: list[int]) -> None:
    """Only these rows are changed, as the LoRA says."""
    expected = torch.zeros_like(x)
    expected[rows] = (x @ delta.t())[rows]
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_only_the_last_rows_of_a_joint_batch_are_changed(session: Session, kind: str) -> None:
    delta = session.write(kind=kind)
    before = {name: value.clone() for name, value in session.unet.state_dict().items()}
    session.activate("zog-neg", strength=0.5)
    step()
    x = torch.randn(3, TOKENS, WIDTH)
    assert_rows(session.changed(x, context=torch.cat([COND, UNCOND])), x, 0.5 * delta, [2])
    # SDXL's encodings are dictionaries.
    step({"crossattn": COND, "vector": None}, {"crossattn": UNCOND, "vector": None})
    assert_rows(session.changed(x, context=torch.cat([COND, UNCOND])), x, 0.5 * delta, [2])
    assert session.unet.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in session.unet.state_dict().items())


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
@pytest.mark.parametrize("session", PLACES, indirect=True)
def test_convolutions_and_layers_of_sdxl_are_changed_too(session: Session, kind: str) -> None:
    delta, layer = session.write(kind=kind), session.unet.layer[0]
    x = torch.randn(3, WIDTH, 5, 5) if delta.ndim == 4 else torch.randn(3, TOKENS, WIDTH)
    plain = layer(x)
    session.activate("zog-neg")
    assert not session.comments
    step()
    found = session.unet(x, torch.zeros(3), context=torch.cat([COND, UNCOND]))
    added = torch.conv2d(x, delta, padding=1) if delta.ndim == 4 else x @ delta.t()
    expected = torch.cat([plain[:2], (plain + added)[2:]])
    assert torch.allclose(found, expected, atol=1e-4) and not torch.allclose(found[2], plain[2], atol=1e-2)


@pytest.mark.parametrize(
    "change",
    [lambda uncond: uncond, lambda uncond: torch.cat([uncond, uncond[:, -1:]], 1), lambda uncond: uncond[:, :2]],
    ids=["as it is", "made longer", "cut"],
)
def test_the_negative_prompt_is_found_in_a_call_of_its_own(session: Session, change: Any) -> None:
    delta = session.write()
    session.activate("zog-neg")
    step(COND[:1])
    x = torch.randn(1, TOKENS, WIDTH)
    assert_rows(session.changed(x, context=COND[:1]), x, delta, [])
    assert_rows(session.changed(x, context=change(UNCOND)), x, delta, [0])


def test_nothing_is_changed_where_the_rows_are_not_known(session: Session) -> None:
    delta = session.write()
    session.activate("zog-neg")
    step()
    # Guidance is skipped, an instruct-pix2pix model, a call of another extension, and one that is like no other.
    for count in (2, 4, 1, 7):
        x = torch.randn(count, TOKENS, WIDTH)
        assert_rows(session.changed(x), x, delta, [])
        assert_rows(session.changed(x, context=torch.randn(count, TOKENS, WIDTH)), x, delta, [])
    step(None, object())
    assert_rows(session.changed(x, context=object()), x, delta, [])


@pytest.mark.parametrize(("parts", "rows"), [([1, 0], [0, 1]), ([0, 1], [2, 3]), ([0, 0], []), ([1, 0, 1, 0], [])])
def test_forge_says_which_rows_are_which(session: Session, parts: list[int], rows: list[int]) -> None:
    delta = session.write()
    session.activate("zog-neg")
    x = torch.randn(4, TOKENS, WIDTH)
    options = {"transformer_options": {"cond_or_uncond": parts}}
    assert_rows(session.changed(x, **options), x, delta, rows)


def test_a_lora_that_is_no_longer_in_the_prompt_leaves_no_trace(session: Session) -> None:
    delta = session.write()
    session.activate("zog-neg")
    session.activate()
    step()
    x = torch.randn(3, TOKENS, WIDTH)
    assert_rows(session.changed(x), x, delta, [])
    modules = list(session.unet.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_a_file_that_was_replaced_is_read_again(session: Session) -> None:
    session.write()
    session.activate("zog-neg")
    torch.manual_seed(5)
    delta = session.write(note="longer")
    session.activate("zog-neg")
    step()
    x = torch.randn(3, TOKENS, WIDTH)
    assert_rows(session.changed(x), x, delta, [2])


def test_a_lora_for_another_model_is_named_next_to_the_image(session: Session) -> None:
    delta = session.write(ss_base_model_version="sdxl_base_v1-0")
    for _ in range(2):
        session.activate("zog-neg")
        assert session.comments.pop() == "LoRA zog-neg: it is not for this model, so it has no effect."
    step()
    x = torch.randn(3, TOKENS, WIDTH)
    assert_rows(session.changed(x), x, delta, [])


def test_a_failure_of_ours_does_not_stop_a_generation(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.write()
    monkeypatch.setattr(NegativeLoras, "_attach", lambda *_: 1 / 0)
    session.activate("zog-neg")
    step()
    x = torch.randn(3, TOKENS, WIDTH)
    assert_rows(session.changed(x), x, torch.zeros(WIDTH, WIDTH), [])


def test_switched_off_it_does_nothing(session: Session) -> None:
    delta = session.write()
    session.webui.modules["shared"].opts.data["pivotal_loader"] = False
    session.activate("zog-neg")
    step()
    x = torch.randn(3, TOKENS, WIDTH)
    assert_rows(session.changed(x), x, delta, [])


def test_the_webui_does_not_see_the_weights_of_a_negative_lora(session: Session) -> None:
    session.write()
    path = session.folder / "zog-neg.safetensors"
    seen: list[set[str]] = []
    extension, models = session.networks, session.webui.modules["sd_models"]
    session.webui.behave("sd_models", "read_state_dict", lambda _path: dict.fromkeys(negative_keys(str(path)), 0))
    extension.sd_models = models

    def load_network(_name: str, on_disk: Any) -> Any:
        seen.append(set(extension.sd_models.read_state_dict(on_disk.filename)))
        return types.SimpleNamespace()

    session.webui.behave("networks", "load_network", load_network)
    add_takeover_hooks(session.hooks, session.names)
    options = session.webui.modules["shared"].opts.data
    extension.load_network("zog-neg", types.SimpleNamespace(filename=str(path)))
    options["pivotal_loader_takes_over"] = False
    extension.load_network("zog-neg", types.SimpleNamespace(filename=str(path)))
    options["pivotal_loader"] = False
    extension.load_network("zog-neg", types.SimpleNamespace(filename=str(path)))
    assert seen == [set(), set(), negative_keys(str(path))]
    assert negative_keys(str(path))


def test_other_files_are_no_negative_loras(tmp_path: Path) -> None:
    save_file({"lora_unet_x.alpha": torch.tensor(1.0)}, tmp_path / "plain.safetensors", {"ss_v2": "False"})
    (tmp_path / "damaged.safetensors").write_bytes(b"no tensors")
    for name in ("plain.safetensors", "damaged.safetensors", "missing.safetensors", "old.pt"):
        assert negative_keys(str(tmp_path / name)) == frozenset()
