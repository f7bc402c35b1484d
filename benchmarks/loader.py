"""Measures what bundled embeddings cost in a real webui, compared with the webui alone: ``python run.py bench loader``.

Uses the same bundle of 16 embeddings and the same prompts in a webui with and without this extension. Needs a webui
(``$PIVOTAL_WEBUI`` or ``~/stable-diffusion-webui``). Prints medians; the two webuis are started alternately, which
evens out the load of a busy machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.bundles import Maker
from tests.e2e.server import find_installed, running

_E2E = Path(__file__).resolve().parents[1] / "tests" / "e2e"

MET, MET_NAMES = 20, 32
ROWS = {
    "activate": "activating the loaded bundle again, encodings cached",
    "switch": "switching between the bundle and no LoRA",
    "first": "loading the bundle from its file",
    "none": "activating no LoRA",
    "met": f"activating no LoRA after using {MET} bundles of {MET_NAMES} names",
    "plain": "a complete generation with one step and no LoRA",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--starts", type=int, default=2, help="how often each webui is started")
    options = parser.parse_args()
    found = find_installed()
    if found is None:
        sys.exit("No webui was found: set PIVOTAL_WEBUI and PIVOTAL_WEBUI_PYTHON.")
    tree, python = found
    times: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(_E2E / "random_checkpoint.py"), str(tree), folder]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        for start in range(options.starts):
            for with_us in (False, True):
                data = Path(folder) / f"data-{start}-{with_us}"
                for row, values in _measure(tree, python, data, Path(folder), with_us, options.rounds).items():
                    times[with_us].setdefault(row, []).extend(values)
    lines = [f"{'ms, median':<67} alone   with it   more"]
    for row, title in ROWS.items():
        alone, ours = (1000 * statistics.median(times[with_us][row]) for with_us in (False, True))
        lines.append(f"{title:<67} {alone:6.2f}  {ours:6.2f}  {ours - alone:+6.2f}")
    sys.stdout.write("\n".join(lines) + "\n")


def _measure(tree: Path, python: Path, data: Path, models: Path, with_us: bool, rounds: int) -> dict[str, list[float]]:
    checkpoint = models / "random.safetensors"
    with running(tree, python, data, [checkpoint], with_extension=with_us) as server:
        maker = Maker(data, checkpoint)
        maker.bundle("sixteen", 1, {f"quizname{number}": number for number in range(16)})
        met = [f"met{number}" for number in range(MET)]
        for name in met:
            maker.bundle(name, 1, {f"{name}name{number}": number for number in range(MET_NAMES)})
        server.post("/sdapi/v1/refresh-loras")
        return server.post("/pivotal-test/loader_times", {"lora": "sixteen", "met": met, "rounds": rounds})


if __name__ == "__main__":
    main()
