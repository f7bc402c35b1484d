"""Forge (since August 2024) and Forge-Neo as hosts of the engine.

Status: careful, see tests/contract. Every assumption about the webui has a ``Host:`` line and an entry in
``host/forge_contract.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_pivotal.host.forge.host import ForgeHost

__all__ = ["make_host"]


def make_host(name: str = "Forge") -> ForgeHost:
    """The webui that this process runs in; call only when ``detect`` has found one of the two.

    Args:
        name: to show to users, with the version, e.g. ``Forge 2.0.1``.
    """
    from lib_pivotal.host.forge.host import ForgeHost

    return ForgeHost(name)
