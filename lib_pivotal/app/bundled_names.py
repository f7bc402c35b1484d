"""The route for completion while typing a prompt: the embedding names that a LoRA contains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["add_route"]

_MAX_TAG_LENGTH = 500


def add_route(app: Any, names_of_tag: Callable[[str], Sequence[tuple[str, int]]]) -> None:
    """Answer ``GET /pivotal/page/bundled?tag=NAME:1``, only for visitors who may see the page.

    Args:
        app: the webui's server; if it serves no page, no route is added.
        names_of_tag: content of a LoRA tag without ``lora:`` → names and their numbers of vectors.

    Host: gradio/routes.py, ``App.auth`` and ``App.tokens``, gradio 3.41.2 and 4.40.0: a page with a login keeps its
        visitors' tokens there; routes added by extensions are not protected.
    """
    from fastapi import HTTPException, Request

    if not hasattr(app, "tokens"):
        return

    def bundled(request: Request, tag: str) -> dict[str, Any]:
        visitors = [value for name, value in request.cookies.items() if name.startswith("access-token")]
        if getattr(app, "auth", None) is not None and not any(token in app.tokens for token in visitors):
            raise HTTPException(status_code=401, detail="Log in on the page first.")
        return {"names": [{"name": name, "vectors": count} for name, count in names_of_tag(tag[:_MAX_TAG_LENGTH])]}

    # Annotations are strings here, and FastAPI would look up their names in the module.
    bundled.__annotations__.update(request=Request, tag=str)
    app.add_api_route("/pivotal/page/bundled", bundled, methods=["GET"], include_in_schema=False)
