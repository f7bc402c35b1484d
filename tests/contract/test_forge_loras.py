"""LoRA files that are replaced, damaged or missing, with the code with which Forge itself loads and merges them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.host.bundle_prompts.activation import add_activation_hooks
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.hooks import Hooks
from lib_pivotal.host.bundle_prompts.negative_loras import NegativeLoras
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.takeover import add_takeover_hooks
from lib_pivotal.host.webui.lora_extension import active_loras
from lib_pivotal.host.webui.replaced_loras import forget_file
from tests.contract.forge_lora_extension import ForgeLoras
from tests.contract.test_forge_trees import tree_of


@pytest.fixture
def forge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ForgeLoras]:
    made = ForgeLoras(monkeypatch, tree_of("forge"), tmp_path)
    hooks, names = Hooks(), ActiveNames(lambda _run: (None, None), lambda: None, read_settings)
    add_takeover_hooks(hooks, names)
    add_activation_hooks(hooks, names, NegativeLoras())
    made.write("A", 2.0)
    made.networks.list_available_networks()
    yield made
    hooks.remove()


def test_a_lora_is_merged_and_taken_out(forge: ForgeLoras) -> None:
    assert forge.generate("A") == (2.0, [])
    assert forge.generate() == (0.0, [])


def test_a_lora_replaced_while_it_acts_is_merged_again(forge: ForgeLoras) -> None:
    forge.generate("A")
    forge.write("A", 5.0, **{"bundle_emb.n.emb_params": torch.ones(1, 8)})
    assert forge.generate("A") == (5.0, [])
    forge.write("A", 7.0)
    forget_file(forge.folder / "A.safetensors")
    assert forge.generate("A") == (7.0, [])
    assert forge.generate() == (0.0, [])


def test_a_lora_replaced_after_a_generation_that_never_sampled_is_merged_again(forge: ForgeLoras) -> None:
    forge.generate("A")
    # Interrupted between activation and sampling: the list of LoRAs has changed, the weights have not.
    forge.networks.load_networks([], [], [], [])
    forge.write("A", 5.0, **{"bundle_emb.n.emb_params": torch.ones(1, 8)})
    assert forge.generate("A") == (5.0, [])


def test_a_lora_replaced_while_another_model_is_loaded_is_merged_again_into_the_first(forge: ForgeLoras) -> None:
    first = forge.model
    assert forge.generate("A") == (2.0, [])
    forge.load(forge.another_model())
    forge.generate()
    forge.write("A", 5.0)
    forge.load(first)
    assert forge.generate("A") == (5.0, [])


def test_layers_that_nothing_reads_do_not_make_forge_reject_a_lora_for_sd2(forge: ForgeLoras) -> None:
    layer = "lora_te_text_model_encoder_layers_23_mlp_fc1"
    unread = {f"{layer}.{number}": torch.ones(1) for number in range(13)}
    forge.write("A", 5.0, **unread)
    assert forge.generate("A") == (0.0, []), "they are unknown to any other model"
    forge.generate()
    forge.model.is_sd2 = True
    assert forge.generate("A") == (5.0, [])


def test_a_damaged_lora_leaves_the_others_and_is_named_with_its_new_name(forge: ForgeLoras) -> None:
    path = forge.folder / "broken.safetensors"
    path.write_bytes(b"\xff" * 9)
    for labels in (("A", "broken"), ("broken", "A")):
        weight, comments = forge.generate(*labels)
        assert weight == 2.0
        (comment,) = comments
        assert comment.startswith("LoRA broken: the webui could not load broken.safetensors")
        assert "has renamed it to broken.safetensors.corrupted" in comment
    assert forge.generate("A") == (2.0, [])


def test_a_damaged_lora_that_was_repaired_acts_in_the_next_image(forge: ForgeLoras) -> None:
    path = forge.folder / "broken.safetensors"
    path.write_bytes(b"\xff" * 9)
    for _ in range(2):
        assert forge.generate("A", "broken")[0] == 2.0
    forge.write("broken", 3.0)
    assert forge.generate("A", "broken") == (5.0, [])


def test_a_missing_lora_leaves_the_others_and_is_named(forge: ForgeLoras) -> None:
    text = "LoRA nosuch: the webui has no LoRA of this name."
    assert forge.generate("A", "nosuch") == (2.0, [text])
    assert forge.generate("nosuch", "A") == (2.0, [text])
    # A file that was put there after the webui has made its list.
    forge.write("nosuch", 1.0)
    assert forge.generate("nosuch", "A") == (3.0, [])


def test_a_deleted_lora_leaves_the_others_and_is_named(forge: ForgeLoras) -> None:
    forge.write("gone", 4.0)
    assert forge.generate("A", "gone") == (6.0, [])
    (forge.folder / "gone.safetensors").unlink()
    weight, comments = forge.generate("A", "gone")
    assert weight == 2.0
    assert comments == ["LoRA gone: the webui could not load gone.safetensors; see the console for the reason."]


def test_active_loras_have_the_weights_of_their_tags(forge: ForgeLoras) -> None:
    (forge.folder / "broken.safetensors").write_bytes(b"")
    forge.write("B", 3.0)
    forge.networks.list_available_networks()
    forge.generate("nosuch", "A", "broken", "B", weights=("0.5", "0.25"))
    found = {lora.label: (lora.net.te_multiplier, lora.net.unet_multiplier) for lora in active_loras()}
    assert {label: found[label] for label in ("A", "B")} == {"A": (0.5, 0.25), "B": (0.5, 0.25)}
    forge.generate("A", weights=("0.75",))
    assert [lora.net.unet_multiplier for lora in active_loras()] == [0.75]


def test_an_empty_lora_never_reaches_the_webuis_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forge-Neo divides by the number of a LoRA's keys, and its reader has no cache to clear."""
    made = ForgeLoras(monkeypatch, tree_of("forge"), tmp_path)
    original = made.networks.load_lora_for_models

    def as_in_neo(model: Any, clip: Any, lora: Any, *rest: Any, **options: Any) -> Any:
        assert 1 / len(lora)
        return original(model, clip, lora, *rest, **options)

    made.networks.load_lora_for_models = as_in_neo
    made.networks.load_lora_state_dict = functools.partial(made.networks.load_torch_file, safe_load=True)
    hooks, names = Hooks(), ActiveNames(lambda _run: (None, None), lambda: None, read_settings)
    add_takeover_hooks(hooks, names)
    add_activation_hooks(hooks, names, NegativeLoras())
    made.write("A", 2.0)
    save_file({"bundle_emb.n.emb_params": torch.ones(1, 8)}, tmp_path / "words.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 9)
    made.networks.list_available_networks()
    assert made.generate("A", "words") == (2.0, [])
    assert made.generate("A", "broken")[0] == 2.0
    made.write("A", 5.0)
    assert made.generate("A", "words") == (5.0, [])
    hooks.remove()
