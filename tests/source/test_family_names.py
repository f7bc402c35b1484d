"""Differences between model families are decided in one place: no other code tests a family by its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lib_pivotal.core.families import FAMILIES
from tests.source.parsed import nodes_of, tree_of

PACKAGE = Path(__file__).parents[2] / "lib_pivotal"
NAMES = set(FAMILIES)
TITLES = {family.title for family in FAMILIES.values()}
DETECTION = {"host/a1111/family.py": "family_of"}
"""The one function of each host that finds out which family a model belongs to."""


def decides(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a constant is compared, matched or looked up."""
    parent = parents[node]
    while isinstance(parent, (ast.Tuple, ast.List, ast.Set)):
        node, parent = parent, parents[parent]
    if isinstance(parent, ast.Dict):
        return node in parent.keys
    return isinstance(parent, (ast.Compare, ast.MatchValue, ast.Subscript))


def is_prefix(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a constant is a required prefix or suffix."""
    parent = parents[node]
    return isinstance(parent, ast.Call) and ast.unparse(parent.func).endswith((".startswith", ".endswith"))


def family_strings(tree: ast.Module, *, detection: str = "", may_name: bool = False) -> list[int]:
    """Lines on which the text of a family's name or title decides something.

    Args:
        detection: name of the function that may return names.
        may_name: whether a name may be passed to a function, by code that makes a model of that family.
    """
    parents = {child: node for node in nodes_of(tree) for child in ast.iter_child_nodes(node)}
    skipped = {
        id(child)
        for node in nodes_of(tree)
        if isinstance(node, ast.FunctionDef) and node.name == detection
        for child in ast.walk(node)
    }
    lines = []
    for node in nodes_of(tree):
        if id(node) in skipped or not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        text = node.value
        if is_prefix(node, parents):
            is_found = text.startswith((*NAMES, *TITLES))
        elif text in NAMES:
            is_found = not (may_name and isinstance(parents[node], ast.Call))
        else:
            is_found = text in TITLES and decides(node, parents)
        if is_found:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    [
        'if family == "sdxl": pass',
        'if family in ("sd1", "sd2"): pass',
        'x = {"sd1": 1}',
        'x = {"SDXL": 1}',
        'x = table["sd2"]',
        'x = version.startswith("sdxl_")',
        'x = title != "SD2"',
        'def f(family="sd1"): pass',
        'def f(family):\n    match family:\n        case "sdxl": pass',
    ],
)
def test_the_search_finds_every_form_of_a_family_test(source):
    assert family_strings(ast.parse(source), detection="detect")
    assert family_strings(ast.parse(source), may_name=True)


def test_the_search_lets_words_and_detection_pass():
    assert not family_strings(
        ast.parse('hint = "SD1, SD2 and SDXL checkpoints."\nx = {"sdxl_crop_top": 0}\ny = model.is_sdxl')
    )
    assert not family_strings(ast.parse('def detect(model):\n    return "sdxl"'), detection="detect")
    assert not family_strings(ast.parse('to_ldm(unet, vae, text, "sd1")'), may_name=True)
    assert family_strings(ast.parse('to_ldm(unet, vae, text, "sd1")'))


def test_no_family_is_tested_by_its_name_outside_families():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        lines = family_strings(tree_of(path), detection=DETECTION.get(name, ""), may_name=name.startswith("demo/"))
        if lines and name != "core/families.py":
            found[name] = lines
    assert not found, f"{found} test a family by its name: make it a field of core.families.Family"
