"""HTML for the length of a planned run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.ui.duration import duration
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.text.length import LENGTH_MESSAGES

__all__ = ["show_length", "show_no_length"]

_MAX_LISTED = 6


def show_length(length: Mapping[str, Any]) -> str:
    """Steps, time and samples per concept.

    Args:
        length: see ``app.run_length``.
    """
    parts = [LENGTH_MESSAGES["steps"].format(steps=length["steps"])]
    if length["steps"] != length["suggested_steps"]:
        parts.append(LENGTH_MESSAGES["suggested"].format(steps=length["suggested_steps"]))
    if length["seconds"]:
        parts.append(LENGTH_MESSAGES["time"].format(time=duration(length["seconds"])))
        parts.append(LENGTH_MESSAGES["pace"].format(seconds=f"{length['seconds_per_step']:.2g}"))
    else:
        parts.append(LENGTH_MESSAGES["no_pace"])
    samples = LENGTH_MESSAGES["samples"].format(list=_samples(length["samples"]))
    return (
        f'<div class="pivotal-box" role="status"><div><b>{escape_html(parts[0])}</b> '
        f"{escape_html(' · '.join(parts[1:]))}</div>"
        f'<div class="pivotal-hint">{escape_html(samples)}</div></div>'
    )


def _samples(samples: Mapping[str, int]) -> str:
    if len(samples) > _MAX_LISTED:
        counts = samples.values()
        return LENGTH_MESSAGES["range"].format(fewest=min(counts), most=max(counts), count=len(samples))
    return ", ".join(
        LENGTH_MESSAGES["sample"].format(name=name or LENGTH_MESSAGES["no_concept"], count=count)
        for name, count in samples.items()
    )


def show_no_length(reason: str = "") -> str:
    """What is shown while the length is not known.

    Args:
        reason: why; empty before anything has been entered.
    """
    text = LENGTH_MESSAGES["unknown"].format(reason=reason) if reason else LENGTH_MESSAGES["later"]
    return f'<div class="pivotal-box pivotal-hint" role="status">{escape_html(text)}</div>'
