"""What the tab says about the state of a run."""

from __future__ import annotations

from lib_pivotal.app.status import IDLE
from lib_pivotal.ui.panels import show_status


def test_the_memory_of_a_run_is_shown_and_its_peak_once_it_is_known():
    memory = {"needed_mib": 2560, "free_mib": 8192, "peak_mib": None, "saves": True}
    before = show_status({**IDLE, "state": "training", "memory": memory})
    assert "about 2.5 GiB needed" in before and "8.0 GiB free" in before and "Memory-saving mode is on" in before
    assert "Peak" not in before
    after = show_status({**IDLE, "state": "done", "memory": {**memory, "peak_mib": 3072, "saves": False}})
    assert "Peak: 3.0 GiB including the model" in after and "Memory-saving" not in after
    assert "GPU memory" not in show_status({**IDLE, "memory": {**memory, "free_mib": None}})
