"""Starts and stops a real webui with its own data folder."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = [
    "Webui",
    "digest_of",
    "find_installed",
    "find_python",
    "find_webui",
    "kind_of",
    "make_data_folder",
    "running",
    "version_of",
]

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 900

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "IGNORE_CMD_ARGS_ERRORS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    # More threads than free cores wait for each other far longer than they compute.
    "OMP_NUM_THREADS": os.environ.get("PIVOTAL_E2E_THREADS", "1"),
    "OMP_WAIT_POLICY": "PASSIVE",
}

_ARGUMENTS = (
    "--skip-prepare-environment --skip-torch-cuda-test --skip-version-check --api --api-server-stop --no-hashing"
)
_OWN_ARGUMENTS = {
    "a1111": "--no-download-sd-model --do-not-download-clip --no-half --use-cpu all",
    "forge": "--always-cpu",
    "forge-neo": "--cpu",
    "reforge": "--no-download-sd-model --do-not-download-clip --always-cpu",
}
"""Kind of webui → what it is started with in addition."""


def find_webui() -> Path | None:
    """``$PIVOTAL_WEBUI``, else ``~/stable-diffusion-webui``; None where there is none."""
    chosen = os.environ.get("PIVOTAL_WEBUI")
    tree = Path(chosen) if chosen else Path.home() / "stable-diffusion-webui"
    return tree if (tree / "launch.py").exists() else None


def find_installed() -> tuple[Path, Path] | None:
    """The webui and its interpreter; None where either is missing."""
    tree = find_webui()
    python = find_python(tree) if tree else None
    return (tree, python) if tree and python else None


def find_python(webui: Path) -> Path | None:
    """``$PIVOTAL_WEBUI_PYTHON``, the webui's own venv, or ``~/webui-venv``."""
    chosen = os.environ.get("PIVOTAL_WEBUI_PYTHON")
    candidates = [Path(chosen)] if chosen else [webui / "venv", webui / ".venv", Path.home() / "webui-venv"]
    for candidate in candidates:
        for path in (candidate, candidate / "bin" / "python", candidate / "Scripts" / "python.exe"):
            if path.is_file():
                return path
    return None


def kind_of(webui: Path) -> str:
    """``a1111``, ``forge``, ``forge-neo`` or ``reforge``, from the packages in its source."""
    if (webui / "backend").is_dir():
        return "forge-neo" if (webui / "backend" / "quant_ops.py").exists() else "forge"
    return "reforge" if (webui / "ldm_patched").is_dir() else "a1111"


def version_of(webui: Path) -> tuple[int, ...]:
    """The webui's version from the head of its changelog; that of A1111 on which Forge-Neo is based, which has none."""
    if kind_of(webui) == "forge-neo":
        return 1, 10
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", (webui / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert found, f"no version in {webui}"
    return tuple(int(number) for number in found.groups() if number)


