"""Forge (since August 2024) as a host of the engine.

Status: careful, see tests/contract. Every assumption about the webui has a ``Host:`` line and an entry in
``host/forge_contract.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_pivotal.host.forge.host import ForgeHost

__all__ = ["make_host"]


def make_host(version: str = "") -> ForgeHost:
    """The webui that this process runs in; call only when ``detect`` has found Forge.

    Args:
        version: to show to users, e.g. ``2.0.1``.
    """
    from lib_pivotal.host.forge.host import ForgeHost

    return ForgeHost(version)
