"""What the buttons of "Bundle tools" do; inputs and outputs are passed by name."""

from __future__ import annotations

import gradio as gr

from lib_pivotal.app.bundle_library import BundleLibrary, Destination, ToolResult
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.bundle_view import show_bundle, show_written
from lib_pivotal.ui.choice_list import list_again
from lib_pivotal.ui.listener import Outputs, Values

__all__ = ["INPUTS", "LISTS", "BundleHandlers"]

INPUTS = (
    "bundle",
    "bundle_target",
    "bundle_overwrite",
    "bundle_names",
    "bundle_new_name",
    "bundle_other",
    "bundle_files",
)
"""Inputs that a tool may use."""

LISTS = ("bundle_notice", "bundle_view", "bundle", "bundle_names", "bundle_other", "bundle_files")
"""Outputs that a tool may change."""


class BundleHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        library: the files and the tools.
    """

    def __init__(self, library: BundleLibrary) -> None:
        self._library = library

    def refresh(self, values: Values) -> Outputs:
        """List the files again; the selection stays, unless the file no longer exists."""
        bundles = self._library.bundles()
        outputs: Outputs = {
            "bundle_files": gr.update(choices=self._library.embedding_files()),
            "fuse_others": gr.update(choices=bundles),
        }
        for name in ("bundle", "bundle_other"):
            outputs[name] = list_again(bundles, values[name])
        return outputs

    def look(self, values: Values) -> Outputs:
        """Show what is in the selected file."""
        nothing = {"bundle_notice": "", "bundle_view": "", "bundle_names": gr.update(choices=[], value=[])}
        if not values["bundle"]:
            return nothing
        try:
            described = self._library.describe(values["bundle"])
        except PivotalError as error:
            return {**nothing, "bundle_notice": panels.show_error(error)}
        names = gr.update(choices=list(described["embeddings"]), value=[])
        return {**nothing, "bundle_view": show_bundle(described), "bundle_names": names}

    def verify(self, values: Values) -> Outputs:
        """Show all problems of the selected file."""
        return {"bundle_notice": panels.show_problems(self._library.verify(values["bundle"] or ""), purpose="use")}

    def rename(self, values: Values) -> Outputs:
        """Rename the selected embedding."""
        names = values["bundle_names"] or []
        if len(names) != 1:
            raise ConfigError([Problem("bundle_names", "error", "One name can be changed at a time.", "Select one.")])
        target = _target(values)
        return self._show(
            values, self._library.rename(_file(values), names[0], values["bundle_new_name"] or "", target)
        )

    def remove(self, values: Values) -> Outputs:
        """Remove the selected embeddings."""
        names = values["bundle_names"] or []
        if not names:
            raise ConfigError([Problem("bundle_names", "error", "No embedding is selected.", "Select one or more.")])
        return self._show(values, self._library.remove(_file(values), names, _target(values)))

    def merge(self, values: Values) -> Outputs:
        """Add the embeddings of the other file."""
        return self._show(values, self._library.merge(_file(values), values["bundle_other"] or "", _target(values)))

    def pack(self, values: Values) -> Outputs:
        """Add the selected embedding files."""
        files = values["bundle_files"] or []
        if not files:
            raise ConfigError([Problem("bundle_files", "error", "No file is selected.", "Select one or more.")])
        new = values["bundle_new_name"] or ""
        return self._show(values, self._library.pack(_file(values), files, new, _target(values)))

    def split(self, values: Values) -> Outputs:
        """Write the LoRA and the embeddings to separate files."""
        return self._show(values, self._library.split(_file(values), _target(values)))

    def _show(self, values: Values, result: ToolResult) -> Outputs:
        """Show what a tool did; a new bundle becomes the selected one."""
        notice = {"bundle_notice": show_written(result.paths, result.problems)}
        if not result.name:
            return notice
        shown = self.look({**values, "bundle": result.name})
        selected = gr.update(choices=self._library.bundles(), value=result.name)
        return {**self.refresh(values), **shown, **notice, "bundle": selected}


def _file(values: Values) -> str:
    return values["bundle"] or ""


def _target(values: Values) -> Destination:
    return Destination(values["bundle_target"] or "", bool(values["bundle_overwrite"]))
