"""The loader's settings in the webui."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["LoaderSettings", "add_settings", "read_settings"]

_SECTION = ("pivotal", "Pivotal Tuning")


@dataclass(frozen=True)
class LoaderSettings:
    """What the user has chosen.

    Attributes:
        is_on: names of bundled embeddings work.
        takes_over: the webui's own handling of bundles stands back (1.7 and later have one).
        bundle_wins: a bundled embedding hides an installed one of its name.
        with_paired: embedding files beside a LoRA belong to it.
    """

    is_on: bool = True
    takes_over: bool = True
    bundle_wins: bool = False
    with_paired: bool = False


_OPTIONS: tuple[tuple[str, str, str], ...] = (
    ("is_on", "pivotal_loader", "Embeddings inside LoRA files work as prompt words"),
    ("takes_over", "pivotal_loader_takes_over", "… in place of the webui's own handling (off: only what it cannot do)"),
    ("bundle_wins", "pivotal_loader_bundle_wins", "… and win over installed embeddings of the same name"),
    ("with_paired", "pivotal_loader_pairs", "… and so do files beside a LoRA (NAME_emb.safetensors, NAME_embeddings/)"),
)  # fmt: skip


def read_settings() -> LoaderSettings:
    """The settings as they are now.

    Host: modules/options.py, ``Options.data``, A1111 1.6.1-1.10.1, Forge: unset ones are missing from it.
    """
    from modules import shared

    data = shared.opts.data
    defaults = LoaderSettings()
    return LoaderSettings(**{field: bool(data.get(name, getattr(defaults, field))) for field, name, _ in _OPTIONS})


def add_settings() -> None:
    """Put the settings on the webui's page.

    Host: modules/options.py, ``OptionInfo``, A1111 1.6.1-1.10.1, Forge: the type of the default makes the box.
    """
    from modules import shared

    defaults: Any = LoaderSettings()
    for field, name, label in _OPTIONS:
        shared.opts.add_option(name, shared.OptionInfo(getattr(defaults, field), label, section=_SECTION))
