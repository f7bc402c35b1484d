"""reForge's own memory management, in its own Python: with too little memory, training is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.contract.host_tree import require_installed

_CHECKS = Path(__file__).with_name("reforge_memory_checks.py")


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """What happens with enough memory, with too little at first, and with too little."""
    tree, python = require_installed("reforge")
    command = [str(python), str(_CHECKS), str(tree)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr[-4000:]
    answer: list[dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    return answer


@pytest.mark.long
def test_weights_that_are_all_on_the_device_can_be_trained(found: list[dict[str, Any]]) -> None:
    """Also where everything else had to be unloaded first."""
    for case in found[:2]:
        assert case == {"said": "", "left": [False, False], "usable": True, "loaded": 0}


@pytest.mark.long
def test_weights_that_stay_in_main_memory_are_refused_with_the_remedy(found: list[dict[str, Any]]) -> None:
    case = found[2]
    assert case["left"] == [True, True]
    assert case["said"].startswith("The GPU has too little free memory for the whole model")
    assert case["said"].endswith("Close other programs that use the GPU.")
    assert case["loaded"] == 0
