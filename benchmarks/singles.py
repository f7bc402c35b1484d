"""Trains ten characters one by one, as the preset says and with a setting changed: ``run.py bench singles``.

The characters are those of ``bench cast``, so that the body and the part that tells three of them apart are counted
separately. Each gets 16 images and a run of its own. Images are made from the name alone and from the name with a
background, on base models A and B, with the whole bundle and with its embedding only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

import torch

from benchmarks.cast import CAST, Reader, images_of, write_data
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import with_preset
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.demo.assets import Bases, materialize
from lib_pivotal.demo.evaluate import parts_of
from lib_pivotal.host.diffusers.model import load_model

_PRESET = "character-sd1"
_CHOSEN = (0, 4, 8, 9, 13, 2, 3, 7, 11, 14)
"""Two characters of each body."""
_IMAGES = 16
_SEEDS = 8
"""Images of each kind of prompt."""
_STEPS = 12
"""Sampling steps of an image."""
_COLUMNS = {
    f"{right} {kind} {base}": f"{right}, {kind} on {base.upper()}"
    for base in "ab"
    for kind in ("whole", "embedding")
    for right in ("character", "body")
}
"""Measure → heading."""


def main() -> None:
    """Train and measure what has not been measured, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/singles"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=160, help="of each run, of 4 images")
    parser.add_argument("--change", default="huber_c=0.1", help="setting=value that is compared with the preset")
    parser.add_argument("--workers", type=int, default=2, help="how many runs at a time")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = materialize(options.out / "model")
    if options.run:
        character, change = options.run.split(":")
        _measure(int(character), change, bases, options)
        return
    write_data(options.out / "data", [_IMAGES] * len(CAST), style_images=0)
    jobs = [(character, change) for character in _CHOSEN for change in ("", options.change)]
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda job: _in_child(job[0], job[1], options), jobs))
    _print(options)


def _result_path(character: int, change: str, options: argparse.Namespace) -> Path:
    folder = f"{CAST[character].name}-{options.steps}-{change or 'preset'}"
    return Path(options.out) / folder / "result.json"


def _in_child(character: int, change: str, options: argparse.Namespace) -> None:
    """Train and measure in a process of its own, unless that has been done."""
    path = _result_path(character, change, options)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--out", str(options.out), "--steps", str(options.steps), "--run", f"{character}:{change}"]
    with (path.parent / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "benchmarks.singles", *arguments]
        subprocess.run(command, stdout=output, stderr=output, check=True)
    sys.stdout.write(f"{CAST[character].name}, {change or 'the preset'}\n")
    sys.stdout.flush()


def _measure(character: int, change: str, bases: Bases, options: argparse.Namespace) -> None:
    """Train one character and count in how many images it and its body are right."""
    path, chosen = _result_path(character, change, options), CAST[character]
    values = {
        "checkpoint": str(bases.a),
        # More vectors than in the preset, because a token of the small model is a twelfth as long.
        "concepts": [{"name": chosen.name, "init_text": "circle", "vectors": 8}],
        "data_folder": str(options.out / "data" / chosen.name),
        "resolution": 64,
        "steps": options.steps,
        "batch_size": 4,
        "seed": character,
        "sample_every": 0,
        "output_name": "single",
        "if_exists": "overwrite",
    }
    if change:
        name, value = change.split("=")
        values[name] = json.loads(value)
    config, problems = read_dict(with_preset(values, _PRESET))
    if problems:
        raise ConfigError(problems)
    outcome = train_run(config, (), path.parent)
    if outcome.outcome != "done" or outcome.bundle_path is None:
        raise SystemExit("The training was stopped.")
    path.write_text(json.dumps(_counts(outcome.bundle_path, character, bases)), encoding="utf-8")


def _counts(bundle: Path, character: int, bases: Bases) -> dict[str, float]:
    """Shares of images with the right character and with the right body, by what is switched on and base model."""
    file, reader, chosen, result = read_bundle(bundle), Reader(), CAST[character], {}
    backgrounds = [chosen.backgrounds[seed % len(chosen.backgrounds)] for seed in range(_SEEDS)]
    prompts = [chosen.name] * _SEEDS + [f"{chosen.name}, large, {color} background" for color in backgrounds]
    for base, checkpoint in (("a", bases.a), ("b", bases.b)):
        model = load_model(checkpoint)
        for kind, loras in (("whole", ["unet"]), ("embedding", [])):
            parts = parts_of(file, model, embeddings=True, loras=loras)
            images = images_of(model, parts, prompts, [*range(_SEEDS)] * 2, steps=_STEPS)
            shown = [reader.read(image)[0] for image in images]
            result[f"character {kind} {base}"] = mean(who == character for who in shown)
            result[f"body {kind} {base}"] = mean(CAST[who].body == chosen.body for who in shown)
    return result


def _print(options: argparse.Namespace) -> None:
    """Print the means over the characters as a Markdown table."""
    lines = ["| settings | " + " | ".join(_COLUMNS.values()) + " |", "|---|" + "---:|" * len(_COLUMNS)]
    for change in ("", options.change):
        results = [json.loads(_result_path(character, change, options).read_text()) for character in _CHOSEN]
        lines.append(_row(change or "the preset", results))
    sys.stdout.write("\n".join(lines) + "\n")


def _row(title: str, results: Sequence[dict[str, float]]) -> str:
    cells = (f"{mean(item[key] for item in results):.0%}" for key in _COLUMNS)
    return f"| {title} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
