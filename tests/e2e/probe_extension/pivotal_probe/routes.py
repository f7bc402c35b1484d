"""``POST /pivotal-test/NAME`` runs the function NAME of :mod:`pivotal_probe.checks` with the body's fields."""

from __future__ import annotations

import traceback
from typing import Any

from fastapi import Body
from fastapi.responses import JSONResponse

from pivotal_probe import (
    bundle_tool_checks,
    checks,
    cond_checks,
    family_checks,
    lora_checks,
    merged_checks,
    numbers,
    port_checks,
    run_checks,
)


def register(_demo: Any, app: Any) -> None:
    """Add the routes to the webui's application."""
    tables = (
        checks.CHECKS,
        port_checks.CHECKS,
        lora_checks.CHECKS,
        merged_checks.CHECKS,
        run_checks.CHECKS,
        numbers.CHECKS,
        bundle_tool_checks.CHECKS,
        family_checks.CHECKS,
        cond_checks.CHECKS,
    )
    known = {function.__name__: function for table in tables for function in table}

    def ready() -> dict[str, bool]:
        from modules import sd_models

        return {"ready": sd_models.model_data.sd_model is not None}

    def run(name: str, arguments: dict = Body(default={})) -> Any:  # noqa: B008
        try:
            return known[name](**arguments)
        except Exception:
            return JSONResponse({"traceback": traceback.format_exc()}, status_code=500)

    app.add_api_route("/pivotal-test/ready", ready, methods=["GET"])
    app.add_api_route("/pivotal-test/{name}", run, methods=["POST"])
