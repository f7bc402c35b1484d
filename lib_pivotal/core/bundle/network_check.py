"""Checks the weights of a network; every tensor is read once, a few MiB at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from lib_pivotal.core.bundle.header import NUMBER_TYPES, Entry
from lib_pivotal.core.bundle.network_kind import Module, Network
from lib_pivotal.core.bundle.tensor_file import TensorFile, Unreadable
from lib_pivotal.core.errors import Problem, Severity
from lib_pivotal.core.printable import printable

__all__ = ["alpha_of", "check_network"]

_SHOWN = 3
_MAX_SCALE = 16.0
"""Maximum alpha / rank; a rank-stabilized LoRA of rank 128 has 11."""
_NOT_WEIGHTS = frozenset({"alpha", "on_input", "rescale", "scalar", "bias_indices", "bias_size"})
_DAMAGED = "Its training or conversion failed, or it is damaged; use another version of it."
_INCOMPLETE = ("has a tensor missing", "have tensors missing")
_UNFIT = ("has ranks that do not fit", "have ranks that do not fit")
_UNUSUAL = ("has an invalid dtype for weights", "have invalid dtypes for weights")
_BAD_ALPHA = ("has an unusable alpha", "have unusable alphas")
_LARGE_ALPHA = ("has an alpha far above its rank", "have alphas far above their ranks")
_NAN = ("has NaN or infinite weights", "have NaN or infinite weights")
_ZERO = ("is zero and changes nothing", "are zero and change nothing")
_UNCHECKED = ("cannot be checked here", "cannot be checked here")
_TUCKER = frozenset({"hada_t1", "hada_t2", "lokr_t1", "lokr_t2", "lora_mid.weight"})


@dataclass(frozen=True)
class _Values:
    """Properties of the values of a tensor."""

    is_finite: bool
    is_zero: bool


def check_network(file: TensorFile, network: Network) -> Iterator[Problem]:
    """Find problems of a network, each with the number of affected layers and the first ones.

    Args:
        file: the open file; its tensors are read.
        network: the layers in it.
    """
    entries = file.entries
    whole = [item for item in network.modules if item.is_whole]
    incomplete = [f"{item.name} ({_missing(item)})" for item in network.modules if not item.is_whole]
    yield from _found("error", _INCOMPLETE, incomplete, "The webui rejects such a file. Download it again.")
    yield from _found("error", _UNFIT, _misfits(whole, entries), _DAMAGED)
    yield from _found("error", _UNUSUAL, _unexpected_dtypes(file, whole), _DAMAGED)
    yield from _check_alphas(file, whole)
    yield from _check_values(file, whole)
    if network.modules and network.others:
        count = len(network.others)
        text = f"{_counted(count, 'key belongs', 'keys belong')} to an unknown kind of LoRA: {_shown(network.others)}."
        yield Problem("keys", "warning", text, "Programs that do not know them ignore them or reject the file.")


def _found(severity: Severity, verbs: tuple[str, str], names: Sequence[str], hint: str) -> Iterator[Problem]:
    """Yield a problem if there are affected layers.

    Args:
        severity: severity of the problem.
        verbs: continue "1 layer …" and "2 layers …".
        names: names of the layers, with what is wrong.
        hint: what to do.
    """
    if names:
        text = _counted(len(names), f"layer {verbs[0]}", f"layers {verbs[1]}")
        yield Problem("LoRA", severity, f"{text}: {_shown(names)}.", hint)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(printable(name, 120) for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _missing(module: Module) -> str:
    nearest = max(module.kind.complete, key=lambda needed: len(needed & module.keys.keys()) / len(needed))
    return ", ".join(sorted(nearest - module.keys.keys())) + " is missing"


def _misfits(modules: Iterable[Module], entries: Mapping[str, Entry]) -> list[str]:
    """Find layers whose two factors cannot be multiplied."""
    found = []
    for item in modules:
        shapes = {suffix: entries[key].shape for suffix, key in item.keys.items()}
        for down, up in zip(item.kind.down, item.kind.up, strict=True):
            if down in shapes and up in shapes and not shapes.keys() & _TUCKER:
                # The up tensor of a convolution has 1 × 1 kernels after the rank.
                inner, outer = shapes[down][:1], shapes[up][1:2]
                if inner != outer or not all(shapes[down]) or not all(shapes[up]):
                    found.append(f"{item.name} ({list(shapes[down])} and {list(shapes[up])})")
    return found


def _unexpected_dtypes(file: TensorFile, modules: Iterable[Module]) -> list[str]:
    found = []
    for item in modules:
        weights = [file.entries[key].dtype for suffix, key in item.keys.items() if suffix not in _NOT_WEIGHTS]
        odd = [dtype for dtype in weights if "float" not in NUMBER_TYPES.get(dtype, (0, ""))[1]]
        if odd:
            found.append(f"{item.name} ({printable(odd[0], 20)})")
    return found


def alpha_of(file: TensorFile, module: Module) -> float | None:
    """The stored alpha of a layer, or None if there is none or it cannot be read."""
    key = module.keys.get("alpha")
    if key is None or math.prod(file.entries[key].shape) != 1:
        return None
    try:
        return float(file.read(key))
    except (Unreadable, OSError, RuntimeError):
        # An unknown dtype may be due to an old torch, so it is not a problem of the file.
        return None


def _check_alphas(file: TensorFile, modules: Iterable[Module]) -> Iterator[Problem]:
    wrong, large = [], []
    for item in modules:
        alpha, rank = alpha_of(file, item), item.rank(file.entries)
        shape = file.entries[item.keys["alpha"]].shape if "alpha" in item.keys else ()
        if math.prod(shape) != 1:
            wrong.append(f"{item.name} ({list(shape)} numbers)")
        # Without a rank, as in a LoKr of two full matrices, programs do not use alpha.
        if alpha is None or rank is None:
            continue
        if not math.isfinite(alpha) or alpha <= 0:
            wrong.append(f"{item.name} (alpha {alpha:g})")
        elif rank and alpha / rank > _MAX_SCALE:
            large.append(f"{item.name} (alpha {alpha:g}, rank {rank})")
    hint = "With such an alpha the layer does nothing or produces black images."
    yield from _found("error", _BAD_ALPHA, wrong, hint)
    yield from _found("warning", _LARGE_ALPHA, large, "Use it with a small weight.")


def _check_values(file: TensorFile, modules: Sequence[Module]) -> Iterator[Problem]:
    broken, zero, unread = [], [], []
    for item in modules:
        looked = {}
        for suffix, key in item.keys.items():
            if suffix in _NOT_WEIGHTS:
                continue
            try:
                looked[suffix] = _examine(file, key)
            except (Unreadable, RuntimeError) as error:
                unread.append(f"{key} ({printable(error, 80)})")
        if not all(values.is_finite for values in looked.values()):
            broken.append(item.name)
        # With magnitudes or a bias, a layer changes something even if its product is zero.
        is_product = item.kind.is_product and looked.keys() <= set().union(*item.kind.complete)
        are_zero = [values.is_zero for values in looked.values()]
        if are_zero and (any(are_zero) if is_product else all(are_zero)):
            zero.append(item.name)
    yield from _found("error", _NAN, broken, _DAMAGED)
    yield from _found("warning", _UNCHECKED, unread, "A newer version of torch may be able to read them.")
    if zero and len(zero) == len(modules):
        yield Problem("LoRA", "error", "All of its weights are zero: it changes nothing.", "It was not trained.")
    else:
        yield from _found("warning", _ZERO, zero, "They were not trained.")


def _examine(file: TensorFile, key: str) -> _Values:
    is_finite, is_zero = True, True
    for block in file.blocks(key):
        # torch cannot compare 8-bit floats.
        numbers = block.float() if block.element_size() == 1 else block
        is_finite = is_finite and bool(torch.isfinite(numbers).all())
        is_zero = is_zero and not bool(numbers.ne(0).any())
    return _Values(is_finite, is_zero)
