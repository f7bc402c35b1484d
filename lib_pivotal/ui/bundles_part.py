"""The part with the bundle tools: creates its block and connects it."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.comparison import Comparison
from lib_pivotal.app.fusing import Fusing
from lib_pivotal.ui.blocks.bundles import create_bundles
from lib_pivotal.ui.blocks.fusing import create_fusing
from lib_pivotal.ui.bundle_handlers import INPUTS, LISTS, BundleHandlers
from lib_pivotal.ui.comparison_part import add_comparison
from lib_pivotal.ui.fusing_part import connect_fusing
from lib_pivotal.ui.listener import Listener

__all__ = ["add_bundles"]


def add_bundles(
    part: Any, library: BundleLibrary, comparison: Comparison | None = None, fusing: Fusing | None = None
) -> None:
    """Create the part within the current tab.

    Args:
        part: the ``gr.Tab`` around it.
        library: what the tools act on.
        comparison: shows what each part of a bundle is worth; None where the webui is not supported.
        fusing: fuses bundles; None where the webui is not supported.
    """
    parts = create_bundles()
    if fusing is not None:
        parts.update(create_fusing())
    handlers = BundleHandlers(library)
    listen = Listener(parts, notice="bundle_notice")
    lists = ["bundle", "bundle_other"]
    outputs = [*LISTS, *(["fuse_others"] if fusing is not None else [])]
    listen.on(part.select, handlers.refresh, lists, outputs)
    listen("bundle_refresh", handlers.refresh, lists, outputs)
    listen.on_choice("bundle", handlers.look, ["bundle"], ["bundle_notice", "bundle_view", "bundle_names"])
    listen("bundle_verify", handlers.verify, ["bundle"], ["bundle_notice"], spinner=True)
    for name in ("rename", "remove", "merge", "pack", "split"):
        listen(f"bundle_{name}", getattr(handlers, name), INPUTS, outputs, spinner=True)
    if comparison is not None:
        add_comparison("bundles", comparison, parts)
    if fusing is not None:
        connect_fusing(library, fusing, parts)
