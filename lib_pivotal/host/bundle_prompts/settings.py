"""The settings of bundle prompts on the webui's Settings page."""

from __future__ import annotations

from dataclasses import dataclass

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

    is_on: bool
    replaces_built_in: bool
    bundle_wins: bool
    with_paired: bool


_OPTIONS: tuple[tuple[str, str, str, bool], ...] = (
    ("is_on", "pivotal_loader", "Bundled embeddings: embeddings inside LoRA files work in prompts", True),
    (
        "replaces_built_in",
        "pivotal_loader_takes_over",
        "Bundled embeddings: replace the webui's own handling of them (off: add only what the webui cannot do)",
        True,
    ),
    (
        "bundle_wins",
        "pivotal_loader_bundle_wins",
        "Bundled embeddings: win over installed embeddings of the same name",
        False,
    ),
    (
        "with_paired",
        "pivotal_loader_pairs",
        "Bundled embeddings: include files next to a LoRA (NAME_emb.safetensors, NAME_embeddings/)",
        False,
    ),
)
"""Field, the webui's option, its label and its default."""


def read_settings() -> NameSettings:
    """The settings as they are now.

    Host: modules/options.py, ``Options.data``, A1111 1.6.1-1.10.1, Forge: settings that were never changed are missing.
    """
    from modules import shared

    data = shared.opts.data
    return NameSettings(**{field: bool(data.get(name, default)) for field, name, _, default in _OPTIONS})


def add_settings() -> None:
    """Put the settings on the Settings page.

    Host: modules/options.py, ``OptionInfo``, A1111 1.6.1-1.10.1, Forge: a checkbox, since the default is a boolean.
    """
    from modules import shared

    for _, name, label, default in _OPTIONS:
        shared.opts.add_option(name, shared.OptionInfo(default, label, section=SETTINGS_SECTION))
