"""Reads files of other programs as plain values: JSON, YAML and TOML, of limited size and without running any code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.importers.toml import TomlError, parse_toml

__all__ = ["parse", "read_text", "refusal"]

_MAX_BYTES = 2**23
_MAX_YAML_BYTES = 2**18
"""Maximum sizes in bytes; the YAML reader is slow."""
_MAX_DIGITS = 300
_MAX_DEPTH = 50
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_HINT = "Choose a settings file of kohya's scripts, HCP-Diffusion or OneTrainer."


def refusal(path: Path, message: str, hint: str = _HINT) -> ConfigError:
    """The error for a file that cannot be imported.

    Args:
        path: the file.
        message: why.
        hint: what to do.
    """
    return ConfigError([Problem(str(path), "error", message, hint)])


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ConfigError: it cannot be read, is too large, or is not text.
    """
    try:
        # Reading a pipe or a device might never end.
        if path.exists() and not path.is_file():
            raise refusal(path, "It is not a file.")
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise refusal(path, f"It cannot be read ({reason}).", "Check the path.") from error
    if len(raw) > _MAX_BYTES:
        raise refusal(path, f"It is larger than {_MAX_BYTES >> 20} MiB, so it cannot be a settings file.")
    encoding = next((name for mark, name in _ENCODINGS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise refusal(path, "It is not a text file, or not UTF-8.") from error
    if "\0" in text:
        raise refusal(path, "It is not a text file.")
    return text


def parse(path: Path) -> Any:
    """The values in a JSON, YAML or TOML file, by its suffix.

    Raises:
        ConfigError: it cannot be read or parsed; the message names the line.
    """
    parser = {".json": _parse_json, ".toml": _parse_toml, ".yaml": _parse_yaml, ".yml": _parse_yaml}
    suffix = path.suffix.lower()
    if suffix not in parser:
        raise refusal(path, f"Settings in files of the kind {suffix or 'without a suffix'} are not known.")
    text = read_text(path)
    try:
        return parser[suffix](path, text)
    except RecursionError as error:
        raise refusal(path, "Its brackets are nested too deeply for settings.") from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, parse_int=_read_digits)
    except ValueError as error:
        raise refusal(path, f"It is not JSON: {error}.", "Save it again in the program it comes from.") from error


def _read_digits(digits: str) -> int | float:
    # Python is slow with long numbers, and later versions refuse them.
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _parse_toml(path: Path, text: str) -> Any:
    try:
        return parse_toml(text)
    except TomlError as error:
        raise refusal(path, str(error), "Correct this line.") from error


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        # The webui brings it; it is a part of OmegaConf. Other files can be imported without it.
        import yaml  # noqa: PLC0415
    except ImportError as error:
        raise refusal(path, "YAML cannot be read without PyYAML.", "Install it: pip install pyyaml.") from error
    if len(text) > _MAX_YAML_BYTES:
        raise refusal(path, f"It is larger than {_MAX_YAML_BYTES >> 10} KiB, so it cannot be a settings file.")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            # A few of these could stand for billions of values.
            if isinstance(event, yaml.AliasEvent):
                raise refusal(path, "It repeats parts of itself (*name), which is not supported.", "Write them out.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            # The time that the reader takes grows with the square of the depth.
            if depth > _MAX_DEPTH:
                raise refusal(path, "Its brackets are nested too deeply for settings.")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise refusal(path, f"It is not plain YAML: {' '.join(str(error).split())}.", "Correct this place.") from error
