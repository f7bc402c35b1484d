"""Reads a YAML file of HCP-Diffusion with the files it is based on, and puts in the values that it refers to.

Source: https://github.com/IrisRainbowNeko/HCP-Diffusion, hcpdiff/utils/utils.py, ``load_config``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.importers.found import Found
from lib_pivotal.core.importers.source_file import parse, refusal
from lib_pivotal.core.printable import printable

__all__ = ["load_hcp"]

_BASES = "_base_"
_REMOVED = "---"
"""A value that removes the key of the base file."""
_MAX_FILES = 30
_MAX_PARENTS = 8
_MAX_PASSES = 5
"""A value may refer to a value that refers to another one, up to this depth."""
_MAX_LENGTH = 10_000
_REFERENCE = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*\}")


def load_hcp(path: Path, found: Found) -> tuple[dict[str, Any], set[str]]:
    """The values of a file on top of those of its base files, and the keys at the top that other values refer to.

    References of the form ``${key.key}`` are replaced; those to HCP-Diffusion's functions stay as they are and are
    reported.

    Raises:
        ConfigError: a file cannot be read, or is based on itself.
    """
    loader = _Loader(found)
    values = loader.load(path, ())
    for _ in range(_MAX_PASSES):
        replaced = _replace(values, values)
        if replaced == values:
            break
        values = replaced
    _report_references(values, found, "")
    return values, loader.referenced


class _Loader:
    """Reads a file and its base files, up to a number of files in all."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._count = 0
        self.referenced: set[str] = set()

    def load(self, path: Path, around: tuple[Path, ...]) -> dict[str, Any]:
        real = path.resolve()
        self._count += 1
        if real in around:
            raise refusal(path, f"It is based on itself ({_BASES}).", "Remove one of the references.")
        if self._count > _MAX_FILES:
            raise refusal(path, f"More than {_MAX_FILES} files are based on each other.", f"Shorten {_BASES}.")
        own = parse(path)
        if not isinstance(own, Mapping):
            raise refusal(path, "It has no settings: the file must contain keys and values.")
        own = {str(key): value for key, value in own.items()}
        self.referenced |= set(_REFERENCE.findall(str(own)))
        bases = own.pop(_BASES, None)
        merged: dict[str, Any] = {}
        for name in [bases] if isinstance(bases, str) else bases or []:
            text = str(_replace(name, own))
            base = _find(path, text)
            if base is None:
                self._found.leave(text)
                hint = "Import the file in the place where HCP-Diffusion runs, or copy the base file next to it."
                self._found.warn(
                    text, f"{printable(path.name)} is based on this file, which does not exist here.", hint
                )
            else:
                merged = _merge(merged, self.load(base, (*around, real)))
        return _merge(merged, own)


def _find(path: Path, name: str) -> Path | None:
    """A base file: relative to the file, or to a folder around it, since HCP-Diffusion runs in its own folder."""
    for folder in [*path.resolve().parents][:_MAX_PARENTS]:
        candidate = folder / name
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):
            return None
    return None


def _merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        name, before = str(key), merged.get(str(key))
        if value == _REMOVED:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merge(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _replace(value: Any, root: Mapping[str, Any]) -> Any:
    """The value with the references in it replaced once."""
    if isinstance(value, Mapping):
        return {key: _replace(inner, root) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replace(inner, root) for inner in value]
    if not isinstance(value, str) or "${" not in value or len(value) > _MAX_LENGTH:
        return value
    whole = _REFERENCE.fullmatch(value.strip())
    if whole:
        target = _look_up(root, whole[1])
        return value if target is None or isinstance(target, (Mapping, list)) else target

    def text_of(match: re.Match[str]) -> str:
        target = _look_up(root, match[1])
        return str(target) if isinstance(target, (str, int, float)) else match.group()

    return _REFERENCE.sub(text_of, value)


def _look_up(root: Mapping[str, Any], name: str) -> Any:
    value: Any = root
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _report_references(value: Any, found: Found, where: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _report_references(inner, found, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for inner in value:
            _report_references(inner, found, where)
    elif isinstance(value, str) and "${" in value:
        found.warn(where, f"{printable(value)} is known only to HCP-Diffusion, so it is not used.", "Set the value.")
