"""Which webui this process is, and whether it can train."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib_pivotal.host.a1111.host import A1111Host
    from lib_pivotal.host.forge.host import ForgeHost
    from lib_pivotal.host.reforge.host import ReforgeHost

    Host = A1111Host | ForgeHost | ReforgeHost

__all__ = ["current_host", "read_contract", "read_forge_contract"]

_log = logging.getLogger("pivotal.host.detect")

_OLDEST = (1, 6)
_CALLED = ("function", "class", "dataclass", "method")
_PACKAGES = ("modules/", "modules_forge/", "backend/", "ldm_patched/")


def read_contract() -> list[dict[str, Any]]:
    """Every symbol of A1111 that we use, as ``contract.json`` lists them."""
    return _symbols("contract.json")


def read_forge_contract() -> list[dict[str, Any]]:
    """Every symbol of Forge and its relatives that we use, as ``forge_contract.json`` lists them."""
    return _symbols("forge_contract.json")


def _symbols(file: str) -> list[dict[str, Any]]:
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    symbols: list[dict[str, Any]] = json.loads(text)["symbols"]
    return symbols


def current_host() -> tuple[Host | None, str]:
    """The webui of this process, or None and a sentence that says why it cannot train.

    Host: modules/launch_utils.py, ``git_tag``, A1111 1.6.1-1.10.1: the tag, or the changelog's first line.
    Host: the package ``modules_forge`` exists in Forge and its relatives (reForge, Forge-classic) only.
    """
    if "modules.shared" not in sys.modules:
        return None, "This process is not a webui."
    if importlib.util.find_spec("modules_forge") is not None:
        return _forge_or_reforge()
    tag = _tag()
    numbers = _version(tag)
    if numbers is not None and numbers < _OLDEST:
        return None, f"This webui is {tag}; training needs 1.6 or newer."
    missing = _missing(item for item in read_contract() if not _is_later(item, numbers))
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


def _forge_or_reforge() -> tuple[ForgeHost | ReforgeHost | None, str]:
    """The same in Forge and its relatives.

    Host: modules_forge/forge_version.py, ``version``: ``2.0.1v1.10.1`` in Forge, ``1.0.0v2-v1.10.1RC`` in reForge,
        ``0.0.17v1.8.0rc`` in old Forge, ``classic`` in Forge-Classic, ``neo`` in Forge-Neo, which has its number in
        ``release``; the part behind ``v1.`` is A1111's.
    Host: the packages ``backend`` and ``ldm_patched``: Forge and Forge-Neo have the first one, the others the second.
    """
    module: Any = importlib.import_module("modules_forge.forge_version")
    version = str(module.version).partition("v1.")[0].rstrip("-")
    supported = "Forge 2, Forge-Neo, reForge 1 and AUTOMATIC1111 1.6.1 to 1.10.1"
    kinds = (("2.", "forge", "Forge"), ("neo", "forge-neo", "Forge-Neo"), ("1.", "reforge", "reForge"))
    found = next(((kind, name) for start, kind, name in kinds if version.startswith(start)), None)
    if found is None:
        return None, f"This webui is Forge {version}, and training is not supported in it yet; use {supported}."
    kind, name = found
    missing = _missing(item for item in read_forge_contract() if kind in item["hosts"])
    if missing:
        return None, f"This version of {name} is not supported. Missing in it: {', '.join(missing)}. Use {supported}."
    if kind != "reforge":
        from lib_pivotal.host.forge import make_host as make_forge

        number = str(getattr(module, "release", "")) if kind == "forge-neo" else version
        return make_forge(f"{name} {number}".strip()), ""
    from lib_pivotal.host.reforge import make_host as make_reforge

    return make_reforge(version), ""


def _is_later(symbol: Mapping[str, Any], version: tuple[int, ...] | None) -> bool:
    return version is not None and version < (_version(symbol.get("since", "1.6")) or _OLDEST)


def _missing(symbols: Iterable[Mapping[str, Any]]) -> list[str]:
    """Functions and classes of a contract that this webui does not have.

    Values are not checked: reading ``shared.sd_model`` would load a model.
    """
    missing = []
    for symbol in symbols:
        is_ours = symbol["file"].startswith(_PACKAGES) and symbol["kind"] in _CALLED
        if not is_ours:
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
