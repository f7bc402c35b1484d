"""The one direction of imports: scripts → ui → app → core, host → core, cli → app, host.diffusers."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

from tests.source.parsed import nodes_of, tree_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lib_pivotal"
LIBRARIES = {"torch", "numpy", "PIL", "safetensors"}

# Layer → our layers and the packages that it may import, also inside functions. The longest name applies.
MAY_IMPORT = {
    "": set(),
    "__main__": {"cli"},
    "core": {"core", *LIBRARIES},
    "core.config": {"core.config", "core.errors", "core.families", "core.printable"},
    "core.families": {"core.errors"},
    # PyYAML, inside a function: the webui has it, and only one format needs it.
    "core.importers": {"core", "yaml"},
    "host": {"core", *LIBRARIES},
    "host.detect": {"host.a1111", "host.forge", "host.reforge"},
    "host.webui": {"core", "host.webui", "modules", *LIBRARIES},
    "host.a1111": {"core", "host.a1111", "host.detect", "host.offload", "host.webui", "modules", *LIBRARIES},
    "host.forge": {"core", "host.forge", "host.webui", "modules", "modules_forge", "backend", *LIBRARIES},
    # It has A1111's model and Forge's memory management.
    "host.reforge": {"core", "host.a1111", "host.reforge", "host.webui", "modules", "ldm_patched", *LIBRARIES},
    "host.bundle_prompts": {"core", "host.bundle_prompts", "host.webui", "modules", *LIBRARIES},
    "host.diffusers": {
        "core",
        "host.diffusers",
        "host.offload",
        "diffusers",
        "transformers",
        "tqdm",
        "yaml",
        *LIBRARIES,
    },
    "app": {"app", "core"},
    "app.api": {"app", "core", "fastapi"},
    "app.api_answers": {"app", "core", "fastapi"},
    "app.bundled_names": {"app", "core", "fastapi"},
    "ui": {"ui", "app", "core.config", "core.errors", "core.printable", "gradio", "PIL"},
    "cli": {"cli", "app", "core", "host.diffusers", *LIBRARIES},
    "demo": {"demo", "core", "cli", "host.diffusers", "diffusers", "transformers", *LIBRARIES},
}
WITHOUT_TORCH = (
    "core.config",
    "core.families",
    "core.importers",
    "core.errors",
    "core.events",
    "core.ports",
    "core.process_group",
    "app",
    "ui",
)


def module_name(path: Path) -> str:
    """Dotted name below the package; a package's own file is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(name: str) -> str:
    """The longest row of the table that ``name`` belongs to."""
    fitting = [layer for layer in MAY_IMPORT if name == layer or name.startswith(f"{layer}.") or layer == ""]
    return max(fitting, key=len)


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """What a file imports, see :func:`imports`."""
    return frozenset(imports(tree_of(path)))


def imports(tree: ast.AST) -> set[str]:
    """Everything imported, with the package's name in front; type-only imports left out."""
    typing_only = {
        id(child)
        for node in nodes_of(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    found = set()
    for node in nodes_of(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            is_package = (ROOT / (node.module or "").replace(".", "/")).is_dir()
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if is_package else {node.module or ""}
    return found


def allowed(target: str, permitted: set[str]) -> bool:
    if target == "lib_pivotal" or target == "lib_pivotal.__version__":
        return True
    if target.startswith("lib_pivotal."):
        target = target.removeprefix("lib_pivotal.")
        return any(target == name or target.startswith(f"{name}.") for name in permitted)
    top = target.split(".")[0]
    return top in sys.stdlib_module_names or top in permitted


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_follow_the_layers(path):
    permitted = MAY_IMPORT[layer_of(module_name(path))]
    forbidden = [target for target in imports_of(path) if not allowed(target, permitted)]
    assert not forbidden, f"{module_name(path)} must not import {', '.join(sorted(forbidden))}"


def test_tab_and_settings_load_without_torch():
    """Top-level imports of these layers never reach torch."""
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        tree = tree_of(path)
        top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        graph[module_name(path)] = imports(top)
    seen: set[str] = set()
    waiting = [name for name in graph if layer_of(name) in WITHOUT_TORCH or name in WITHOUT_TORCH]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for target in graph.get(name, ()):
            assert target.split(".")[0] not in ("torch", "numpy", "safetensors"), f"{name} imports {target}"
            if target.startswith("lib_pivotal."):
                short = target.removeprefix("lib_pivotal.")
                waiting += [short, short.rpartition(".")[0]]


def test_scripts_are_thin():
    for path in (ROOT / "scripts").glob("*.py"):
        tree = tree_of(path)
        assert len(path.read_text("utf-8").splitlines()) <= 40, path.name
        assert not any(isinstance(node, ast.ClassDef) for node in nodes_of(tree)), path.name


BASE = {
    "atomic_file",
    "errors",
    "events",
    "families",
    "file_lock",
    "folder_walk",
    "negative_rows",
    "png_file",
    "ports",
    "printable",
    "process",
    "process_group",
    "to_device",
    "torch_version",
}
"""Files at the top of core, which every room may use."""
ROOMS = {
    "activations": set(),
    "optim": set(),
    "diffusion": set(),
    "config": set(),
    "bundle": {"config"},
    "checkpoint_file": {"bundle"},
    "prompt_names": {"bundle"},
    "lora": {"activations", "optim"},
    "textual_inversion": {"config", "optim"},
    "data": {"bundle", "config"},
    "core_tags": {"config", "data"},
    "importers": {"bundle", "config", "data"},
    "samples": {"config"},
    "train": {
        "activations",
        "bundle",
        "config",
        "core_tags",
        "data",
        "diffusion",
        "lora",
        "optim",
        "textual_inversion",
    },
    "fuse": {"bundle", "config", "core_tags", "data", "diffusion", "lora", "textual_inversion", "train"},
}
"""Room of core → the rooms it may import; each only rooms above it in this table."""


def core_imports() -> dict[str, set[str]]:
    """Module of core → modules of core that it imports."""
    found = {}
    for path in (PACKAGE / "core").rglob("*.py"):
        targets = {target.removeprefix("lib_pivotal.") for target in imports_of(path)}
        found[module_name(path)] = {target for target in targets if target.startswith("core.")}
    return found


def test_rooms_of_core_import_in_one_direction():
    earlier: set[str] = set()
    for room, permitted in ROOMS.items():
        assert permitted <= earlier, f"{room} may import a room that comes after it"
        earlier.add(room)
    wrong = []
    for module, targets in core_imports().items():
        room = module.split(".")[1] if "." in module else ""
        for target in targets:
            other = target.split(".")[1]
            if other not in BASE | ROOMS.get(room, BASE) | {room}:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_no_files_of_core_import_each_other_in_a_circle():
    graph = core_imports()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
