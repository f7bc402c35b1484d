"""Killed at any moment, between or during saves, a run resumes from a whole state to the very same result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POINTS = (
    # In the middle of the run and at its end: the record says so already, the bundle has its name or not, no state yet.
    "after:toy-000008.safetensors",
    "before:toy.safetensors",
    "after:toy.safetensors",
    # Only the state is missing, which is written to the end but has no name.
    "before:state-000012.safetensors",
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_run_goes_on_to_the_same_names_and_values():
    """A few of the moments at which ``tests.unit.kill_points`` kills without arguments."""
    command = [sys.executable, "-m", "tests.unit.kill_points", *POINTS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 kills, 4 resumed, 0 before the first state, 0 failures" in result.stdout
