"""The settings of bundle prompts on the webui's Settings page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib_pivotal.host.webui.folders import SETTINGS_SECTION

__all__ = ["NameSettings", "add_settings", "read_settings"]


@dataclass(frozen=True)
class NameSettings:
    """What the user has chosen.

    Attributes:
        is_on: names of bundled embeddings work.
        replaces_built_in: the webui's own handling of bundled embeddings is not used (1.7 and later have one).
        bundle_wins: a bundled embedding wins over an installed one of the same name.
        with_paired: embedding files next to a LoRA belong to it.
    """

    is_on: bool = True
    replaces_built_in: bool = True
    bundle_wins: bool = False
    with_paired: bool = False


_OPTIONS: tuple[tuple[str, str, str], ...] = (
    ("is_on", "pivotal_loader", "Bundled embeddings: embeddings inside LoRA files work in prompts"),
    (
        "replaces_built_in",
        "pivotal_loader_takes_over",
        "Bundled embeddings: replace the webui's own handling of them (off: add only what the webui cannot do)",
    ),
    (
        "bundle_wins",
        "pivotal_loader_bundle_wins",
        "Bundled embeddings: win over installed embeddings of the same name",
    ),
    (
        "with_paired",
        "pivotal_loader_pairs",
        "Bundled embeddings: include files next to a LoRA (NAME_emb.safetensors, NAME_embeddings/)",
    ),
)


def read_settings() -> NameSettings:
    """The settings as they are now.

    Host: modules/options.py, ``Options.data``, A1111 1.6.1-1.10.1, Forge: settings that were never changed are missing.
    """
    from modules import shared

    data = shared.opts.data
    defaults = NameSettings()
    return NameSettings(**{field: bool(data.get(name, getattr(defaults, field))) for field, name, _ in _OPTIONS})


def add_settings() -> None:
    """Put the settings on the Settings page.

    Host: modules/options.py, ``OptionInfo``, A1111 1.6.1-1.10.1, Forge: a checkbox, since the default is a boolean.
    """
    from modules import shared

    defaults: Any = NameSettings()
    for field, name, label in _OPTIONS:
        shared.opts.add_option(name, shared.OptionInfo(getattr(defaults, field), label, section=SETTINGS_SECTION))
