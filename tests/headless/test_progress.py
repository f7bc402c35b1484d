"""What a run shows on the console."""

from __future__ import annotations

from lib_pivotal.core.events import MemoryEstimated, Validated
from lib_pivotal.host.diffusers.progress import ConsoleProgress


def test_measurements_are_shown_with_what_was_measured(capsys):
    progress = ConsoleProgress()
    progress.handle(Validated(0, 0.5, name_only=0.75, initialization=0.625))
    progress.handle(Validated(100, 0.25))
    assert capsys.readouterr().err.splitlines() == [
        "step 0: validation: full caption 0.5000, name only 0.7500, initialization text 0.6250",
        "step 100: validation: full caption 0.2500",
    ]


def test_the_peak_of_the_gpus_memory_is_shown_at_the_end(capsys):
    progress = ConsoleProgress()
    progress.handle(MemoryEstimated(needed=2**30, free=2**33, peak=None, saves=False))
    progress.handle(MemoryEstimated(needed=2**30, free=2**33, peak=5 * 2**29, saves=False))
    assert capsys.readouterr().err.splitlines() == ["peak GPU memory: 2.5 GiB including the model"]
