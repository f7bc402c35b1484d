"""The webui's own source against ``host/contract.json``, so that a changed host is noticed here first."""

from __future__ import annotations

import ast
import os
import re
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_pivotal.core.bundle.metadata import RunFacts, build_metadata, changed_metadata
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.host.detect import read_contract, read_forge_contract
from tests.contract.host_tree import complaint, version_of

_ROOT = Path(__file__).resolve().parents[2]
_ADAPTERS = ("webui", "a1111", "forge", "reforge", "bundle_prompts")
_PACKAGES = ("modules", "backend", "ldm_patched")


def _trees() -> list[Path]:
    chosen = os.environ.get("PIVOTAL_WEBUI")
    trees = [Path(chosen) if chosen else Path.home() / "stable-diffusion-webui"]
    trees += sorted((Path.home() / "webui-src").glob("1.*")) + sorted(Path.home().glob("webui-1.*"))
    return [tree for tree in trees if (tree / "modules" / "processing.py").exists()]


def _check(tree: Path) -> list[str]:
    version = version_of(tree)
    complaints = []
    for symbol in read_contract():
        since = tuple(int(part) for part in symbol.get("since", "1.6").split("."))
        is_repository = symbol["file"].startswith("repositories/")
        if version < since or (is_repository and not (tree / symbol["file"]).exists()):
            continue
        problem = complaint(tree, symbol)
        if problem:
            complaints.append(f"{symbol['file']}: {problem}")
    return complaints


def test_webui_has_what_the_contract_lists() -> None:
    trees = _trees()
    if not trees:
        message = "NO WEBUI TREE FOUND: the host contract was not compared with a real webui (set PIVOTAL_WEBUI)."
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    found = {str(version_of(tree)): _check(tree) for tree in trees}
    assert all(not complaints for complaints in found.values()), found


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("SdModelData.gone", None),
        ("reload_model_weights", {"positional": 0, "keywords": ["no_such_parameter"]}),
        ("apply_token_merging", {"positional": 1, "keywords": []}),
        ("apply_token_merging", {"positional": 2, "optional": 1, "keywords": []}),
    ],
)
def test_reader_notices_changed_symbols(name: str, call: dict[str, object] | None) -> None:
    trees = _trees()
    if not trees:
        pytest.skip("no webui tree")
    symbol = {"file": "modules/sd_models.py", "name": name, "kind": "function" if call else "attribute"}
    assert complaint(trees[0], {**symbol, "call": call} if call else symbol)


def test_every_host_symbol_in_the_adapter_is_in_the_contract() -> None:
    """``from modules import x`` followed by ``x.name`` anywhere in the adapter must be listed."""
    symbols = [*read_contract(), *read_forge_contract()]
    listed = {(Path(symbol["file"]).stem, symbol["name"].split(".")[0]) for symbol in symbols}
    missing = []
    host = _ROOT / "lib_pivotal" / "host"
    for source in [path for name in _ADAPTERS for path in (host / name).glob("*.py")]:
        parsed = ast.parse(source.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom)]
        hosts = {alias.name for node in imports if (node.module or "").startswith(_PACKAGES) for alias in node.names}
        for node in ast.walk(parsed):
            is_use = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in hosts
            if is_use and (node.value.id, node.attr) not in listed:
                missing.append(f"{source.name}:{node.lineno} {node.value.id}.{node.attr}")
    assert not missing


def test_every_host_line_of_the_adapters_names_symbols_of_the_contract() -> None:
    """``Host: FILE, ``symbol``, VERSIONS: what is assumed of it``; the trees then show whether the symbol is there."""
    host, listed = _ROOT / "lib_pivotal" / "host", set()
    for symbol in [*read_contract(), *read_forge_contract()]:
        listed |= {*symbol["name"].split("."), "--" + symbol["name"]}
    unknown = []
    for source in [path for name in _ADAPTERS for path in (host / name).glob("*.py")]:
        text = re.sub(r"\s*\n\s*(?:# ?)?", " ", source.read_text(encoding="utf-8"))
        for head in re.findall(
            r"(?<!`)Host: ((?:modules|extensions|ldm|sgm|backend|networks?\.py|text).+?)(?=: |\. )", text
        ):
            symbols = re.findall(r"``(.+?)``", head)
            if not symbols or not {part for symbol in symbols for part in symbol.split(".")} <= listed:
                unknown.append(f"{source.name}: {head}")
    assert not unknown, "\n".join(unknown)


def _version_by_the_webui(tree: Path, metadata: dict[str, str]) -> str:
    """What the tree's own function makes of a file's metadata."""
    parsed = ast.parse((tree / "extensions-builtin" / "Lora" / "network.py").read_text(encoding="utf-8"))
    function = next(
        node for node in ast.walk(parsed) if isinstance(node, ast.FunctionDef) and node.name == "detect_version"
    )
    versions = types.SimpleNamespace(SD1="SD1", SD2="SD2", SDXL="SDXL", Unknown="Unknown")
    scope: dict[str, Any] = {"SdVersion": versions}
    exec(compile(ast.Module([function], []), "network.py", "exec"), scope)
    return str(scope["detect_version"](types.SimpleNamespace(metadata=metadata)))


def test_webui_sees_the_family_of_what_we_write() -> None:
    trees = _trees()
    if not trees:
        pytest.skip("no webui tree")
    config = TrainConfig(concepts=(Concept(name="zog"),))
    facts: dict[str, Any] = {"model_name": "m", "model_hash": "", "is_v_prediction": False, "image_count": 1}
    vectors = {"zog": {"clip_l": torch.ones(1, 8)}}
    facts |= {"step": 1, "output_name": "x", "date": "2026-01-01T00:00:00Z"}
    for tree in trees:
        for name, family in FAMILIES.items():
            ours = build_metadata(config, vectors, RunFacts(family=name, **facts))
            assert _version_by_the_webui(tree, ours) == family.title
            assert _version_by_the_webui(tree, changed_metadata(ours, "x", "y")) == family.title
