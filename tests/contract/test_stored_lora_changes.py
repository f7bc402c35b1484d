"""Every kind of LoRA changes a layer as the webuis' own loaders did when their results were stored.

For machines without a webui, where ``test_lora_loaders`` cannot run. Where there are trees of A1111 1.6.1, 1.9.0 and
1.10.1 and of Forge, ``python -m tests.contract.test_stored_lora_changes`` stores the results again.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.ports import LoraTarget
from tests.contract.host_tree import find_tree
from tests.contract.test_lora_loaders import KINDS, a1111_loader, change_in_training, forge_loader, trained, webui_tree

LAYERS = {
    "linear": lambda: torch.nn.Linear(12, 16, bias=False),
    "conv": lambda: torch.nn.Conv2d(12, 16, 3, padding=1, bias=False),
    "1x1": lambda: torch.nn.Conv2d(16, 12, 1, bias=False),
}
FACTORS = (0, 8, 16)
_ADAPTERS = [
    *((kind, place) for kind in (*KINDS, "dora") for place in LAYERS),
    # 144 outputs are 12 · 12, 8 · 18 and 9 · 16.
    *((f"lokr {factor}", "wide") for factor in FACTORS),
]
_LAYERS = {**LAYERS, "wide": lambda: torch.nn.Linear(12, 144, bias=False)}
HOSTS = {
    "a1111": _ADAPTERS,
    "a1111 1.9.0": [adapter for adapter in _ADAPTERS if adapter[0] == "dora"],
    "a1111 1.6.1": [adapter for adapter in _ADAPTERS if adapter[0] in KINDS],
    "forge": _ADAPTERS,
}
"""Host → kinds and layers whose change is stored; versions before 1.9 have no DoRA."""
_FILE = Path(__file__).parent / "lora_changes.safetensors"


@pytest.mark.parametrize(
    ("host", "kind", "place"), [(host, *adapter) for host, adapters in HOSTS.items() for adapter in adapters]
)
def test_a_layer_changes_as_in_the_webui(host: str, kind: str, place: str) -> None:
    stored, own = load_file(_FILE), f"{kind}.{place}."
    layer = _LAYERS[place]().requires_grad_(False)
    layer.weight.copy_(stored[f"{own}weight"])
    file = {f"k.{key.partition('file.')[2]}": value for key, value in stored.items() if key.startswith(f"{own}file.")}
    adapters = AdapterSet.from_state("unet", [LoraTarget("k", "unet", "attention", layer)], file, torch.device("cpu"))
    theirs = stored[own + host]
    assert theirs.norm() > 0.1
    assert (change_in_training(adapters, layer) - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize(("factor", "small"), zip(FACTORS, (12, 8, 9), strict=True))
def test_the_stored_lokrs_have_the_shapes_of_their_factors(factor: int, small: int) -> None:
    assert load_file(_FILE)[f"lokr {factor}.wide.file.lokr_w1"].shape == (small, 3)


def _store() -> None:
    """Write what the loaders make of each kind."""
    stored: dict[str, torch.Tensor] = {}
    for host, adapters in HOSTS.items():
        tree = find_tree("forge") if host == "forge" else webui_tree(host.partition(" ")[2] or "1.10.1")
        if tree is None:
            raise SystemExit("There is no tree of Forge.")
        with pytest.MonkeyPatch.context() as patch:
            change = (forge_loader if host == "forge" else a1111_loader)(tree, patch)
            for kind, place in adapters:
                torch.manual_seed(_ADAPTERS.index((kind, place)))
                layer, own = _LAYERS[place](), f"{kind}.{place}."
                name, _, factor = kind.partition(" ")
                _, file = trained(name, layer, int(factor or 4))
                stored[f"{own}weight"] = layer.weight.detach().clone()
                stored |= {f"{own}file.{name}": value.contiguous() for name, value in file.items()}
                stored[own + host] = change(layer, file).detach().contiguous()
    save_file(stored, _FILE)


if __name__ == "__main__":
    _store()
