"""Parts of a model are moved to the device for use and off it again; the digest of a VAE depends on its weights only."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.data.weights_digest import weights_digest
from lib_pivotal.host.offload import Offloading, move_own_tensors

DEVICE = torch.device("meta")


class Network(torch.nn.Linear):
    """Remembers where it was moved."""

    def __init__(self):
        super().__init__(2, 2)
        self.moves = []

    def to(self, device):
        self.moves.append(str(device))
        return self


@pytest.fixture
def networks():
    return {"unet": [Network()], "text_encoders": [Network(), Network()], "vae": [Network()]}


@pytest.mark.parametrize("part", ["unet", "text_encoders", "vae"])
def test_a_part_is_moved_only_once_it_is_offloaded(networks, part):
    offloading = Offloading(networks, DEVICE)
    with offloading.on_device(part):
        pass
    assert not offloading.is_offloaded(part)
    assert all(network.moves == [] for found in networks.values() for network in found)
    offloading.offload(part)
    with offloading.on_device(part):
        assert all(network.moves == ["cpu", "meta"] for network in networks[part])
    assert all(network.moves == ["cpu", "meta", "cpu"] for network in networks[part])
    assert offloading.is_offloaded(part)
    others = [network for name, found in networks.items() if name != part for network in found]
    assert all(network.moves == [] for network in others)


def test_the_outermost_context_decides(networks):
    offloading = Offloading(networks, DEVICE)
    offloading.offload("vae")
    with offloading.on_device("vae"):
        with offloading.on_device("vae"):
            pass
        assert networks["vae"][0].moves == ["cpu", "meta"], "an inner use took it away from the outer one"
    assert networks["vae"][0].moves == ["cpu", "meta", "cpu"]


def test_a_part_that_is_offloaded_during_a_use_leaves_after_it(networks):
    offloading = Offloading(networks, DEVICE)
    with offloading.on_device("vae"):
        offloading.offload("vae")
        assert networks["vae"][0].moves == []
    assert networks["vae"][0].moves == ["cpu"]


def test_an_error_during_a_use_takes_it_off_the_device_too(networks):
    offloading = Offloading(networks, DEVICE)
    offloading.offload("vae")
    with pytest.raises(ZeroDivisionError), offloading.on_device("vae"):
        raise ZeroDivisionError
    assert networks["vae"][0].moves == ["cpu", "meta", "cpu"]


def test_the_digest_of_stored_latents_stays_the_same_in_later_versions():
    network = torch.nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, -2.0]]))
        network.bias.fill_(0.5)
    digest = weights_digest(network, 0.18215)
    assert digest == "bf8c746f9cfa0f05aa6441b32d650a7bac75b9c5c7bcc01f6e55db09d15cac11"
    assert weights_digest(network, 0.13025) != digest
    with torch.no_grad():
        network.bias.fill_(0.25)
    assert weights_digest(network, 0.18215) != digest


def test_the_tensors_of_a_module_alone_are_moved():
    outer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    outer.register_buffer("schedule", torch.ones(3))
    move_own_tensors(outer, DEVICE)
    assert outer.schedule.device == DEVICE
    assert outer[0].weight.device.type == "cpu"
