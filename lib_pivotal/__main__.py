"""``python -m lib_pivotal``: the command line."""

from __future__ import annotations

import sys

from lib_pivotal.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
