"""The tab "Pivotal Tuning"."""

from __future__ import annotations

from typing import Any

import gradio as gr

__all__ = ["build_tab", "build_tab_without_host"]


def build_tab(session: Any) -> gr.Blocks:
    """The tab of a webui that can be trained in."""
    return build_tab_without_host(session.host.name)


def build_tab_without_host(reason: str) -> gr.Blocks:
    """A tab that only says why there is nothing to see."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Markdown(reason)
    return blocks
