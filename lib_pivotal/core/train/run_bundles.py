"""Finds the newest run, and the bundles that it saved after some of its steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_pivotal.core.train.step_bundles import read_own_files, step_bundles

__all__ = ["RunBundles", "newest_bundles"]

_STAMP = re.compile(r"-(\d{8}-\d{6})(?:-(\d+))?$")
"""End of the name of a run folder, see ``run_folder.make_run_folder``."""


@dataclass(frozen=True)
class RunBundles:
    """The bundles of a run that exist.

    Attributes:
        name: of the bundle without step number, also without suffix.
        steps: step → name of the file without suffix, steps ascending; only those next to the final one.
    """

    name: str
    steps: Mapping[int, str] = field(default_factory=dict)


def newest_bundles(root: Path, bundles: Path) -> RunBundles | None:
    """The bundles of the newest run that saved any; None if there is none.

    Args:
        root: parent of the ``runs`` folder.
        bundles: folder of the bundles.
    """
    for run in sorted((root / "runs").glob("*"), key=_age, reverse=True):
        own = read_own_files(run, bundles)
        if own.bundle_name and own.names():
            # Only files in the folder of the bundles have a name in prompts.
            steps = {step: file.stem for step, file in step_bundles(run, bundles).items() if file.parent == bundles}
            return RunBundles(own.bundle_name, steps)
    return None


def _age(run: Path) -> tuple[str, int]:
    found = _STAMP.search(run.name)
    return (found[1], int(found[2] or 0)) if found else ("", 0)
