"""Whole runs with the toy model."""

from __future__ import annotations

from tests.unit.conftest import data

__all__ = ["data"]
