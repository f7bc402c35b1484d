"""Titles of the parts of the tab."""

from __future__ import annotations

__all__ = ["TABS"]

TABS = {"train": "Train a bundle", "dataset": "Data set", "runs": "Runs", "bundles": "Bundle tools"}
