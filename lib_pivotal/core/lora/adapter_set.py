"""Trainable adapters of one part of the model, and how they are attached to its borrowed layers."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lib_pivotal.core.activations.frozen_products import frozen_linear
from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.lora.adapter import Adapter, JoinsLayer, Parameters, ScalesInput
from lib_pivotal.core.lora.kinds import adapter_for, adapter_in_file
from lib_pivotal.core.negative_rows import negative_rows
from lib_pivotal.core.optim.flat import FlatParameters, Leaves
from lib_pivotal.core.ports import LoraTarget

__all__ = ["NEGATIVE", "AdaptedLayer", "AdapterSet", "attach", "disabled", "enabled", "fixed"]

NEGATIVE = "negative"
"""Part of the adapters of the UNet that act on negative rows only."""


@dataclass(frozen=True)
class AdaptedLayer:
    """A layer with its adapter and the adapter's trained tensors."""

    target: LoraTarget
    adapter: Adapter
    parameters: Parameters


class AdapterSet:
    """Adapters of the UNet or of one text encoder; their parameters are fp32 views of one tensor.

    Args:
        part: ``"unet"``, the encoder's name, or :data:`NEGATIVE`.
        chosen: layers and their adapters.
        seed: seed of the initial values.
        device: device of the parameters.

    Attributes:
        layers: adapted layers, in the order of ``chosen``.
        flat: all parameters as one flat tensor, apart from those without weight decay.
        flats: this and, if there are any, the parameters without weight decay.
        enabled: whether attached adapters are active.
        only_negative: whether they act on negative rows only, see ``negative_rows.py``; of the UNet only.
    """

    def __init__(
        self, part: str, chosen: Sequence[tuple[LoraTarget, Adapter]], seed: int, device: torch.device
    ) -> None:
        self.part = part
        self.enabled = True
        self.only_negative = False
        self.flats = [_flat(part, chosen, device, has_decay=True)]
        self.flat = self.flats[0]
        if any(adapter.without_decay for _, adapter in chosen):
            self.flats.append(_flat(f"{part} magnitudes", chosen, device, has_decay=False))
        counts = {True: itertools.count(), False: itertools.count()}
        self.layers = []
        for target, adapter in chosen:
            places = {}
            for name in adapter.shapes:
                has_decay = name not in adapter.without_decay
                places[name] = (self.flats[0 if has_decay else -1], next(counts[has_decay]))
            self.layers.append(AdaptedLayer(target, adapter, Leaves(places)))
        generator = torch.Generator().manual_seed(seed)
        # Sorted by key, so that hosts that list the layers in different orders start from the same values.
        for layer in sorted(self.layers, key=lambda layer: layer.target.key):
            layer.adapter.initialize(layer.parameters, layer.target.module, generator)

    @classmethod
    def with_ranks(
        cls,
        part: str,
        chosen: Sequence[tuple[LoraTarget, int]],
        alpha_ratio: float,
        seed: int,
        device: torch.device,
        *,
        kind: str = "lora",
        lokr_factor: int = 0,
    ) -> AdapterSet:
        """New adapters of the given ranks, see ``targets.choose_targets``.

        Args:
            part: see the class.
            chosen: layers and ranks.
            alpha_ratio: alpha divided by rank, the same for every layer.
            seed: see the class.
            device: see the class.
            kind: see ``kinds.adapter_for``.
            lokr_factor: see ``kinds.adapter_for``.
        """
        adapters = [
            (target, adapter_for(_shape(target), rank, alpha_ratio * rank, kind=kind, lokr_factor=lokr_factor))
            for target, rank in chosen
        ]
        return cls(part, adapters, seed, device)

    @classmethod
    def from_state(
        cls, part: str, targets: Sequence[LoraTarget], state: Mapping[str, torch.Tensor], device: torch.device
    ) -> AdapterSet:
        """Load the adapters of one part from the tensors of a file.

        Args:
            part: see the class.
            targets: all layers of the model; those without a key in ``state`` get no adapter.
            state: kohya keys → tensors.
            device: see the class.

        Raises:
            BundleError: a tensor does not fit its layer.
        """
        stored: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in state.items():
            layer_key, _, suffix = key.partition(".")
            stored.setdefault(layer_key, {})[suffix] = value
        found = [
            (target, adapter_in_file(_shape(target), stored[target.key]))
            for target in targets
            if target.part == part and target.key in stored
        ]
        adapters = cls(part, [(target, adapter) for target, adapter in found if adapter is not None], 0, device)
        for layer in adapters.layers:
            try:
                layer.adapter.load(layer.parameters, stored[layer.target.key])
            except ValueError as error:
                raise BundleError(
                    f"The LoRA of {layer.target.key} does not fit the model.",
                    hint="It was made for another model family.",
                ) from error
        return adapters

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor]) -> list[str]:
        """Load the values of a file into adapters of the same ranks, and keep their effect even if alpha differs.

        Args:
            state: kohya keys → tensors; those of other layers are left out.

        Returns:
            The keys that were used.

        Raises:
            BundleError: a layer is missing or has another rank.
        """
        used = []
        for layer in self.layers:
            key = layer.target.key
            stored = {name: state[f"{key}.{name}"] for name in layer.adapter.tensors(layer.parameters)
                      if f"{key}.{name}" in state}  # fmt: skip
            try:
                layer.adapter.load(layer.parameters, stored)
            except ValueError as error:
                text = f"The LoRA of {key} does not fit: {error}."
                hint = "Use the same kind of LoRA and the same ranks as the run that wrote it."
                raise BundleError(text, hint=hint) from error
            used += [f"{key}.{name}" for name in stored]
        return used

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Kohya keys → tensors on the CPU, fp32, copies."""
        return {
            f"{layer.target.key}.{suffix}": value
            for layer in self.layers
            for suffix, value in layer.adapter.tensors(layer.parameters).items()
        }

    def network_args(self) -> dict[str, Any]:
        """Entries of ``ss_network_args`` for these adapters."""
        return {name: value for layer in self.layers for name, value in layer.adapter.network_args().items()}


@contextlib.contextmanager
def attach(adapters: Sequence[AdapterSet]) -> Iterator[None]:
    """Attach adapters to their layers within the context.

    Forward hooks and forward functions of single modules leave parameters and state-dict keys of the borrowed model
    unchanged.
    """
    with contextlib.ExitStack() as stack:
        for part in adapters:
            for layer in part.layers:
                _attach_layer(part, layer, stack)
        yield


def _attach_layer(part: AdapterSet, layer: AdaptedLayer, stack: contextlib.ExitStack) -> None:
    module, adapter = layer.target.module, layer.adapter
    # Torch's own transformer layers, which text encoders may consist of, pass by the forward functions of their parts
    # unless these have hooks. A forward function that somebody else has put there is left alone.
    is_in_unet = part.part == "unet" and not part.only_negative
    if is_in_unet and isinstance(adapter, JoinsLayer) and "forward" not in vars(module):
        forward = module.forward = _joined(part, layer, adapter)
        stack.callback(_detach, module, forward)
        return
    stack.callback(module.register_forward_hook(_hook(part, layer)).remove)
    if isinstance(adapter, ScalesInput):
        hook = _input_hook(part, adapter, layer.parameters)
        stack.callback(module.register_forward_pre_hook(hook).remove)


@contextlib.contextmanager
def fixed(adapters: Sequence[AdapterSet]) -> Iterator[None]:
    """Within the context the parameters do not change, see ``FlatParameters.fixed``."""
    with contextlib.ExitStack() as stack:
        for part in adapters:
            for flat in part.flats if part.enabled else ():
                stack.enter_context(flat.fixed())
        yield


def disabled(adapters: Sequence[AdapterSet]) -> contextlib.AbstractContextManager[None]:
    """Disable adapters within the context."""
    return _switched(adapters, is_on=False)


def enabled(adapters: Sequence[AdapterSet]) -> contextlib.AbstractContextManager[None]:
    """Enable adapters within the context."""
    return _switched(adapters, is_on=True)


@contextlib.contextmanager
def _switched(adapters: Sequence[AdapterSet], *, is_on: bool) -> Iterator[None]:
    before = [part.enabled for part in adapters]
    try:
        for part in adapters:
            part.enabled = is_on
        yield
    finally:
        for part, was_enabled in zip(adapters, before, strict=True):
            part.enabled = was_enabled


def _detach(module: Any, forward: Any) -> None:
    if vars(module).get("forward") is forward:
        del module.forward


def _joined(part: AdapterSet, layer: AdaptedLayer, adapter: JoinsLayer) -> Any:
    """A forward function of the layer and its adapter."""
    module, parameters, hook = layer.target.module, layer.parameters, _hook(part, layer)

    def own(*arguments: Any, **options: Any) -> Any:
        # Hosts replace the forward function of the whole class for the time of a call.
        return type(module).forward(module, *arguments, **options)

    with_adapter = adapter.joined(module, own, parameters)

    def forward(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        is_plain = not arguments and not options and negative_rows() is None
        if is_plain and torch.is_grad_enabled():
            return with_adapter(x) if part.enabled else frozen_linear(module, own, x)
        output: torch.Tensor = own(x, *arguments, **options)
        changed: torch.Tensor | None = hook(module, (x,), output)
        return output if changed is None else changed

    return forward


def _hook(part: AdapterSet, layer: AdaptedLayer) -> Any:
    forward, parameters = layer.adapter.forward, layer.parameters

    def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
        if not part.enabled:
            return None
        start, stop = _own_rows(part, len(output))
        if stop - start == len(output):
            return forward(module, inputs[0], output, parameters)
        if stop == start:
            return None
        # torch.split, whose backward pass joins the gradients of the parts without filling them up with zeros.
        before, own, after = torch.split(output, [start, stop - start, len(output) - stop])
        return torch.cat([before, forward(module, inputs[0][start:stop], own, parameters), after])

    return hook


def _input_hook(part: AdapterSet, adapter: ScalesInput, parameters: Parameters) -> Any:
    def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if not part.enabled:
            return None
        x = inputs[0]
        start, stop = _own_rows(part, len(x))
        if stop - start == len(x):
            return (adapter.scaled_input(module, x, parameters), *inputs[1:])
        if stop == start:
            return None
        before, own, after = torch.split(x, [start, stop - start, len(x) - stop])
        return (torch.cat([before, adapter.scaled_input(module, own, parameters), after]), *inputs[1:])

    return hook


def _own_rows(part: AdapterSet, count: int) -> tuple[int, int]:
    """The first row of a batch that adapters act on, and the one after the last."""
    rows = negative_rows()
    if part.only_negative:
        return (0, 0) if rows is None else (rows.start, rows.stop)
    return (0, count) if rows is None or not rows.are_spared else (0, rows.start)


def _flat(
    name: str, chosen: Sequence[tuple[LoraTarget, Adapter]], device: torch.device, *, has_decay: bool
) -> FlatParameters:
    """The parameters with or without weight decay."""
    shapes = [
        shape
        for _, adapter in chosen
        for key, shape in adapter.shapes.items()
        if (key not in adapter.without_decay) == has_decay
    ]
    return FlatParameters(name, shapes, device)


def _shape(target: LoraTarget) -> tuple[int, ...]:
    weight: Any = target.module.weight
    return tuple(weight.shape)
