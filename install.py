"""Run by the webui at each of its starts, in a process of its own: looks, tells, installs nothing.

The webui brings every package that the extension uses, so there is nothing to install, and nothing that an
update of another project could break. When one is missing the webui itself is incomplete, and saying so
here is clearer than an import error in the tab.

Host: modules/launch_utils.py, run_extension_installer, A1111 1.7-1.10.1: the output is shown in the console;
``modules.shared`` is not usable in this process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys

_NEEDED = {"torch": "torch", "numpy": "numpy", "PIL": "Pillow", "safetensors": "safetensors"}
"""Import name → name for pip."""

_OLDEST_PYTHON = (3, 10)


def is_skipped() -> bool:
    """Whether the user told the webui to leave packages alone (``--skip-install``)."""
    try:
        import launch
    except ImportError:
        # Run by hand, outside a webui.
        return False
    return bool(getattr(launch.args, "skip_install", False))


def find_problems() -> list[str]:
    """What is missing, one line each; packages are looked up, not imported."""
    problems = []
    if sys.version_info < _OLDEST_PYTHON:
        problems.append(f"Python {sys.version.split()[0]} is too old; the webui itself asks for 3.10.")
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        problems.append(f"The webui lacks {', '.join(missing)}; start it once without --skip-prepare-environment.")
    return problems


if __name__ == "__main__" and not is_skipped():
    # A webui without a console, or one whose log is full, starts all the same.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        for line in find_problems():
            sys.stdout.write(f"Pivotal Tuning: {line}\n")
        sys.stdout.flush()
