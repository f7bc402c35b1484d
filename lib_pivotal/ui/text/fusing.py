"""Texts of fusing bundles."""

from __future__ import annotations

__all__ = ["FUSE_BUTTONS", "FUSE_FIELDS", "FUSE_MESSAGES", "FUSE_STATES"]

FUSE_BUTTONS = {"start": "Fuse", "stop": "Stop fusing"}

FUSE_FIELDS = {
    "others": (
        "Bundles to fuse it with",
        "For bundles trained apart on the loaded model: the new one knows all names, and its LoRA does for each name "
        "what that name's own LoRA does.",
    ),
    "rank": (
        "Rank of the fused LoRA",
        "Empty is the sum of the ranks; half of it makes a smaller file at little loss.",
    ),
    "data": (
        "Folder with their training images",
        "Optional; the captions must mention the names. Without it, short samples of the names are used.",
    ),
}
"""Field → label and help. Labels are unique in the tab."""

FUSE_STATES = {
    "queued": "Waiting for the webui to finish its current job.",
    "running": "Fusing {bundles}: {stage} {done} of {total}",
    "done": "Fused {bundles}.",
    "stopped": "Fusing was stopped; no file was written.",
    "failed": "Fusing failed.",
}

FUSE_MESSAGES = {
    "heading": "Fuse with other bundles",
    "started": "Fusing has started.",
    "stopping": "Stopping.",
    "nothing": "No bundles are being fused.",
    "saved": "Saved: {path}",
    "table": "Difference from each bundle's own LoRA, on inputs with its names",
    "columns": ("Bundle", "Fused", "Sum of the LoRAs"),
}
