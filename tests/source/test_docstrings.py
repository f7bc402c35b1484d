"""Every public function and class of the core documents its arguments and results."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lib_pivotal.core import errors
from tests.source.parsed import nodes_of, tree_of

CORE = Path(__file__).parents[2] / "lib_pivotal" / "core"
FILES = sorted(CORE.rglob("*.py"))
KNOWN_ERRORS = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
}

CITATION = re.compile(r"et al\.|arxiv|\beq\.|\balgorithm \d|[A-Z]\w+ & [A-Z]\w+ (19|20)\d\d")
FROM_ELSEWHERE = {
    "diffusion/objective.py": ("min_snr_weight", "debiased_weight", "zero_terminal", "Objective.losses"),
    "lora/lora.py": ("",),
    "optim/build.py": ("Optimizer",),
    "bundle/metadata.py": ("build_metadata",),
}
"""Formulas and formats published by others; "" is the file's own docstring."""

UNITS = {
    "width": r"\bpx\b|pixel|length of a token",
    "height": r"\bpx\b|pixel",
    "resolution": r"\bpx\b|pixel",
    "native_resolution": r"\bpx\b|pixel",
    "bucket": r"\bpx\b|pixel",
    "seconds": r"\bs\b|second",
    "size_limit": r"byte",
}
"""Names of arguments and attributes with a unit, and how their docstring may give it."""


def public(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, ast.AST]]:
    """Public classes, functions and methods with their names."""
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += [(prefix + node.name, node), *public(node.body, f"{prefix}{node.name}.")]
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found.append((prefix + node.name, node))
    return found


def tensor_arguments(node: ast.FunctionDef) -> list[str]:
    """Arguments that are tensors."""
    named = [argument for argument in node.args.args + node.args.kwonlyargs if argument.annotation is not None]
    return [argument.arg for argument in named if ast.unparse(argument.annotation) in ("torch.Tensor", "np.ndarray")]


def raised_by(node: ast.AST, private: dict[str, ast.FunctionDef], seen: frozenset[str] = frozenset()) -> set[str]:
    """Errors that a function raises, itself or through private functions of its file."""
    found = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Raise) and isinstance(item.exc, ast.Call):
            found.add(ast.unparse(item.exc.func))
        elif isinstance(item, ast.Call):
            name = ast.unparse(item.func).removeprefix("self.")
            if name in private and name not in seen:
                found |= raised_by(private[name], private, seen | {name})
    return found & KNOWN_ERRORS


def documented(tree: ast.Module) -> list[tuple[str, ast.AST, str]]:
    """Name, node and docstring of a file ("") and its public things."""
    return [(name, node, ast.get_docstring(node) or "") for name, node in [("", tree), *public(tree.body)]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_public_names_are_documented(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the file has no docstring"
    private = {
        node.name: node for node in nodes_of(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("_")
    }
    complaints = []
    for name, node, text in documented(tree):
        if not text:
            complaints.append(f"{name} has no docstring")
        if not isinstance(node, ast.FunctionDef):
            continue
        if tensor_arguments(node) and "shape" not in text.lower() and "``(" not in text and "0-dim" not in text:
            complaints.append(f"{name} takes tensors and does not say their shapes")
        for error in sorted(raised_by(node, private)):
            if error not in text:
                complaints.append(f"{name} raises {error} and does not say so")
    assert not complaints


def words_about(argument: str, text: str) -> str:
    """The argument's own entry where a docstring has one, else all of it."""
    entry = re.search(rf"^ *{argument}: .*(?:\n(?! *\w+: ) +.*)*", text, re.MULTILINE)
    return entry.group() if entry and "Args:" in text else text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_formulas_name_their_source_and_quantities_their_unit(path):
    tree = tree_of(path)
    taken = FROM_ELSEWHERE.get(path.relative_to(CORE).as_posix(), ())
    things = documented(tree)
    assert set(taken) <= {name for name, _, _ in things}
    complaints = []
    for name, node, text in things:
        said = text
        source = text.partition("Source:")[2]
        if (name in taken or CITATION.search(text)) and "https://" not in source:
            complaints.append(f"{name or 'the file'} follows a publication and has no Source: with its address")
        if isinstance(node, ast.FunctionDef):
            numbers = [item.arg for item in node.args.args + node.args.kwonlyargs]
        elif isinstance(node, ast.ClassDef):
            numbers = [ast.unparse(item.target) for item in node.body if isinstance(item, ast.AnnAssign)]
            # An attribute may have a docstring of its own, or words in its metadata.
            said = ast.unparse(node)
        else:
            continue
        complaints += [
            f"{name} does not say the unit of {number}"
            for number in numbers
            if number in UNITS and not re.search(UNITS[number], words_about(number, said), re.IGNORECASE)
        ]
    assert not complaints


def test_exported_names_are_sorted_and_exist():
    for path in FILES:
        tree = tree_of(path)
        exported = [
            node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ]
        if not exported:
            assert path.name == "__init__.py", path
            continue
        names = ast.literal_eval(exported[0].value)
        assert sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == names, path
        defined = set()
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                defined.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {ast.unparse(target) for target in targets}
            elif isinstance(node, ast.ImportFrom):
                defined |= {alias.name for alias in node.names}
        assert set(names) <= defined, path
