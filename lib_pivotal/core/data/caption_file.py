"""Reading caption files, whatever they turn out to be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CaptionFile", "read_caption"]

_MOST_BYTES = 1_000_000

_INFOTEXT = re.compile(r"(?:^|\s)(?:Negative prompt:|Steps: \d+, (?:Sampler|Schedule type|CFG scale|Seed|Size)\b)")
"""Where the prompt ends in what the webui writes next to an image when it is told to create a text file.

Host: modules/infotext_utils.py (generation_parameters_copypaste.py before 1.8), ``parse_generation_parameters``, A1111
    1.6.1-1.10.1: the prompt, ``Negative prompt: …`` on a line of its own, then ``Steps: 20, Sampler: …``.
"""


@dataclass(frozen=True)
class CaptionFile:
    """What a caption file says.

    Attributes:
        text: the caption; None when it cannot be used.
        is_cut: whether the webui's generation data stood behind it, which is left out.
        problem: continues the sentence "The image a.png …"; empty when all is well.
        hint: what to do.
    """

    text: str | None
    is_cut: bool = False
    problem: str = ""
    hint: str = ""


def read_caption(path: Path, shown: str) -> CaptionFile:
    """Read at most a megabyte of UTF-8 text, with or without a byte order mark.

    Args:
        path: of the file, which may have been found to be something else than a file.
        shown: its name as it may stand in messages.
    """
    which = f"has a caption file {shown}"
    try:
        # A pipe would wait for a writer, and a device has no end.
        if not path.is_file():
            return CaptionFile(
                None, problem=f"{which} that is not a regular file", hint=f"Replace {shown} by a text file."
            )
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        return CaptionFile(
            None, problem=f"{which} that cannot be read ({reason})", hint=f"Check the permissions of {shown}."
        )
    if len(data) > _MOST_BYTES:
        return CaptionFile(None, problem=f"{which} of more than 1 MB", hint=f"Shorten {shown}, or remove it.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    # UTF-16 without a byte order mark is valid UTF-8 with a NUL in every second place.
    if "\0" in text:
        return CaptionFile(None, problem=f"{which} that is not UTF-8 text", hint=f"Save {shown} as UTF-8.")
    end = _INFOTEXT.search(text)
    return CaptionFile((text[: end.start()] if end else text).strip(), is_cut=end is not None)
