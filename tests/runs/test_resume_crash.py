"""A run that is killed between or during saves resumes from a complete state and ends with the same result."""

from __future__ import annotations

import os

import pytest

from tests.runs import kill_points

POINTS = (
    # In the middle of the run: its first bundle is written, the state of the same step is not yet.
    "after:toy-000008.safetensors",
    # At its end: only the last state is missing. It is written completely, but still has its temporary name.
    "before:state-000012.safetensors",
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_killed_run_resumes_and_ends_with_the_same_files(capsys):
    """Two of the moments at which ``python -m tests.runs.kill_points`` kills; it needs minutes for all of them."""
    failures = kill_points.main(list(POINTS))
    said = capsys.readouterr().out
    assert failures == 0, said
    assert "2 kills, 2 resumed, 0 before the first state, 0 failures" in said
