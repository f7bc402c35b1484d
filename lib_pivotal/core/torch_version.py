"""The version of torch, for what differs between the versions that webuis come with."""

from __future__ import annotations

import torch

__all__ = ["torch_version"]


def torch_version() -> tuple[int, int]:
    """Major and minor version."""
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
