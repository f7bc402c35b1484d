"""Serves the tab without a webui: the bare Gradio of this interpreter, our scripts, and stand-ins for the webui.

    .venv-gradio3/bin/python -m tests.browser.bare_page FOLDER [SECONDS_PER_STEP]

The address is printed; the process ends when its standard input is closed. ``FOLDER`` is the webui's folder. The host
and the engine are those of ``tests.ui.fake_host``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ROOT", "gradio_python", "serving"]

ROOT = Path(__file__).resolve().parents[2]


def gradio_python(major: int) -> Path | None:
    """The interpreter of the environment with this version of Gradio; None where there is none."""
    python = ROOT / f".venv-gradio{major}" / "bin" / "python"
    return python if python.exists() else None


@contextmanager
def serving(python: Path, folder: Path, seconds_per_step: float = 0.05) -> Iterator[str]:
    """Within the context the page is served; yields its address.

    Args:
        python: an interpreter with Gradio.
        folder: for the webui's files.
        seconds_per_step: how long a step of a training takes.
    """
    command = [str(python), "-m", "tests.browser.bare_page", str(folder), str(seconds_per_step)]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdin and process.stdout
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http"), (folder / "server.log").read_text()
            yield address
        finally:
            process.stdin.close()
            process.wait(20)


def _scripts() -> str:
    """Our scripts and the stand-ins, in the order in which the webui loads its own and those of extensions."""
    scripts = [Path(__file__).with_name("stand_ins.js"), *sorted((ROOT / "javascript").glob("*.js"))]
    return "".join(f"<script>{path.read_text(encoding='utf-8')}</script>" for path in scripts)


def _add_to_pages() -> None:
    """Add our scripts to the head and our styles to the end of every page, as the webui does.

    Host: modules/ui_gradio_extensions.py, ``reload_javascript``, A1111 1.6.1-1.10.1.
    """
    from gradio import routes

    original = routes.templates.TemplateResponse
    styles = f"<style>{(ROOT / 'style.css').read_text(encoding='utf-8')}</style>"

    def respond(*arguments, **options):
        response = original(*arguments, **options)
        for end, addition in ((b"</head>", _scripts()), (b"</body>", styles)):
            response.body = response.body.replace(end, addition.encode() + end, 1)
        response.init_headers()
        return response

    routes.templates.TemplateResponse = respond


def _theme():
    """A theme whose fonts need no other server."""
    import gradio as gr

    return gr.themes.Default(font=["sans-serif"], font_mono=["monospace"])


def main(folder: Path, seconds_per_step: float) -> None:
    """Serve the page until standard input is closed."""
    import gradio as gr

    from lib_pivotal.app import comparison
    from lib_pivotal.app.session import Session
    from lib_pivotal.ui.tab import build_tab
    from tests.ui.fake_host import FakeBundleLibrary, FakeHost, GatedEngine

    class SlowEngine(GatedEngine):
        """Takes a while for each step, without a test that allows it."""

        def __init__(self) -> None:
            super().__init__(gated=True)
            self._gate = self

        def acquire(self, timeout: float) -> bool:
            time.sleep(seconds_per_step)
            return True

    # The environments with a bare Gradio have no torch to read a file with.
    comparison._describe = lambda _path: {
        "lora": {"layers": 2, "parts": {"unet": 2}}, "embeddings": {"zog": {}}, "family": "SD1", "metadata": {},
    }  # fmt: skip
    tab = build_tab(Session(FakeHost(folder), SlowEngine()), FakeBundleLibrary())
    with gr.Blocks(analytics_enabled=False, title="bare", theme=_theme()) as page, gr.Tabs(elem_id="tabs"):
        with gr.Tab("txt2img", id="txt2img", elem_id="tab_txt2img"):
            gr.Textbox(lines=3, label="Prompt", elem_id="txt2img_prompt")
        with gr.Tab("Pivotal Tuning", id="pivotal", elem_id="tab_pivotal"):
            tab.render()
    _add_to_pages()
    out, sys.stdout = sys.stdout, sys.stderr
    _, address, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, show_api=False)
    print(address.rstrip("/"), file=out, flush=True)
    sys.stdin.read()
    page.close(verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.05)
