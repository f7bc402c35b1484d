"""Texts of the comparison of a bundle's parts."""

from __future__ import annotations

__all__ = ["COMPARE_BUTTONS", "COMPARE_FIELDS", "COMPARE_MESSAGES", "COMPARE_STATES"]

COMPARE_BUTTONS = {
    "start": "Show what each part is worth",
    "stop": "Stop comparing",
}

COMPARE_FIELDS = {
    "result": {
        "checkpoint": ("Compare on a second checkpoint too", "Shows how well the bundle works on another model."),
        "gallery": ("What each part is worth", ""),
    },
    "bundles": {
        "checkpoint": ("Second checkpoint", "Shows how well the bundle works on another model; empty compares on one."),
        "prompts": (
            "Prompts to compare",
            "One per line, without the bundle's tag; empty uses the run's sample prompts and the bundle's names.",
        ),
        "seed": ("Seed of the comparison", "Of all images; empty uses the sample seed of the run."),
        "steps": ("Sampling steps of the comparison", "Empty uses the sample steps of the run."),
        "gallery": ("Parts of this bundle", ""),
    },
}
"""Place of the comparison → field → label and help. Labels are unique in the tab."""

COMPARE_STATES = {
    "queued": "Waiting for the webui to finish its current job.",
    "running": "Image {done} of {total}",
    "done": "{bundle}: parts × prompts, all with the same seed.",
    "stopped": "The comparison was stopped after {done} of {total} images.",
    "failed": "The comparison failed.",
}

COMPARE_MESSAGES = {
    "heading": "Comparison settings",
    "started": "The comparison has started.",
    "stopping": "Stopping the comparison.",
    "nothing": "No comparison is being made.",
    "no_bundle": "No file is selected. Select a bundle in the list.",
    "left_out": "{count} names are left out; enter prompts for them under Bundle tools, Comparison settings.",
    "saved": "Saved: {path}",
    "caption": "{bundle}: {columns}",
}
