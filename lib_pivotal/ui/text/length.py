"""Texts of "How long"."""

from __future__ import annotations

__all__ = ["LENGTH_BUTTONS", "LENGTH_HEADING", "LENGTH_MESSAGES"]

LENGTH_HEADING = "How long"

LENGTH_BUTTONS = {
    "length_half": "Half as long (0.5×)",
    "length_full": "As suggested (1×)",
    "length_double": "Twice as long (2×)",
}

LENGTH_MESSAGES = {
    "later": "Enter the image folder to see how long the training takes.",
    "unknown": "The length is not known yet. {reason}",
    "steps": "{steps} steps",
    "suggested": "suggested: {steps}",
    "time": "about {time}",
    "pace": "measured: {seconds} s/step",
    "no_pace": "the time will be known after a similar run",
    "samples": "Samples per concept: {list}",
    "sample": "{name} {count}",
    "range": "{fewest} to {most} ({count} concepts)",
    "no_concept": "without a concept",
}
