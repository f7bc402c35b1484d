"""Weights that a webui has loaded in inference mode become usable by autograd without being copied."""

from __future__ import annotations

import torch

from lib_pivotal.host.webui.plain_tensors import use_plain_tensors


def _loaded() -> torch.nn.Module:
    """A network as Forge loads it, with one weight under two names."""
    with torch.inference_mode():
        network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
        network[2].weight = network[0].weight
    return network


def test_autograd_works_on_the_same_memory() -> None:
    network = _loaded()
    before = {name: (value.data_ptr(), value.clone()) for name, value in network.state_dict().items()}
    use_plain_tensors(network)
    tensors = [*network.parameters(), *network.buffers()]
    assert not any(tensor.is_inference() or tensor.requires_grad for tensor in tensors)
    for name, value in network.state_dict().items():
        address, wanted = before[name]
        assert value.data_ptr() == address
        assert torch.equal(value, wanted)
    x = torch.randn(2, 3, requires_grad=True)
    network.eval()(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


def test_a_shared_weight_stays_shared_also_between_networks() -> None:
    network, other = _loaded(), torch.nn.Linear(3, 3)
    other.weight = network[0].weight
    use_plain_tensors(network, other)
    assert network[2].weight is network[0].weight is other.weight


def test_ordinary_weights_are_only_frozen() -> None:
    network = torch.nn.Linear(2, 2)
    weight = network.weight
    use_plain_tensors(network)
    assert network.weight is weight
    assert not weight.requires_grad


def test_weights_that_were_moved_outside_of_inference_mode_are_made_usable_too() -> None:
    """As Forge moves them to the GPU: such a tensor does not call itself one of inference mode any more."""
    network = _loaded().double()
    assert not network[0].weight.is_inference()
    use_plain_tensors(network)
    x = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    network.eval()(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())
    with torch.no_grad():
        assert network[0].weight[::2].shape == (2, 3)
    assert network[2].weight is network[0].weight


def test_weights_that_are_moved_in_inference_mode_later_are_made_usable_again() -> None:
    """As by a preview: such a tensor has a count of its changes, and is one of inference mode all the same."""
    network = torch.nn.Linear(3, 3)
    with torch.inference_mode():
        network.weight.data = network.weight.double()
        network.bias.data = network.bias.double()
    assert network.weight.is_inference()
    use_plain_tensors(network)
    x = torch.randn(2, 3, dtype=torch.double, requires_grad=True)
    network(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())
