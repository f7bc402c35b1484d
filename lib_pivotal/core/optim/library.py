"""Optimizers of installed packages for the LoRA; nothing is installed or imported unless the settings name it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

__all__ = ["ADAMW", "Library", "find_library", "parse_arguments"]

ADAMW = "adamw"
"""The optimizer of PyTorch that everything is trained with unless a library is chosen."""

_FIELD, _ARGUMENTS = "optimizer", "optimizer_args"
_KNOWN = {
    ADAMW: ("torch.optim:AdamW", "torch"),
    "adamw8bit": ("bitsandbytes.optim:AdamW8bit", "bitsandbytes"),
    "prodigy-plus": ("prodigyplus:ProdigyPlusScheduleFree", "prodigy-plus-schedule-free"),
    "lion": ("lion_pytorch:Lion", "lion-pytorch"),
}
"""Name → (``module:Class``, name of the package for pip)."""
_NEEDS_CUDA = ("bitsandbytes",)
_FINDS_LR = re.compile("prodigy|dadapt", re.IGNORECASE)
_OWN_SETTINGS = {"lr": "UNet learning rate", "params": "LoRA layers", "weight_decay": "Weight decay"}
"""Arguments that other settings decide → labels of these settings."""
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Library:
    """An optimizer class and its arguments.

    Attributes:
        name: as in the settings.
        factory: the class.
        arguments: keyword arguments other than the learning rate and the weight decay.
    """

    name: str
    factory: type[torch.optim.Optimizer]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Module and class with a dot between them, as in kohya's metadata."""
        return f"{self.factory.__module__}.{self.factory.__qualname__}"

    @property
    def is_schedule_free(self) -> bool:
        """Whether it replaces a learning-rate schedule by an average of the weights, which is what is to be saved.

        Source: Defazio et al. 2024, https://arxiv.org/abs/2405.15682
        """
        has_modes = callable(getattr(self.factory, "train", None)) and callable(getattr(self.factory, "eval", None))
        return has_modes and bool(self.arguments.get("use_schedulefree", True))

    @property
    def finds_lr(self) -> bool:
        """Whether it estimates the learning rate and only multiplies it by the one that it is given."""
        return bool(_FINDS_LR.search(self.factory.__name__))

    @property
    def needs_cuda(self) -> bool:
        """Whether it only runs on a GPU of NVIDIA."""
        return self.factory.__module__.startswith(_NEEDS_CUDA)

    def build(self, groups: Iterable[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Create the optimizer.

        Args:
            groups: parameter groups with ``params``, ``lr`` and ``weight_decay``.
        """
        entries = [dict(group) for group in groups]
        # Some check this argument even though every group has its own.
        return self.factory(entries, **{"lr": entries[0]["lr"], **self.arguments})


def find_library(name: str, arguments: str) -> Library | None:
    """The optimizer that the settings name; None for AdamW without arguments, which needs no library.

    Args:
        name: the setting ``optimizer``: one of ours, or ``module:Class``.
        arguments: the setting ``optimizer_args``, see :func:`parse_arguments`.

    Raises:
        ConfigError: it is not installed or not an optimizer, or the arguments cannot be read.
    """
    values = parse_arguments(arguments)
    if name == ADAMW and not values:
        return None
    path, package = _KNOWN.get(name, (name, name.partition(":")[0].partition(".")[0]))
    if not _PATH.fullmatch(path):
        hint = f"Use one of {', '.join(_KNOWN)}, or module:Class of an installed package."
        raise _refusal(_FIELD, f"{_quoted(name)} is not a known optimizer.", hint)
    module_name, _, class_name = path.partition(":")
    factory = getattr(_import(module_name, package), class_name, None)
    if not isinstance(factory, type) or not issubclass(factory, torch.optim.Optimizer):
        text = f"{module_name} has no optimizer {class_name}."
        raise _refusal(_FIELD, text, f"Correct the name, or update the package {package}.")
    return Library(name, factory, values)


def _import(module_name: str, package: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        # The module itself may be there and lack something else.
        is_missing = isinstance(error, ModuleNotFoundError) and module_name.partition(".")[0] == error.name
        text = f"The package {package} is not installed." if is_missing else f"{package} cannot be imported ({error})."
        hint = f"Install it in the environment of the webui: pip install {package}. Or use {ADAMW}."
        raise _refusal(_FIELD, text, hint) from error
    except Exception as error:
        # It is the code of others, which may fail in any way.
        text = f"{package} cannot be imported ({type(error).__name__}: {error})."
        raise _refusal(_FIELD, text, f"Repair or remove the package, or use {ADAMW}.") from error


def parse_arguments(text: str) -> dict[str, Any]:
    """Arguments of the form ``name=value``, separated by spaces; values are Python literals without spaces.

    Args:
        text: such as ``betas=0.9,0.99 d_coef=0.8 use_speed=True``.

    Raises:
        ConfigError: one cannot be read, or another setting decides it.
    """
    values: dict[str, Any] = {}
    for word in text.split():
        name, separator, value = word.partition("=")
        if not separator or not name.isidentifier():
            raise _refusal(_ARGUMENTS, f"{_quoted(word)} is not of the form name=value.", "Put no spaces around the =.")
        if name in _OWN_SETTINGS:
            own = _OWN_SETTINGS[name]
            raise _refusal(_ARGUMENTS, f"{name} is not set here.", f'Remove it and set "{own}" instead.')
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            hint = "Use a number, True, False, None, a list such as 0.9,0.99, or a text in quotes."
            raise _refusal(_ARGUMENTS, f"The value {_quoted(value)} of {name} cannot be read.", hint) from error
    return values


def _refusal(name: str, message: str, hint: str) -> ConfigError:
    return ConfigError([Problem(name, "error", message, hint)])


def _quoted(text: str) -> str:
    return printable(repr(text), 80)
