"""The one direction of imports: who may import whom, see docs and the table below."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "lib_pivotal"

# Layer → what it may import besides the standard library and itself. "app.api" comes before "app": the
# longest name that fits decides. core.config has no torch: the tab builds on it where torch is slow to load.
LAYERS = {
    "core": {"torch", "numpy", "PIL", "safetensors", "core", ""},
    "core.errors": {"core.errors", ""},
    "core.events": {"core.events", "PIL?", ""},
    "core.ports": {"core.events", "core.ports", "torch?", "PIL?", ""},
    "core.config.schema": {"core.config", "core.errors", ""},
    "core.config.io": {"core.config", "core.errors", ""},
    "host": {"core", ""},
    "host.a1111": {"core", "app.ports", "torch", "numpy", "PIL", "safetensors", "modules()", "ldm()", "sgm()", ""},
    "host.detect": {"core", "host.a1111", ""},
    "host.diffusers": {"core", "diffusers", "transformers", "torch", "numpy", "PIL", "safetensors", "tqdm", "yaml", ""},
    "app": {
        "core.config",
        "core.errors",
        "core.events",
        "core.ports",
        "core.train()",
        "core.bundle()",
        "core()",
        "torch()",
        "",
    },
    "app.api": {"app", "core.config", "core.errors", "core.events", "core.ports", "core()", "fastapi", "fastapi()", ""},
    "ui": {"app", "core.config", "core.errors", "core.events", "core.report", "gradio", "PIL", ""},
    "cli": {"app", "core", "host.diffusers", "demo", ""},
    "demo": {
        "core",
        "host.diffusers",
        "cli",
        "torch",
        "numpy",
        "PIL",
        "safetensors",
        "diffusers",
        "transformers",
        "tqdm",
        "",
    },
    "": {""},
    "__main__": {"cli", ""},
}
