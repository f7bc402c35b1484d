"""Putting the loader into this webui, once, and taking it out."""

from __future__ import annotations

import logging

from lib_pivotal.host.bundle_prompts.activation import add_activation_hooks
from lib_pivotal.host.bundle_prompts.cards import add_card_hooks
from lib_pivotal.host.bundle_prompts.conds import add_cond_hooks
from lib_pivotal.host.bundle_prompts.counter import add_counter_hook
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.lookup import add_lookup_hooks, ask_host
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.state import LoaderState
from lib_pivotal.host.bundle_prompts.takeover import add_takeover_hooks, give_back

__all__ = ["install", "loader_state", "uninstall"]

_log = logging.getLogger("pivotal.loader")
_installed: list[tuple[Hooks, LoaderState]] = []
"""Empty or one pair."""


def loader_state() -> LoaderState | None:
    """The state of the installed loader, or None."""
    return _installed[0][1] if _installed else None


def install() -> None:
    """Put all hooks in place; a second call does nothing.

    The webui's Lora extension is looked for at the time of the call, so call it when all scripts are loaded and
    before the page is built.
    """
    if _installed:
        return
    hooks = Hooks()
    state = LoaderState(ask_host(), read_settings)
    for name, add in (
        ("names", add_lookup_hooks),
        ("encodings", add_cond_hooks),
        ("LoRA files", add_takeover_hooks),
        ("activation", add_activation_hooks),
        ("the token counter", add_counter_hook),
        ("cards", lambda hooks, _state: add_card_hooks(hooks)),
    ):
        # Each stands on its own: a host that lacks one place still gets the others.
        guarded(f"attaching to {name}", lambda add=add: add(hooks, state), None)
    _installed.append((hooks, state))
    _log.info("Bundle loader installed.")


def uninstall() -> None:
    """Take all hooks off and leave the webui as it would be without us."""
    if _installed:
        hooks, _ = _installed.pop()
        hooks.remove()
        guarded("leaving", give_back, None)
