"""The tab "Pivotal Tuning": puts its parts together."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.comparison import comparison_for
from lib_pivotal.app.fusing import fusing_for
from lib_pivotal.app.session import Session
from lib_pivotal.ui import panels
from lib_pivotal.ui.bundles_part import add_bundles
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.images_part import add_images
from lib_pivotal.ui.runs_part import add_runs
from lib_pivotal.ui.text.tabs import TABS
from lib_pivotal.ui.text.training import MESSAGES
from lib_pivotal.ui.training_part import add_training

__all__ = ["build_tab", "build_tab_without_host"]


def build_tab(session: Session, library: BundleLibrary) -> gr.Blocks:
    """The tab in a webui that supports training.

    Args:
        session: what the training buttons act on.
        library: what the bundle tools act on.
    """
    with gr.Blocks(analytics_enabled=False) as blocks, gr.Tabs(elem_id="pivotal_tab") as tabs:
        with _part("train"):
            training = add_training(session)
        with _part("dataset"):
            add_images(session, training)
        with _part("runs") as part:
            add_runs(part, tabs, session, training)
        with _part("bundles") as part:
            add_bundles(part, library, comparison_for(session), fusing_for(session))
    return blocks


def build_tab_without_host(reason: str, library: BundleLibrary) -> gr.Blocks:
    """The tab in a webui that does not support training: it says why, and has only the bundle tools.

    Args:
        reason: shown to the user.
        library: what the bundle tools act on.
    """
    with gr.Blocks(analytics_enabled=False) as blocks, gr.Tabs(elem_id="pivotal_tab"):
        with _part("train"):
            gr.HTML(panels.show_message(MESSAGES["no_host"], "bad", reason))
        with _part("bundles") as part:
            add_bundles(part, library)
    return blocks


def _part(name: str) -> Any:
    return gr.Tab(TABS[name], id=name, elem_id=element_id("tab", name))
