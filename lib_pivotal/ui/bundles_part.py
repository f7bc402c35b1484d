"""The part with the bundle tools: creates its block and connects it."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.comparison import Comparison
from lib_pivotal.ui.blocks.bundles import create_bundles
from lib_pivotal.ui.bundle_handlers import INPUTS, LISTS, BundleHandlers
from lib_pivotal.ui.comparison_part import add_comparison
from lib_pivotal.ui.listener import Listener

__all__ = ["add_bundles"]


def add_bundles(part: Any, library: BundleLibrary, comparison: Comparison | None = None) -> None:
    """Create the part within the current tab.

    Args:
        part: the ``gr.Tab`` around it.
        library: what the tools act on.
        comparison: shows what each part of a bundle is worth; None where the webui is not supported.
    """
    parts = create_bundles()
    handlers = BundleHandlers(library)
    listen = Listener(parts, notice="bundle_notice")
    lists = ["bundle", "bundle_other"]
    listen.on(part.select, handlers.refresh, lists, LISTS)
    listen("bundle_refresh", handlers.refresh, lists, LISTS)
    listen.on(parts["bundle"].input, handlers.look, ["bundle"], ["bundle_notice", "bundle_view", "bundle_names"])
    listen("bundle_verify", handlers.verify, ["bundle"], ["bundle_notice"], spinner=True)
    for name in ("rename", "remove", "merge", "pack", "split"):
        listen(f"bundle_{name}", getattr(handlers, name), INPUTS, LISTS, spinner=True)
    if comparison is not None:
        add_comparison("bundles", comparison, parts)
