"""Lists of which the user chooses one entry, and which change while the page is open.

Host: gradio 4.40, ``_frontend_code/dropdown/shared/Dropdown.svelte``: where custom values are allowed, new choices
    leave the number of the selected entry as it was. The list then marks another entry, which cannot be chosen any
    more. Gradio itself refuses no value from the page, whatever the choices were at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

__all__ = ["list_again"]


def list_again(choices: Sequence[str], chosen: str | None) -> Any:
    """Update of a list that keeps what is chosen, unless it is gone.

    The value that the page sent is never sent back: the user may have chosen another one since then.

    Args:
        choices: the present entries.
        chosen: what was chosen when the page asked.
    """
    if not chosen or chosen in choices:
        return gr.update(choices=choices)
    return gr.update(choices=choices, value=None)
