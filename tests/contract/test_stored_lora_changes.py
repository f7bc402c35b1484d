"""Every kind of LoRA changes a layer as the webuis' own loaders did when their results were stored.

For machines without a webui, where ``test_lora_loaders`` cannot run. Where there are trees of A1111 1.10.1 and Forge,
``python -m tests.contract.test_stored_lora_changes`` stores the results again.
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
HOSTS = ("a1111", "forge")
_FILE = Path(__file__).parent / "lora_changes.safetensors"
_KINDS = (*KINDS, "dora")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("place", LAYERS)
@pytest.mark.parametrize("kind", _KINDS)
def test_a_layer_changes_as_in_the_webui(kind: str, place: str, host: str) -> None:
    stored, own = load_file(_FILE), f"{kind}.{place}."
    layer = LAYERS[place]().requires_grad_(False)
    layer.weight.copy_(stored[f"{own}weight"])
    file = {f"k.{key.partition('file.')[2]}": value for key, value in stored.items() if key.startswith(f"{own}file.")}
    adapters = AdapterSet.from_state("unet", [LoraTarget("k", "unet", "attention", layer)], file, torch.device("cpu"))
    theirs = stored[own + host]
    assert theirs.norm() > 0.1
    assert (change_in_training(adapters, layer) - theirs).norm() <= 1e-5 * theirs.norm()


def _store() -> None:
    """Write what the loaders of A1111 1.10.1 and Forge make of each kind."""
    stored: dict[str, torch.Tensor] = {}
    forge = find_tree("forge")
    if forge is None:
        raise SystemExit("There is no tree of Forge.")
    for host, tree, make in (("a1111", webui_tree("1.10.1"), a1111_loader), ("forge", forge, forge_loader)):
        with pytest.MonkeyPatch.context() as patch:
            change = make(tree, patch)
            for seed, (kind, place) in enumerate((kind, place) for kind in _KINDS for place in LAYERS):
                torch.manual_seed(seed)
                layer, own = LAYERS[place](), f"{kind}.{place}."
                _, file = trained(kind, layer)
                stored[f"{own}weight"] = layer.weight.detach().clone()
                stored |= {f"{own}file.{name}": value.contiguous() for name, value in file.items()}
                stored[own + host] = change(layer, file).detach().contiguous()
    save_file(stored, _FILE)


if __name__ == "__main__":
    _store()
