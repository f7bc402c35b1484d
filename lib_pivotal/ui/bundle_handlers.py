"""What the buttons of the part "Bundles" do: values by name in, outputs by name out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from lib_pivotal.app.bundle_library import BundleLibrary, Destination, ToolResult
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.bundle_view import show_bundle, show_written

__all__ = ["ASKED", "LISTS", "BundleHandlers"]

ASKED = (
    "bundle",
    "bundle_target",
    "bundle_overwrite",
    "bundle_names",
    "bundle_new_name",
    "bundle_other",
    "bundle_files",
)
"""Everything that a tool may want to know."""

LISTS = ("bundle_notice", "bundle_view", "bundle", "bundle_names", "bundle_other", "bundle_files")
"""Outputs that a tool may change."""

Values = Mapping[str, Any]
Outputs = dict[str, Any]


class BundleHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        library: the files and the tools.
    """

    def __init__(self, library: BundleLibrary) -> None:
        self._library = library

    def refresh(self, values: Values) -> Outputs:
        """List the files again; what is chosen stays, unless it has gone."""
        bundles = self._library.bundles()
        outputs: Outputs = {"bundle_files": gr.update(choices=self._library.embedding_files())}
        for name in ("bundle", "bundle_other"):
            chosen = values[name]
            outputs[name] = gr.update(choices=bundles, value=chosen if chosen in bundles else None)
        return outputs

    def look(self, values: Values) -> Outputs:
        """Show what is in the chosen file."""
        if not values["bundle"]:
            return {"bundle_view": "", "bundle_names": gr.update(choices=[], value=[])}
        cleared = {"bundle_notice": "", "bundle_names": gr.update(choices=[], value=[])}
        described = self._library.describe(values["bundle"])
        names = gr.update(choices=list(described["embeddings"]), value=[])
        return {**cleared, "bundle_view": show_bundle(described), "bundle_names": names}

    def verify(self, values: Values) -> Outputs:
        """Say everything that is wrong with the chosen file."""
        return {"bundle_notice": panels.show_problems(self._library.verify(values["bundle"] or ""), purpose="use")}

    def rename(self, values: Values) -> Outputs:
        """Rename the one chosen embedding."""
        names = values["bundle_names"] or []
        if len(names) != 1:
            raise ConfigError([Problem("bundle_names", "error", "One name can be changed at a time.", "Choose one.")])
        target = _target(values)
        return self._tell(
            values, self._library.rename(_file(values), names[0], values["bundle_new_name"] or "", target)
        )

    def remove(self, values: Values) -> Outputs:
        """Leave the chosen embeddings out."""
        names = values["bundle_names"] or []
        if not names:
            raise ConfigError([Problem("bundle_names", "error", "No embedding is chosen.", "Choose one or more.")])
        return self._tell(values, self._library.remove(_file(values), names, _target(values)))

    def merge(self, values: Values) -> Outputs:
        """Add the embeddings of the other file."""
        return self._tell(values, self._library.merge(_file(values), values["bundle_other"] or "", _target(values)))

    def pack(self, values: Values) -> Outputs:
        """Put the chosen embedding files in."""
        files = values["bundle_files"] or []
        if not files:
            raise ConfigError([Problem("bundle_files", "error", "No file is chosen.", "Choose one or more.")])
        new = values["bundle_new_name"] or ""
        return self._tell(values, self._library.pack(_file(values), files, new, _target(values)))

    def split(self, values: Values) -> Outputs:
        """Write LoRA and embeddings as files of their own."""
        return self._tell(values, self._library.split(_file(values), _target(values)))

    def _tell(self, values: Values, done: ToolResult) -> Outputs:
        """The answer to a tool's work; a new bundle is the chosen one from now on."""
        told = {"bundle_notice": show_written(done.paths, done.problems)}
        if not done.name:
            return told
        shown = self.look({**values, "bundle": done.name})
        return {**self.refresh({**values, "bundle": done.name}), **shown, **told}


def _file(values: Values) -> str:
    return values["bundle"] or ""


def _target(values: Values) -> Destination:
    return Destination(values["bundle_target"] or "", bool(values["bundle_overwrite"]))
