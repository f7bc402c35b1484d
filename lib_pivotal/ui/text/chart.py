"""Texts of the chart of a run."""

from __future__ import annotations

__all__ = ["CHART", "VALIDATION_LINES"]

CHART = {
    "title": "Loss, validation and norms over the steps",
    "raw": "Loss per step",
    "smooth": "Loss, smoothed",
    "norm": "Norm of {name} (right)",
    "highest_norm": "Highest norm of an embedding (right)",
    "mean_norm": "Mean norm of the embeddings (right)",
    "lowest_norm": "Lowest norm of an embedding (right)",
    "change": "Largest change of a weight, {name} (right)",
    "step": "Step {step}",
    "hint": "Point at the chart, or select it and press the arrow keys, to read values.",
    "later": "The loss is plotted here during training.",
}

VALIDATION_LINES = {
    "caption": "Validation: full caption",
    "name_only": "Validation: name only",
    "initialization": "Validation: initialization text instead of the name",
}
"""What is measured → label of its line."""
