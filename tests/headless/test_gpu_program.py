"""The program for GPUs, tried without one on the embedded small model."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.gpu.__main__ import Program
from benchmarks.gpu.table import as_text


@pytest.mark.long
def test_steps_are_measured_and_a_missing_peer_is_reported(tmp_path) -> None:
    program = Program(tmp_path, torch.device("cpu"), is_trial=True)
    program.section("steps", program.steps)
    stored = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    rows = {row["what"]: row for row in stored["steps"]}
    assert not stored["failed"]
    for what in (
        "bare UNet",
        "ours, LoRA and embeddings",
        "ours, keeping less",
        "ours, keeping least",
        "ours, saving memory",
    ):
        assert rows[what]["ms"] > 0
    # Peers are optional: each is measured, or the table says what is missing.
    assert all("ms" in row or "peft" in row["problem"] for row in rows.values())
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert all(f"| {what} |" in text for what in rows)


def test_a_section_that_fails_is_reported_and_does_not_stop_the_others(tmp_path) -> None:
    program = Program(tmp_path, torch.device("cpu"), is_trial=True)

    def fail(_folder) -> None:
        raise RuntimeError("no more memory")

    program.section("first", fail)
    program.section("second", lambda _folder: {"verdict": "passed"})
    assert program.results["second"] == {"verdict": "passed"}
    assert "FAILED: first: RuntimeError: no more memory" in as_text(program.results)


def test_a_table_shows_every_kind_of_result() -> None:
    results = {
        "device": "card", "torch": "1", "diffusers": "2", "peft": "3",
        "steps": [
            {"model": "sd1", "precision": "fp16", "what": "ours", "ms": 12.34, "peak": 2**30, "held": 2**20},
            {"model": "sd1", "precision": "fp16", "what": "peft", "problem": "missing"},
        ],
        "waits": {"sd1": {"core/loop.py:7": 2.0}},
        "busy": {"sd1": {"busy_ms": 5.0, "ms": 10.0, "share": 0.5, "kernels": 100.0, "longest": {}}},
        "precision": {"fp32": {"loss": 0.1, "difference": 0.0, "largest": 0.0, "skipped": 0, "steps": 4}},
        "tests": {"verdict": "passed", "seconds": 3.0},
    }  # fmt: skip
    text = as_text(results)
    for part in ("12.3 | 1024 | 1 |", "missing", "waits for the GPU 2.0 times", "5.0 of 10.0 ms (50%)", "0 of 4",
                 "tests: passed in 3 s"):  # fmt: skip
        assert part in text
