"""The A1111 webui, 1.6.1 to 1.10.1, as a host of the engine.

Status: careful, see tests/contract. Every assumption about the webui has a ``Host:`` line and an entry in
``host/contract.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_pivotal.host.a1111.host import A1111Host

__all__ = ["make_host"]


def make_host(version: str = "") -> A1111Host:
    """The webui that this process runs in; call only when ``detect`` has found one.

    Args:
        version: to show to users, e.g. ``1.10.1``.
    """
    from lib_pivotal.host.a1111.host import A1111Host

    return A1111Host(version)
