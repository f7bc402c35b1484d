"""Connects the block for fusing bundles."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.fusing import Fusing
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.fusing_handlers import FUSE_INPUTS, FUSE_VIEW, FusingHandlers
from lib_pivotal.ui.listener import Listener

__all__ = ["connect_fusing"]

_UPDATE = "(text) => { pivotalWork.update('fuse', text); return []; }"


def connect_fusing(library: BundleLibrary, fusing: Fusing, parts: dict[str, Any]) -> None:
    """Connect the block.

    Args:
        library: lists the bundles.
        fusing: what the buttons act on.
        parts: components of the block and of the bundle tools, by name.
    """
    handlers = FusingHandlers(fusing, library)
    listen = Listener(parts, notice="fuse_view")
    answer = ["fuse_view", "fuse_page"]
    for name, inputs, outputs in (
        ("start", FUSE_INPUTS, answer),
        ("stop", (), answer),
        ("refresh", ("fuse_shows",), FUSE_VIEW),
    ):
        click = parts[f"fuse_{name}"].click
        event = listen.on(click, getattr(handlers, name), list(inputs), list(outputs), spinner=name == "start")
        event.then(fn=None, inputs=[parts["fuse_page"]], outputs=[], **javascript(_UPDATE))
