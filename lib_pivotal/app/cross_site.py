"""Detects requests that a browser sends on behalf of another site (CSRF).

Any page that is open in the user's browser can make the browser send requests to a webui on the same computer or
network. Browsers add headers that say where such a request comes from; other programs send none of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

__all__ = ["foreign_origin"]

_HOME_NAMES = (".localhost", ".local", ".lan", ".home", ".internal", ".home.arpa")
"""Endings of host names that exist only inside the local network."""


def foreign_origin(headers: Mapping[str, str], is_trusted: Callable[[str], bool], *, asks_for_login: bool) -> str:
    """The origin of the other site that a request comes from; empty if the webui's own page or a program sent it.

    Args:
        headers: the request's headers, by lower-case name.
        is_trusted: whether the user has allowed an origin (``https://name:port``) to use the webui.
        asks_for_login: whether requests need credentials; another page then cannot pass as ours, see ``_is_home_name``.

    Source: https://www.w3.org/TR/fetch-metadata/ and https://fetch.spec.whatwg.org/#origin-header. Browsers send
        ``Sec-Fetch-Site`` to https addresses and to localhost, even through proxies; elsewhere only ``Origin``.
    """
    origin = headers.get("origin") or _origin_of(headers.get("referer", ""))
    if origin and is_trusted(origin):
        return ""
    site = headers.get("sec-fetch-site")
    if site is not None:
        # "none" means the user: a typed address, or a browser extension.
        return "" if site in ("same-origin", "none") else origin or "another site"
    if not origin or _is_own(origin, headers, asks_for_login=asks_for_login):
        return ""
    return origin


def _origin_of(address: str) -> str:
    """The origin of the page in a ``Referer``, which is all that old browsers send with a form."""
    scheme, colon, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if colon else ""


def _is_own(origin: str, headers: Mapping[str, str], *, asks_for_login: bool) -> bool:
    try:
        page = urlsplit(origin)
        name = page.hostname or ""
    except ValueError:
        return False
    # Pages cannot add X-Forwarded-Host to a cross-site request without a CORS preflight.
    hosts = [headers.get("host", ""), *headers.get("x-forwarded-host", "").split(",")]
    port = {"http": ":80", "https": ":443"}.get(page.scheme, "")
    own = {host.strip().lower().removesuffix(port) for host in hosts} - {""}
    return page.netloc.lower().removesuffix(port) in own and (asks_for_login or _is_home_name(name))


def _is_home_name(name: str) -> bool:
    """Whether a host name can only mean a computer in the local network.

    This prevents DNS rebinding: after its page was loaded, a site can point its own public name at the user's computer.
    To the browser, that page and the webui are then the same site, and both headers agree.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(_HOME_NAMES)
    return True
