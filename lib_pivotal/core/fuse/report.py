"""How much of what each bundle does is left after fusing, measured on the recorded inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib_pivotal.core.ports import LoraTarget

__all__ = ["BundleReport", "Energies", "group_of"]


def group_of(target: LoraTarget) -> str:
    """The kind of layer in a report: ``text encoder``, ``attention``, ``feed-forward`` or ``convolutions``."""
    if target.part != "unet":
        return "text encoder"
    return {"attention": "attention", "feed_forward": "feed-forward"}.get(target.role, "convolutions")


@dataclass
class Energies:
    """Sums over the layers of mean squared changes of their outputs; for one bundle.

    Attributes:
        own: by its own LoRA.
        fused: difference between the fused LoRA and its own.
        plain: difference between the plain sum of all LoRAs and its own.
    """

    own: float = 0.0
    fused: float = 0.0
    plain: float = 0.0

    def add(self, own: float, fused: float, plain: float) -> None:
        """Add a layer."""
        self.own += own
        self.fused += fused
        self.plain += plain

    def relative(self) -> tuple[float, float]:
        """Relative errors of the fused LoRA and of the plain sum.

        For a bundle without a LoRA, which wants nothing to change, they are relative to what the plain sum changes.
        """
        whole = self.own or self.plain
        return ((self.fused / whole) ** 0.5, (self.plain / whole) ** 0.5) if whole else (0.0, 0.0)


@dataclass(frozen=True)
class BundleReport:
    """What is left of a bundle; errors are relative to what its own LoRA changes, 0 is perfect.

    Attributes:
        file: its file name without suffix.
        names: its names.
        energies: kind of layer, see :func:`group_of` → sums over the layers.
    """

    file: str
    names: Sequence[str]
    energies: dict[str, Energies] = field(default_factory=dict)

    def add(self, target: LoraTarget, own: float, fused: float, plain: float) -> None:
        """Add a layer, see :class:`Energies`."""
        self.energies.setdefault(group_of(target), Energies()).add(own, fused, plain)

    def errors(self) -> Mapping[str, tuple[float, float]]:
        """Kind of layer, and ``all`` → relative errors of the fused LoRA and of the plain sum."""
        whole = Energies()
        for energies in self.energies.values():
            whole.add(energies.own, energies.fused, energies.plain)
        return {"all": whole.relative(), **{kind: energies.relative() for kind, energies in self.energies.items()}}

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        errors = {kind: {"fused": fused, "plain_sum": plain} for kind, (fused, plain) in self.errors().items()}
        return {"bundle": self.file, "names": list(self.names), "errors": errors}
