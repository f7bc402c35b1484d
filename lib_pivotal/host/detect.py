"""Which webui this process is, and whether it can train."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib_pivotal.host.a1111.host import A1111Host

__all__ = ["current_host", "read_contract"]

_log = logging.getLogger("pivotal.host.detect")

_OLDEST = (1, 6)
_CALLED = ("function", "class", "dataclass", "method")


def read_contract() -> list[dict[str, Any]]:
    """Every symbol of the webui that we use, as ``contract.json`` lists them."""
    text = (Path(__file__).parent / "contract.json").read_text(encoding="utf-8")
    symbols: list[dict[str, Any]] = json.loads(text)["symbols"]
    return symbols


def current_host() -> tuple[A1111Host | None, str]:
    """The webui of this process, or None and a sentence that says why it cannot train.

    Host: modules/launch_utils.py, ``git_tag``, A1111 1.6.1-1.10.1: the tag, or the changelog's first line.
    Host: the package ``modules_forge`` exists in Forge and its relatives (reForge, Forge-classic) only.
    """
    if "modules.shared" not in sys.modules:
        return None, "This process is not a webui."
    if importlib.util.find_spec("modules_forge") is not None:
        return None, "Training in Forge and reForge is not supported yet; use AUTOMATIC1111 1.6.1 to 1.10.1."
    tag = _tag()
    numbers = _version(tag)
    if numbers is not None and numbers < _OLDEST:
        return None, f"This webui is {tag}; training needs 1.6 or newer."
    missing = _missing_symbols(numbers)
    if missing:
        return None, "This webui is not supported. Missing in it: " + ", ".join(missing) + "."
    from lib_pivotal.host.a1111 import make_host

    return make_host(".".join(str(number) for number in numbers) if numbers else tag), ""


def _tag() -> str:
    """The webui's version; empty if it has none, and then ``git_tag`` is among the missing symbols."""
    try:
        launch_utils: Any = importlib.import_module("modules.launch_utils")
        return str(launch_utils.git_tag())
    except (ImportError, AttributeError):
        return ""


def _version(tag: str) -> tuple[int, ...] | None:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", tag)
    return tuple(int(number) for number in found.groups() if number) if found else None


def _missing_symbols(version: tuple[int, ...] | None) -> list[str]:
    """Functions and classes of the contract that this webui does not have.

    Values are not checked: reading ``shared.sd_model`` would load a model.
    """
    missing = []
    for symbol in read_contract():
        is_ours = symbol["file"].startswith("modules/") and symbol["kind"] in _CALLED
        is_later = version is not None and version < (_version(symbol.get("since", "1.6")) or _OLDEST)
        if not is_ours or is_later:
            continue
        module_name = symbol["file"][: -len(".py")].replace("/", ".")
        try:
            found: Any = importlib.import_module(module_name)
            for part in symbol["name"].split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            missing.append(f"{module_name}.{symbol['name']}")
    if missing:
        _log.warning("Host symbols not found: %s", ", ".join(missing))
    return missing
