"""The differences between Gradio 3.41 (A1111, reForge) and 4.40 (Forge); no other file depends on them."""

from __future__ import annotations

from typing import Any

import gradio as gr

__all__ = ["javascript", "unchanged"]

_IS_GRADIO_3 = gr.__version__.startswith("3.")


def javascript(code: str) -> dict[str, str]:
    """Keyword argument that makes an event listener run ``code`` in the page."""
    return {"_js": code} if _IS_GRADIO_3 else {"js": code}


def unchanged() -> Any:
    """The output value that leaves a component as it is."""
    return gr.update()
