"""A run that is killed between or during saves resumes from a complete state and ends with the same result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POINTS = (
    # In the middle of the run: its first bundle is written, the state of the same step is not yet.
    "after:toy-000008.safetensors",
    # At its end: only the last state is missing. It is written completely, but still has its temporary name.
    "before:state-000012.safetensors",
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_run_resumes_and_ends_with_the_same_files():
    """Two of the moments at which ``python -m tests.unit.kill_points`` kills; it needs minutes for all of them."""
    command = [sys.executable, "-m", "tests.unit.kill_points", *POINTS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kills, 2 resumed, 0 before the first state, 0 failures" in result.stdout
