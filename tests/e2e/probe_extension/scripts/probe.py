"""Test-only routes that look inside the webui; linked into extensions/ during the suite only."""

import sys
from pathlib import Path

from modules import script_callbacks, scripts

_ROOT = Path(scripts.basedir()).resolve().parents[2]
sys.path.insert(0, str(Path(scripts.basedir())))
sys.path.insert(0, str(_ROOT))

from pivotal_probe import routes  # noqa: E402

script_callbacks.on_app_started(routes.register)