def make_data_folder(
    folder: Path, checkpoints: Sequence[Path], *, with_extension: bool = True, kind: str = "a1111"
) -> None:
    """Models, settings and extensions of a fresh webui; the probe is linked in, and ours if wanted."""
    for name in ("models/Stable-diffusion", "models/Lora", "embeddings", "extensions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for checkpoint in checkpoints:
        for source in (checkpoint, checkpoint.with_suffix(".yaml")):
            if source.exists():
                (folder / "models" / "Stable-diffusion" / source.name).symlink_to(source.resolve())
    if with_extension:
        (folder / "extensions" / "sd-webui-pivotal-tuning").symlink_to(_ROOT)
    (folder / "extensions" / "pivotal-probe").symlink_to(_ROOT / "tests" / "e2e" / "probe_extension")
    settings = {"show_progress_type": "Approx cheap", "samples_save": False, "grid_save": False}
    settings["sd_model_checkpoint"] = checkpoints[0].name
    # Early webuis put them into their own source tree.
    settings["outdir_grids"] = str(folder / "grids")
    # reForge would download the decoder of its previews.
    settings["live_previews_enable"] = kind != "reforge"
    if kind == "forge-neo":
        # Without it, it takes the settings for those of an old version and waits for a key.
        settings["VERSION_UID"] = "PY313"
        # The others' default.
        settings["CLIP_stop_at_last_layers"] = 1
        # Its page cannot show an image that is not saved: a fresh one lacks the folder for temporary images.
        settings["samples_save"] = True
        # Its page chooses the checkpoint of this preset, whatever is loaded.
        settings["forge_checkpoint_sd"] = checkpoints[0].name
    (folder / "config.json").write_text(json.dumps(settings))


def digest_of(image: str) -> str:
    """Digest of the pixels of an image in base64; the text in the file does not count."""
    return hashlib.sha256(Image.open(io.BytesIO(base64.b64decode(image))).tobytes()).hexdigest()


class Webui:
    """A running webui.

    Args:
        tree: its source.
        python: its interpreter.
        data: its data folder, see :func:`make_data_folder`.
        arguments: more command-line arguments.
    """

    def __init__(self, tree: Path, python: Path, data: Path, arguments: tuple[str, ...] = ()) -> None:
        self.data = data
        self.kind = kind_of(tree)
        self.login: tuple[str, str] | None = None
        """User and password sent with every request."""
        self.log_path = data / "webui.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = [*_ARGUMENTS.split(), *_OWN_ARGUMENTS[self.kind].split()]
        if self.kind in ("forge", "forge-neo"):
            # Host: webui.py, ``allowed_paths``, Forge: Gradio 4 serves files of the data folder only, and the page's
            # own scripts are in the source.
            options += ["--gradio-allowed-path", str(tree)]
        # In Forge-Neo it is another one unless given.
        options += ["--embeddings-dir", str(data / "embeddings")]
        command = [str(python), "launch.py", *options, "--data-dir", str(data), "--port", str(port)]
        command += arguments
        environment = {**os.environ, **_OFFLINE}
        environment.pop("COMMANDLINE_ARGS", None)
        self._log = self.log_path.open("w")
        self._process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Wait until the API answers and a model is loaded.

        Raises:
            RuntimeError: with the end of the log, when it does not in time.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None or "Error executing callback" in self.log():
                break
            # A request before that line would make the webui fail to add its own middleware.
            if "Startup time:" in self.log():
                try:
                    if self.get("/pivotal-test/ready", timeout=5)["ready"]:
                        return
                except (OSError, ValueError):
                    pass
            time.sleep(0.5)
        raise RuntimeError("The webui did not start:\n" + self.log()[-6000:])

    def log(self) -> str:
        """Everything the webui has written."""
        return self.log_path.read_text(errors="replace")

    def get(self, path: str, timeout: float = 60) -> Any:
        """JSON of a GET request."""
        return self._request(path, None, timeout)

    def post(self, path: str, body: Any = None, timeout: float = 600) -> Any:
        """JSON of a POST request.

        Raises:
            AssertionError: with the answer's text, for every status other than 200.
        """
        status, answer = self.try_post(path, body, timeout)
        details = answer.get("traceback", answer) if isinstance(answer, dict) else answer
        assert status == 200, f"{path}: {status}\n{details}"
        return answer

    def try_post(
        self, path: str, body: Any = None, timeout: float = 600, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of a POST request, whatever the status."""
        try:
            return 200, self._request(path, {} if body is None else body, timeout, headers)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                return error.code, json.loads(text)
            except ValueError:
                return error.code, text

    def choose(self, name: str) -> None:
        """Select a checkpoint by its file's name, as the page's list does."""
        titles = [item["title"] for item in self.get("/sdapi/v1/sd-models")]
        title = next(title for title in titles if title.startswith(f"{name}.safetensors"))
        self.post("/sdapi/v1/options", {"sd_model_checkpoint": title})

    def pixels(self, prompt: str, **fields: Any) -> str:
        """Digest of the pixels of a small image with a fixed seed."""
        task = {"prompt": prompt, "seed": 5, "steps": 2, "width": 64, "height": 64, "cfg_scale": 4, **fields}
        image = self.post("/sdapi/v1/txt2img", task)["images"][0]
        return digest_of(image)

    def _request(self, path: str, body: Any, timeout: float, headers: Mapping[str, str] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            request.add_header(name, value)
        if self.login is not None:
            pair = base64.b64encode(":".join(self.login).encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.loads(response.read())

    def kill(self) -> None:
        """End this webui at once, as a crash does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End this webui, and only this one."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()


@contextmanager
def running(
    tree: Path,
    python: Path,
    data: Path,
    checkpoints: Sequence[Path],
    *,
    with_extension: bool = True,
    arguments: tuple[str, ...] = (),
) -> Iterator[Webui]:
    """Within the context a webui runs in a new data folder.

    Args:
        tree: its source.
        python: its interpreter.
        data: the folder, which does not exist yet.
        checkpoints: the first one is loaded.
        with_extension: whether ours is installed.
        arguments: more command-line arguments.
    """
    make_data_folder(data, checkpoints, with_extension=with_extension, kind=kind_of(tree))
    server = Webui(tree, python, data, arguments)
    try:
        server.wait()
        yield server
    finally:
        server.stop()
