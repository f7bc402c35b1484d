"""Whether the webui has an HTTP API, and who may use it."""

from __future__ import annotations

import re

__all__ = ["api_credentials", "has_api", "is_allowed_origin"]


def has_api() -> bool:
    """Whether the webui was started with its API.

    Host: modules/cmd_args.py, ``--api``, A1111 1.6.1-1.10.1; ``--nowebui`` implies it.
    """
    from modules import shared

    return bool(shared.cmd_opts.api or shared.cmd_opts.nowebui)


def api_credentials() -> dict[str, str]:
    """User → password of the webui's API; empty if it requires none.

    Host: modules/api/api.py, ``Api.add_api_route``, A1111 1.6.1-1.10.1: ``--api-auth "u:p,u2:p2"``; the webui protects
        only routes that are added through it. The user of ``":password"`` is the empty one.
    """
    from modules import shared

    pairs = [pair for pair in (shared.cmd_opts.api_auth or "").split(",") if pair]
    return {user: password for user, _, password in (pair.partition(":") for pair in pairs)}


def is_allowed_origin(origin: str) -> bool:
    """Whether the user allows pages of another site to use the webui.

    Host: modules/cmd_args.py, ``--cors-allow-origins`` and ``--cors-allow-origins-regex``, A1111 1.6.1-1.10.1: names
        separated by commas, ``*`` for all; the expression is matched against the whole origin.
    """
    from modules import shared

    names = (shared.cmd_opts.cors_allow_origins or "").split(",")
    pattern = shared.cmd_opts.cors_allow_origins_regex
    return origin in names or "*" in names or bool(pattern and re.fullmatch(pattern, origin))
