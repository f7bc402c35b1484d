"""Reads the bytes of caption files, which may be anything."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.core.data.flaw import UnusableCaption

__all__ = ["read_caption_file"]

_MAX_BYTES = 1_000_000


def read_caption_file(path: Path, shown: str) -> bytes:
    """Read the caption file of an image, which may have up to 1 MB.

    Args:
        path: path of the file, which may turn out not to be a regular file.
        shown: its name for messages.

    Raises:
        UnusableCaption: it cannot be read or is too long.
    """
    which = f"has a caption file {shown}"
    try:
        # Reading a pipe would block, and a device may have no end.
        if not path.is_file():
            raise UnusableCaption(f"{which} that is not a regular file", f"Replace {shown} with a text file.")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        raise UnusableCaption(
            f"{which} that cannot be read ({reason})", f"Check the permissions of {shown}."
        ) from error
    if len(data) > _MAX_BYTES:
        raise UnusableCaption(f"{which} of more than 1 MB", f"Shorten {shown}, or remove it.")
    return data
