"""What a run shows on the console."""

from __future__ import annotations

from lib_pivotal.core.events import Validated
from lib_pivotal.host.diffusers.progress import ConsoleProgress


def test_measurements_are_shown_with_what_was_measured(capsys):
    progress = ConsoleProgress()
    progress.handle(Validated(0, 0.5, name_only=0.75, initialization=0.625))
    progress.handle(Validated(100, 0.25))
    assert capsys.readouterr().err.splitlines() == [
        "step 0: validation: full caption 0.5000, name only 0.7500, initialization text 0.6250",
        "step 100: validation: full caption 0.2500",
    ]
