"""From a checkpoint file or a diffusers folder to the networks in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transformers
from diffusers.utils import logging as diffusers_logging

from lib_pivotal.core.errors import HostError
from lib_pivotal.host.diffusers.checkpoint_check import check_checkpoint
from lib_pivotal.host.diffusers.folder import networks_from_folder, tokenizer_of_folder
from lib_pivotal.host.diffusers.networks import Networks
from lib_pivotal.host.diffusers.single_file import networks_from_file, tokenizer_of_file

__all__ = ["load_networks", "load_tokenizer"]


def load_networks(path: Path) -> Networks:
    """Read an SD1, SD2 or SDXL model.

    Args:
        path: ``.safetensors`` with LDM keys (a ``.yaml`` of the same name next to it gives its shapes), or a folder in
            diffusers' layout.

    Raises:
        HostError: as :func:`lib_pivotal.host.diffusers.checkpoint_check.check_checkpoint` finds, or a part does not fit
            its configuration.
    """
    problems = check_checkpoint(path)
    if problems:
        raise HostError(problems[0].message, hint=problems[0].hint)
    with _quiet():
        networks = networks_from_folder(path) if path.is_dir() else networks_from_file(path)
    for part in (networks.unet, networks.vae, *(text.model for text in networks.texts)):
        part.eval().requires_grad_(False)
    return networks


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a model, without its weights.

    Raises:
        HostError: there is no such model, or its tokenizer cannot be found.
    """
    if not path.exists():
        raise HostError(f"There is no checkpoint {path}.", hint="Check the path in the setting checkpoint.")
    return tokenizer_of_folder(path) if path.is_dir() else tokenizer_of_file(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' remarks about dtypes and unused keys off the console."""
    kept = diffusers_logging.get_verbosity(), transformers.logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(kept[0])
        transformers.logging.set_verbosity(kept[1])
