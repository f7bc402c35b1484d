"""Reads caption files and reports those that cannot be used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CaptionFile", "read_caption"]

_MAX_BYTES = 1_000_000

_INFOTEXT = re.compile(r"(?:^|\s)(?:Negative prompt:|Steps: \d+, (?:Sampler|Schedule type|CFG scale|Seed|Size)\b)")
"""Where the prompt ends in the text file that the webui can save next to an image.

Host: modules/infotext_utils.py (generation_parameters_copypaste.py before 1.8), ``parse_generation_parameters``, A1111
    1.6.1-1.10.1: the prompt, ``Negative prompt: …`` on a line of its own, then ``Steps: 20, Sampler: …``.
"""


@dataclass(frozen=True)
class CaptionFile:
    """Contents of a caption file, or why it cannot be used.

    Attributes:
        text: the caption; None when it cannot be used.
        is_cut: whether the webui's generation data followed the caption and was removed.
        problem: continues the sentence "The image a.png …"; empty if there is none.
        hint: what to do.
    """

    text: str | None
    is_cut: bool = False
    problem: str = ""
    hint: str = ""


def read_caption(path: Path, shown: str) -> CaptionFile:
    """Read a caption file: at most 1 MB of UTF-8 text, with or without a byte order mark.

    Args:
        path: path of the file, which may turn out not to be a regular file.
        shown: its name for messages.
    """
    which = f"has a caption file {shown}"
    try:
        # Reading a pipe would block, and a device may have no end.
        if not path.is_file():
            return CaptionFile(
                None, problem=f"{which} that is not a regular file", hint=f"Replace {shown} with a text file."
            )
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        return CaptionFile(
            None, problem=f"{which} that cannot be read ({reason})", hint=f"Check the permissions of {shown}."
        )
    if len(data) > _MAX_BYTES:
        return CaptionFile(None, problem=f"{which} of more than 1 MB", hint=f"Shorten {shown}, or remove it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    # UTF-16 without a byte order mark is valid UTF-8 in which every second byte is NUL.
    if "\0" in text:
        return CaptionFile(None, problem=f"{which} that is not UTF-8 text", hint=f"Save {shown} as UTF-8.")
    end = _INFOTEXT.search(text)
    return CaptionFile((text[: end.start()] if end else text).strip(), is_cut=end is not None)
