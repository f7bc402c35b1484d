"""Installs the hooks of bundle prompts in this webui, once, and removes them."""

from __future__ import annotations

import logging

from lib_pivotal.host.bundle_prompts.activation import add_activation_hooks
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.cards import add_card_hooks
from lib_pivotal.host.bundle_prompts.conds import add_cond_hooks
from lib_pivotal.host.bundle_prompts.counter import add_counter_hook
from lib_pivotal.host.bundle_prompts.encoders import LiveEncoders
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.lookup import add_lookup_hooks, unhooked_find, unhooked_tokenize
from lib_pivotal.host.bundle_prompts.negative_loras import NegativeLoras
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.takeover import add_takeover_hooks
from lib_pivotal.host.webui.replaced_loras import read_again

__all__ = ["active_names", "install", "uninstall"]

_log = logging.getLogger("pivotal.bundle_prompts")
_installed: list[tuple[Hooks, ActiveNames, NegativeLoras]] = []
"""Empty or one of each."""


def active_names() -> ActiveNames | None:
    """The names that this webui's prompts know now, or None before :func:`install`."""
    return _installed[0][1] if _installed else None


def install() -> None:
    """Put all hooks in place; a second call does nothing.

    The webui's Lora extension is looked for at the time of the call, so call it when all scripts are loaded and
    before the page is built.
    """
    if _installed:
        return
    hooks = Hooks()
    # Look-up and tokenizer are captured before our hooks are in front of them.
    tokenize = guarded("finding the tokenizer", unhooked_tokenize, lambda encoder, texts: encoder.tokenize(texts))
    names = ActiveNames(unhooked_find(), LiveEncoders(tokenize), read_settings)
    negatives = NegativeLoras()
    for what, add in (
        ("names", add_lookup_hooks),
        ("encodings", add_cond_hooks),
        ("LoRA files", add_takeover_hooks),
        ("activation", lambda hooks, names: add_activation_hooks(hooks, names, negatives)),
        ("the token counter", add_counter_hook),
        ("cards", lambda hooks, _names: add_card_hooks(hooks)),
    ):
        # Each works without the others: a webui that lacks one function still gets the rest.
        guarded(f"adding the hooks for {what}", lambda add=add: add(hooks, names), None)
    _installed.append((hooks, names, negatives))
    _log.info("Bundled embeddings: installed.")


def uninstall() -> None:
    """Take all hooks off and leave the webui as it would be without us."""
    if _installed:
        hooks, _, negatives = _installed.pop()
        hooks.remove()
        negatives.remove()
        # What was loaded without its bundled embeddings is read again, by the webui alone.
        guarded("uninstalling", lambda: read_again(lambda _net: True), None)
