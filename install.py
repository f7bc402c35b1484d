"""Run by the webui in a separate process at every start: checks the requirements and installs nothing.

The webui already has every package that the extension uses, so there is nothing to install, and updates of other
projects cannot break anything here. If a package is missing, the webui itself is incomplete; a message here is clearer
than an import error in the tab.

Host: modules/launch_utils.py, run_extension_installer, A1111 1.7-1.10.1: the output is shown in the console;
``modules.shared`` is not usable in this process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys

_NEEDED = {"torch": "torch", "numpy": "numpy", "PIL": "Pillow", "safetensors": "safetensors"}
"""Import name → package name for pip."""

_OLDEST_PYTHON = (3, 10)


def is_skipped() -> bool:
    """Whether the user wants no package checks (``--skip-install``)."""
    try:
        import launch
    except ImportError:
        # Run by hand, outside a webui.
        return False
    return bool(getattr(launch.args, "skip_install", False))


def find_problems() -> list[str]:
    """Messages about missing requirements; packages are looked up but not imported."""
    problems = []
    if sys.version_info < _OLDEST_PYTHON:
        problems.append(f"Python {sys.version.split()[0]} is too old. Start the webui with Python 3.10 or newer.")
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        problems.append(f"The webui lacks {', '.join(missing)}; start it once without --skip-prepare-environment.")
    return problems


if __name__ == "__main__" and not is_skipped():
    # The webui must start even without a console or with a full disk.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        for line in find_problems():
            sys.stdout.write(f"Pivotal Tuning: {line}\n")
        sys.stdout.flush()
