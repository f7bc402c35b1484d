"""The one difference between Gradio 3.41 (A1111, reForge) and 4.40 (Forge) that the tab has to know."""

from __future__ import annotations

import gradio as gr

__all__ = ["javascript"]

_IS_GRADIO_3 = gr.__version__.startswith("3.")


def javascript(code: str) -> dict[str, str]:
    """Keyword argument that makes an event listener run ``code`` in the page."""
    return {"_js": code} if _IS_GRADIO_3 else {"js": code}
