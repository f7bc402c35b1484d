"""Reads a webui's source with ``ast``: does it have a symbol, and can it be called the way we call it?"""

from __future__ import annotations

import ast
import functools
import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import find_python, find_webui, kind_of

__all__ = ["complaint", "find_tree", "require_installed", "version_of"]

_CHOSEN = {"forge": "PIVOTAL_FORGE", "forge-neo": "PIVOTAL_FORGE_NEO", "reforge": "PIVOTAL_REFORGE"}
"""Relative of A1111 → environment variable with the folder of an installed one."""


def find_tree(host: str) -> Path | None:
    """Source of a relative of A1111, such as ``reforge``: below ``$PIVOTAL_TREES`` or ``~/webui-src``, or installed."""
    home = Path.home()
    folders = [Path(os.environ.get("PIVOTAL_TREES") or home / "webui-src") / host]
    if os.environ.get(_CHOSEN.get(host, "")):
        folders.append(Path(os.environ[_CHOSEN[host]]))
    folders += [home / f"stable-diffusion-webui-{name}" for name in (host, host.replace("forge", "Forge"))]
    folders.append(home / f"sd-webui-{host}")
    return next((tree for tree in folders if (tree / "modules" / "processing.py").exists()), None)


def require_installed(host: str) -> tuple[Path, Path]:
    """Source and interpreter of an installed relative of A1111; skips the test loudly where there is none."""
    chosen = find_webui()
    tree = chosen if chosen and kind_of(chosen) == host else find_tree(host)
    python = find_python(tree) if tree else None
    if tree is None or python is None:
        message = f"NO INSTALLED {host.upper()} FOUND: its own classes were not run (set {_CHOSEN[host]})."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return tree, python


def version_of(tree: Path) -> tuple[int, ...]:
    """The webui's version from the head of its changelog."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", (tree / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert found, f"no version in {tree}"
    return tuple(int(number) for number in found.groups() if number)


def complaint(tree: Path, symbol: dict[str, Any]) -> str | None:
    """What is wrong with one entry of the contract in this tree, or None."""
    source = tree / symbol["file"]
    if not source.exists():
        return f"{symbol['file']} does not exist"
    parsed = _parse(source)
    name, kind = symbol["name"], symbol["kind"]
    if kind in ("option", "flag"):
        text = name if kind == "option" else "--" + name
        return None if text in _constants(parsed) else f"no {kind} {text}"
    owner, _, last = name.rpartition(".")
    scope = _class_chain(parsed, owner) if owner else [parsed]
    if kind in ("value", "attribute"):
        return None if any(last in _names(node) for node in scope) else f"no {kind} {name}"
    node = _definition(scope, last)
    if node is None:
        return f"no {kind} {name}"
    if kind == "dataclass":
        unknown = set(symbol["call"]["keywords"]) - _fields(_class_chain(parsed, name))
        return f"{name} has no field {sorted(unknown)}" if unknown else None
    return _call_complaint(node, symbol["call"], is_bound=bool(owner)) if "call" in symbol else None


@functools.cache
def _parse(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


@functools.cache
def _constants(parsed: ast.Module) -> set[str]:
    return {node.value for node in ast.walk(parsed) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _class_chain(parsed: ast.Module, name: str) -> list[ast.ClassDef]:
    """The class and those of its bases that the same file defines."""
    classes = _classes(parsed)
    chain, queue = [], [name]
    while queue:
        node = classes.get(queue.pop(0))
        if node is not None and node not in chain:
            chain.append(node)
            queue += [base.id for base in node.bases if isinstance(base, ast.Name)]
    return chain


@functools.cache
def _classes(parsed: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.walk(parsed) if isinstance(node, ast.ClassDef)}


@functools.cache
def _names(scope: ast.Module | ast.ClassDef) -> set[str]:
    """Names bound in a module or class body, and attributes that methods set on self."""
    names = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def _definition(scope: list[Any], name: str) -> Any:
    for owner in scope:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
                return node
    return None


def _fields(chain: list[ast.ClassDef]) -> set[str]:
    """Init parameters of a dataclass: its annotated fields without ``init=False``, and those of its bases."""
    names = set()
    for node in chain:
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                text = ast.unparse(item.value) if item.value else ""
                if "init=False" not in text.replace(" ", ""):
                    names.add(item.target.id)
    return names


def _call_complaint(node: Any, call: dict[str, Any], *, is_bound: bool) -> str | None:
    if isinstance(node, ast.ClassDef):
        node, is_bound = _definition([node], "__init__"), True
        if node is None:
            return None
    arguments = node.args
    positional = [item.arg for item in [*arguments.posonlyargs, *arguments.args]]
    if is_bound:
        positional = positional[1:]
    keywords = {item.arg for item in arguments.kwonlyargs}
    least = call["positional"] - call.get("optional", 0)
    given = set(positional[:least]) | set(call["keywords"])
    if call["positional"] > len(positional) and arguments.vararg is None:
        return f"takes {len(positional)} positional arguments, we pass {call['positional']}"
    unknown = set(call["keywords"]) - set(positional) - keywords
    if unknown and arguments.kwarg is None:
        return f"has no parameter {sorted(unknown)}"
    required = positional[: len(positional) - len(arguments.defaults)]
    missing = [name for name in required if name not in given]
    return f"also needs {missing}" if missing else None
