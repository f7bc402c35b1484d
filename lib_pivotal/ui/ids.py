"""Element ids; frozen, because users' styles and other scripts depend on them.

Host: script.js, the key handlers, A1111 1.6.1-1.10.1: Ctrl+Enter, Alt+Enter and Esc press the button of the current tab
whose id ends in ``_generate``, ``_skip`` or ``_interrupt``. None of our ids ends that way.
"""

from __future__ import annotations

__all__ = ["FORBIDDEN_ENDS", "element_id"]

FORBIDDEN_ENDS = ("_generate", "_interrupt", "_skip")


def element_id(block: str, name: str) -> str:
    """Id of a setting, button or panel, e.g. ``pivotal_run_stop``."""
    return f"pivotal_{block}_{name}"
