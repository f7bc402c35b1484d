"""Text of files and other people as it may stand in the page's HTML."""

from __future__ import annotations

import html

from lib_pivotal.core.printable import printable_lines

__all__ = ["escape_html"]


def escape_html(text: str) -> str:
    """A text without markup, control characters and changes of the reading direction."""
    return html.escape(printable_lines(text))
