"""Makes text from files and other people safe for the page's HTML."""

from __future__ import annotations

import html

from lib_pivotal.core.printable import printable_lines

__all__ = ["escape_html"]


def escape_html(text: str) -> str:
    """The text with markup escaped, without control characters or changes of the reading direction."""
    return html.escape(printable_lines(text))
