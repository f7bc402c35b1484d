"""Finds the numbered bundles that a run has written.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from lib_pivotal.core.train.own_files import OwnFiles

__all__ = ["newest_bundle", "read_own_files", "step_bundles"]

logger = logging.getLogger("pivotal.step_bundles")

_NUMBERED = re.compile(r".+-(\d{6,12})(?:-\d+)?\.safetensors")


def read_own_files(run: Path, bundles: Path) -> OwnFiles:
    """The files that a run has written, from its record.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
    """
    own = OwnFiles(run, bundles, logger.warning)
    own.load_record()
    return own


def step_bundles(run: Path, bundles: Path) -> dict[int, Path]:
    """The numbered bundles of a run that are still there: step → file, steps ascending, without step 0.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
    """
    own = read_own_files(run, bundles)
    found = {}
    for name in own.names():
        match = _NUMBERED.fullmatch(name)
        if match and name != f"{own.bundle_name}.safetensors" and int(match[1]) > 0 and (bundles / name).is_file():
            found[int(match[1])] = bundles / name
    return dict(sorted(found.items()))


def newest_bundle(run: Path, bundles: Path) -> Path | None:
    """The bundle of a run: the final one or, if that is gone, the last numbered one; None if there is none.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
    """
    final = bundles / f"{read_own_files(run, bundles).bundle_name}.safetensors"
    if final.is_file():
        return final
    return next(reversed(step_bundles(run, bundles).values()), None)
