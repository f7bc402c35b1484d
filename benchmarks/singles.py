"""Trains ten characters one by one, as a preset says and with a setting changed: ``run.py bench singles``.

The characters are those of ``bench cast``, so that the body and the part that tells three of them apart are counted
separately. Each has a run of its own. Images are made from the name alone and from the name with a background, on base
models A and B, with the whole bundle and with its embedding only. What has been trained and measured is kept in the
output folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import eq
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

_CHOSEN = (0, 4, 8, 9, 13, 2, 3, 7, 11, 14)
"""Two characters of each body."""
_SEEDS = 8
"""Images of each kind of prompt."""
_STEPS = 12
"""Sampling steps of an image."""
_COLUMNS = {
    f"{right} {kind} {base}": f"{right}, {kind} on {base.upper()}"
    for base in "ab"
    for kind in ("whole", "embedding")
    for right in ("character", "body")
} | {"background whole a": "asked-for background"}
"""Measure → heading."""


def main() -> None:
    """Train and measure what has not been measured, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/singles"), help="folder for the results")
    parser.add_argument("--steps", type=int, default=160, help="of each run, of 4 images")
    parser.add_argument("--images", type=int, default=16, help="of each character")
    parser.add_argument("--preset", default="character-sd1")
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        help="setting=value, also several with commas, to compare with the preset; may be repeated",
    )
    parser.add_argument("--workers", type=int, default=2, help="how many runs at a time")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bases = materialize(options.out / "model")
    if options.run:
        character, change = options.run.split(":")
        _measure(int(character), change, bases, options)
        return
    write_data(_data_folder(options), [options.images] * len(CAST), style_images=0)
    jobs = [(character, change) for character in _CHOSEN for change in ("", *options.change)]
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda job: _in_child(job[0], job[1], options), jobs))
    _print(options)


def _data_folder(options: argparse.Namespace) -> Path:
    return Path(options.out) / "data" / str(options.images)


def _result_path(character: int, change: str, options: argparse.Namespace) -> Path:
    name = CAST[character].name
    folder = f"{name}-{options.images}-{options.steps}-{options.preset}{'-' if change else ''}{change}"
    return Path(options.out) / folder / "result.json"


def _in_child(character: int, change: str, options: argparse.Namespace) -> None:
    """Train and measure in a process of its own, unless that has been done."""
    path = _result_path(character, change, options)
    if path.exists() and _COLUMNS.keys() <= json.loads(path.read_text()).keys():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["--out", str(options.out), "--steps", str(options.steps), "--images", str(options.images)]
    arguments += ["--preset", options.preset, "--run", f"{character}:{change}"]
    with (path.parent / "output.txt").open("w") as output:
        command = [sys.executable, "-m", "benchmarks.singles", *arguments]
        subprocess.run(command, stdout=output, stderr=output, check=True)
    sys.stdout.write(f"{CAST[character].name}, {change or options.preset}\n")
    sys.stdout.flush()


def _measure(character: int, change: str, bases: Bases, options: argparse.Namespace) -> None:
    """Train one character, unless that has been done, and count in how many images it and its body are right."""
    path = _result_path(character, change, options)
    bundle = path.with_name("single.safetensors")
    if not bundle.exists():
        _train(character, change, bases, options, path.parent)
    path.write_text(json.dumps(_counts(bundle, character, bases)), encoding="utf-8")


def _train(character: int, change: str, bases: Bases, options: argparse.Namespace, out: Path) -> None:
    chosen = CAST[character]
    values = {
        "checkpoint": str(bases.a),
        # More vectors than in the preset, because a token of the small model is a twelfth as long.
        "concepts": [{"name": chosen.name, "init_text": "circle", "vectors": 8}],
        "data_folder": str(_data_folder(options) / chosen.name),
        "resolution": 64,
        "steps": options.steps,
        "batch_size": 4,
        "seed": character,
        "sample_every": 0,
        "output_name": "single",
        "if_exists": "overwrite",
    }
    for part in change.split(",") if change else ():
        name, value = part.split("=")
        values[name] = json.loads(value)
    config, problems = read_dict(with_preset(values, options.preset))
    if problems:
        raise ConfigError(problems)
    if train_run(config, (), out).outcome != "done":
        raise SystemExit("The training was stopped.")


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
            readings = [reader.read(image) for image in images]
            result[f"character {kind} {base}"] = mean(who == character for who, _, _ in readings)
            result[f"body {kind} {base}"] = mean(CAST[who].body == chosen.body for who, _, _ in readings)
            shown = [background for _, background, _ in readings[_SEEDS:]]
            result[f"background {kind} {base}"] = mean(map(eq, shown, backgrounds))
    return result


def _print(options: argparse.Namespace) -> None:
    """Print the means over the characters as a Markdown table."""
    lines = ["| settings | " + " | ".join(_COLUMNS.values()) + " |", "|---|" + "---:|" * len(_COLUMNS)]
    for change in ("", *options.change):
        results = [json.loads(_result_path(character, change, options).read_text()) for character in _CHOSEN]
        lines.append(_row(change or options.preset, results))
    sys.stdout.write("\n".join(lines) + "\n")


def _row(title: str, results: Sequence[dict[str, float]]) -> str:
    cells = (f"{mean(item[key] for item in results):.0%}" for key in _COLUMNS)
    return f"| {title} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
