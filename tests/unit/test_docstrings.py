"""Every public thing of the core says what it takes and gives."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "lib_pivotal" / "core"
FILES = sorted(CORE.rglob("*.py"))
KNOWN_ERRORS = {"BundleError", "ConfigError", "DatasetError", "HostError", "Interrupted", "OutOfMemory", "PivotalError"}


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORE).as_posix())
def test_public_things_are_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the file has no docstring"
    complaints = []
    for name, node in public(tree.body):
        text = ast.get_docstring(node) or ""
        if not text:
            complaints.append(f"{name} has no docstring")
        if not isinstance(node, ast.FunctionDef):
            continue
        if tensor_arguments(node) and "shape" not in text.lower() and "``(" not in text and "0-dim" not in text:
            complaints.append(f"{name} takes tensors and does not say their shapes")
        raised = {
            ast.unparse(item.exc.func) for item in ast.walk(node) if isinstance(item, ast.Raise) and isinstance(item.exc, ast.Call)
        }  # fmt: skip
        for error in sorted(raised & KNOWN_ERRORS):
            if error not in text:
                complaints.append(f"{name} raises {error} and does not say so")
    assert not complaints


def test_exported_names_are_sorted_and_exist():
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
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
