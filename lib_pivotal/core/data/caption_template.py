"""Caption templates: a text file with one template per line, as the webui has them for textual inversion."""

from __future__ import annotations

import re
from pathlib import Path

from lib_pivotal.core.config.user_path import bare_path
from lib_pivotal.core.data.shown import shown_path
from lib_pivotal.core.errors import ConfigError, Problem

__all__ = ["fill", "placeholder", "read_templates", "with_name"]

_MAX_BYTES = 1_000_000

_NAME = re.compile(r"\[name\]|\[trigger\]|<embedding>", re.IGNORECASE)
_CAPTION = re.compile(r"\[filewords\]|\{caption\}", re.IGNORECASE)
_EMPTY_TAGS = re.compile(r"(?:,\s*)+,")


def read_templates(path: str) -> tuple[str, ...]:
    """The templates in a file, one per line; none if no file is set.

    Args:
        path: the setting ``caption_template``.

    Raises:
        ConfigError: the file cannot be used; the problem names the setting.
    """
    if not bare_path(path):
        return ()
    file = Path(bare_path(path)).expanduser()
    where = f"The template file {shown_path(file)}"
    hint = "Enter the path of a UTF-8 text file with one template per line, such as: a photo of [name], [filewords]"
    try:
        # Reading a pipe would block.
        data = file.open("rb").read(_MAX_BYTES + 1) if file.is_file() else None
        text = data.decode("utf-8-sig") if data is not None else ""
    except (OSError, ValueError) as error:
        reason = (
            "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        )
        raise _refused(f"{where} cannot be read ({reason}).", hint) from error
    if data is None:
        raise _refused(f"{where} does not exist.", hint)
    if len(data) > _MAX_BYTES:
        raise _refused(f"{where} has more than 1 MB.", hint)
    templates = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not templates:
        raise _refused(f"{where} contains no template.", hint)
    return templates


def _refused(text: str, hint: str) -> ConfigError:
    return ConfigError([Problem("caption_template", "error", text, hint)])


def placeholder(text: str) -> str | None:
    """The first ``[name]``, ``[trigger]`` or ``<embedding>`` in a text, or None."""
    match = _NAME.search(text)
    return match.group() if match else None


def with_name(text: str, name: str | None) -> str:
    """Put a name in the place of ``[name]``, ``[trigger]`` and ``<embedding>``; without a name they stay.

    Args:
        text: a caption, a prefix or a suffix.
        name: one or several names.
    """
    return text if name is None else _NAME.sub(lambda _: name, text)


def fill(template: str, caption: str, name: str) -> str:
    """Put a caption and a name into a template; what has no value leaves no empty tag behind.

    Args:
        template: with ``[name]`` (or ``[trigger]``, ``<embedding>``) and ``[filewords]`` (or ``{caption}``).
        caption: the caption.
        name: one or several names.
    """
    # In one pass, so that a caption that contains a placeholder is not filled again.
    filled = re.sub(
        f"({_NAME.pattern})|{_CAPTION.pattern}",
        lambda match: name if match.group(1) else caption,
        template,
        flags=re.IGNORECASE,
    )
    return _EMPTY_TAGS.sub(",", filled).strip(" ,")
