"""Test-only routes that look inside the webui; linked into extensions/ during the suite only."""

import sys
from pathlib import Path

from modules import script_callbacks, scripts

_ROOT = Path(scripts.basedir()).resolve().parents[2]
sys.path.insert(0, str(Path(scripts.basedir())))
sys.path.insert(0, str(_ROOT))

from pivotal_probe import cond_checks, routes  # noqa: E402

script_callbacks.on_app_started(routes.register)
# After every other extension, so that its wrappers are inside.
script_callbacks.on_app_started(lambda _demo, _app: cond_checks.watch())


class Watch(scripts.Script):
    """Sees every generation of the page and the API."""

    def title(self):
        """The title that the webui requires."""
        return "pivotal probe"

    def show(self, is_img2img):
        """Always visible."""
        return scripts.AlwaysVisible

    def postprocess(self, p, processed, *args):
        """Called at the end of a generation."""
        cond_checks.note_comments(p)
