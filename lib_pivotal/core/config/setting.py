"""Declares settings: fields of a dataclass with the label, help and limits that tab, checks and docs show."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

__all__ = ["setting", "setting_info"]


def setting(
    default: Any,
    block: str,
    level: str,
    label: str,
    help: str,  # noqa: A002  (the name that dataclass metadata uses)
    *,
    low: float | None = None,
    high: float | None = None,
    is_low_excluded: bool = False,
    choices: tuple[str, ...] = (),
    allows_others: bool = False,
    unit: str = "",
) -> Any:
    """A field with the label, help and limits that the tab, the checks and the docs show."""
    metadata = {
        "block": block,
        "level": level,
        "label": label,
        "help": help,
        "low": low,
        "high": high,
        "is_low_excluded": is_low_excluded,
        "choices": choices,
        "allows_others": allows_others,
        "unit": unit,
    }
    return field(default=default, metadata=metadata)


def setting_info(owner: type) -> dict[str, dict[str, Any]]:
    """Settings of a dataclass by name, in order: default, type name and field metadata."""
    return {
        # ``tuple[str, ...]`` is called ``tuple``.
        item.name: {"default": item.default, "type": str(item.type).partition("[")[0], **item.metadata}
        for item in fields(owner)
    }
