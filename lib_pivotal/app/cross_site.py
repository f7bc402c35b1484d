"""Whether a browser sends a request on behalf of another site.

Any page that is open in the user's browser can send requests to a webui on the same computer or network, and a
browser sends them along. What it adds to them tells where they come from; programs add nothing of the kind.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

__all__ = ["foreign_origin"]

_HOME_NAMES = (".localhost", ".local", ".lan", ".home", ".internal", ".home.arpa")
"""Endings of names that only the own network gives."""


def foreign_origin(headers: Mapping[str, str], is_trusted: Callable[[str], bool], *, asks_for_login: bool) -> str:
    """The other site that a request comes from; empty when the webui's own page or a program sent it.

    Args:
        headers: of the request, by lower-case name.
        is_trusted: whether the user has allowed an origin (``https://name:port``) to use the webui.
        asks_for_login: whether requests need credentials; then a page cannot pretend to be ours, see below.

    Source: https://www.w3.org/TR/fetch-metadata/ and https://fetch.spec.whatwg.org/#origin-header. Browsers send
        ``Sec-Fetch-Site`` to https and to localhost, whatever proxy is between; elsewhere there is ``Origin`` alone.
    """
    origin = headers.get("origin") or _origin_of(headers.get("referer", ""))
    if origin and is_trusted(origin):
        return ""
    site = headers.get("sec-fetch-site")
    if site is not None:
        # "none" is the user: an address that was typed, or an extension of the browser.
        return "" if site in ("same-origin", "none") else origin or "another site"
    if not origin or _is_own(origin, headers, asks_for_login=asks_for_login):
        return ""
    return origin


def _origin_of(address: str) -> str:
    """Of the page that a ``Referer`` names; browsers that are old send no more than that with a form."""
    scheme, colon, rest = address.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if colon else ""


def _is_own(origin: str, headers: Mapping[str, str], *, asks_for_login: bool) -> bool:
    try:
        page = urlsplit(origin)
        name = page.hostname or ""
    except ValueError:
        return False
    # A page cannot add a header like the second one to a request to another site without being asked first.
    hosts = [headers.get("host", ""), *headers.get("x-forwarded-host", "").split(",")]
    port = {"http": ":80", "https": ":443"}.get(page.scheme, "")
    own = {host.strip().lower().removesuffix(port) for host in hosts} - {""}
    return page.netloc.lower().removesuffix(port) in own and (asks_for_login or _is_home_name(name))


def _is_home_name(name: str) -> bool:
    """Whether a name can only mean a computer of the own network.

    A site can give any public name of its own the address of the user's computer, after its page was loaded. To the
    browser that page and the webui are then one site, and both headers agree.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(_HOME_NAMES)
    return True
