"""Differences between model families are decided in one place, and the values there are the known ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.families import FAMILIES, family_of_metadata
from lib_pivotal.core.lora.naming import diffusers_to_ldm, kohya_key
from lib_pivotal.core.train.memory import plan_memory
from tests.unit.source import nodes_of, tree_of

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


@pytest.mark.parametrize(
    ("name", "prefixes", "upsampler"),
    [
        ("sd1", {"clip_l": "lora_te_"}, "output_blocks.2.1.conv"),
        ("sd2", {"clip_l": "lora_te_"}, "output_blocks.2.1.conv"),
        ("sdxl", {"clip_l": "lora_te1_", "clip_g": "lora_te2_"}, "output_blocks.2.2.conv"),
    ],
)
def test_keys_of_each_family(name, prefixes, upsampler):
    assert {encoder.name: encoder.lora_prefix for encoder in FAMILIES[name].text_encoders} == prefixes
    for part, prefix in prefixes.items():
        assert kohya_key(part, "text_model.final_layer_norm", name) == f"{prefix}text_model_final_layer_norm"
    assert diffusers_to_ldm("up_blocks.0.upsamplers.0.conv", name) == upsampler
    assert diffusers_to_ldm("up_blocks.1.upsamplers.0.conv", name) == "output_blocks.5.2.conv"
    with pytest.raises(ValueError, match="clip_h"):
        kohya_key("clip_h", "text_model.x", name)


@pytest.mark.parametrize(("name", "fast", "saving"), [("sd1", 237, 36), ("sd2", 217, 25), ("sdxl", 432, 29)])
def test_memory_of_each_family(name, fast, saving):
    def needed(mode):
        sizes = {"trained_count": 0, "cells": 4096, "batch_size": 2}
        return plan_memory(name, torch.device("cpu"), mode=mode, checkpoints=False, **sizes).needed

    # Besides the difference in what is kept, gradients and workspaces need 52 KiB less with checkpointing.
    assert needed("fast") - needed("save") == 8192 * 1024 * (fast - saving + 52)
    assert 8192 * 1024 * saving < needed("save") < 8192 * 1024 * (saving + 100)


@pytest.mark.parametrize(
    ("name", "cells", "is_v_prediction", "px"),
    [
        ("sd1", 64, False, 512),
        ("sd1", 96, False, 768),
        ("sd1", 64, True, 512),
        ("sd1", None, False, 512),
        ("sd2", 64, False, 512),
        ("sd2", 64, True, 768),
        ("sd2", 96, True, 768),
        ("sd2", None, False, 768),
        ("sdxl", 128, False, 1024),
        ("sdxl", "128", True, 1024),
    ],
)
def test_resolution_from_a_configuration(name, cells, is_v_prediction, px):
    assert FAMILIES[name].resolution_for(cells, is_v_prediction=is_v_prediction) == px


@pytest.mark.parametrize(
    ("version", "is_v2", "title"),
    [
        ("sd_v1", "False", "SD1"),
        ("sd_v1", "", "SD1"),
        ("sd_v2", "True", "SD2"),
        ("sd_v2_768_v", "True", "SD2"),
        ("", "True", "SD2"),
        ("sdxl_base_v1-0", "False", "SDXL"),
        ("sdxl_base_v1-0", "True", "SDXL"),
        ("sd3", "False", ""),
        ("", "", ""),
    ],
)
def test_family_from_metadata(version, is_v2, title):
    metadata = {key: value for key, value in (("ss_base_model_version", version), ("ss_v2", is_v2)) if value}
    family = family_of_metadata(metadata)
    assert (family.title if family else "") == title


def test_what_is_written_names_the_family_that_is_read_back():
    for family in FAMILIES.values():
        written = {"ss_base_model_version": family.base_version, "ss_v2": str(family.is_v2)}
        assert family_of_metadata(written) is family
