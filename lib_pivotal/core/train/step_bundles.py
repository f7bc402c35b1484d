"""Finds the numbered bundles that a run has written.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from lib_pivotal.core.bundle.negative_lora import negative_path
from lib_pivotal.core.train.own_files import OwnFiles
from lib_pivotal.core.train.run_folder import STEPS
from lib_pivotal.core.train.state_files import state_files

__all__ = [
    "final_bundle",
    "kept_bundles",
    "newest_weights",
    "read_own_files",
    "remove_kept_bundles",
    "step_bundles",
]

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

    They are in the run's own folder and, if they were asked for, next to the final one, where they count first.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
    """
    own = read_own_files(run, bundles)
    shared = [bundles / name for name in own.names() if name != f"{own.bundle_name}.safetensors"]
    found = {}
    for path in (*kept_bundles(run), *shared):
        match = _NUMBERED.fullmatch(path.name)
        if match and int(match[1]) > 0 and path.is_file():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def kept_bundles(run: Path) -> list[Path]:
    """The numbered bundles in the run's own folder, sorted by name.

    Args:
        run: the run folder.
    """
    try:
        return sorted(path for path in (run / STEPS).iterdir() if _NUMBERED.fullmatch(path.name))
    except OSError:
        return []


def final_bundle(run: Path, bundles: Path) -> Path | None:
    """The final bundle of a run; None if it is gone.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
    """
    final = bundles / f"{read_own_files(run, bundles).bundle_name}.safetensors"
    return final if final.is_file() else None


def newest_weights(run: Path, bundles: Path) -> Path | None:
    """The numbered bundle or state of the latest step, of both the bundle; None if there is neither.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
    """
    found = {**dict(state_files(run / "states")[::-1]), **step_bundles(run, bundles)}
    return found[max(found)] if found else None


def remove_kept_bundles(run: Path) -> int:
    """Remove the numbered bundles in the run's own folder.

    Args:
        run: the run folder.

    Returns:
        The number of bytes freed.

    Raises:
        OSError: one cannot be removed; others may still be there.
    """
    freed = 0
    for path in kept_bundles(run):
        for file in (path, negative_path(path)):
            if file is path or file.exists():
                size = file.lstat().st_size
                file.unlink()
                freed += size
    return freed
