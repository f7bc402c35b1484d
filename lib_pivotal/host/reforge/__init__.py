"""reForge as a host of the engine: A1111's model with the memory management of the first Forge.

Status: careful, see tests/contract. Every assumption about the webui has a ``Host:`` line and an entry in
``host/forge_contract.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_pivotal.host.reforge.host import ReforgeHost

__all__ = ["make_host"]


def make_host(version: str = "") -> ReforgeHost:
    """The webui that this process runs in; call only when ``detect`` has found reForge.

    Args:
        version: to show to users, e.g. ``1.0.0v2``.
    """
    from lib_pivotal.host.reforge.host import ReforgeHost

    return ReforgeHost(version)
