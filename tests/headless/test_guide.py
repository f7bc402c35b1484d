"""The first example of the guide works as written: its folder, its settings, its commands."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.characters import draw_character, poses
from tests.guide import COMMANDS, CONFIGS, TREES, make_tree

NAME = "zogling.json"


def test_the_first_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = {**CONFIGS[NAME], "resolution": 64, "steps": 4, "sample_steps": 1}
    base = materialize(Path("model")).a
    Path("models").mkdir()
    for suffix in (".safetensors", ".yaml"):
        base.with_suffix(suffix).rename(Path(settings["checkpoint"]).with_suffix(suffix))
    assert make_tree(TREES[0], tmp_path, draw) == tmp_path / settings["data_folder"]
    Path(NAME).write_text(json.dumps(settings))

    commands = [command for command in COMMANDS if "zogling" in command]
    assert len(commands) == 5
    for command in commands:
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "zogling, small, red background" in output or "zogling, red background, small" in output
    assert "<lora:zogling:1> zogling" in output

    bundle = read_bundle(Path("results/zogling.safetensors"))
    assert bundle.embeddings["zogling"]["clip_l"].shape[0] == 4
    (run,) = Path("results/runs").iterdir()
    samples = sorted(path.name for path in (run / "samples").glob("*.png"))
    assert len(samples) == 2 * len(settings["sample_prompts"].splitlines())


def draw(path: Path, number: int) -> None:
    pose = poses("zogling", "train")[number // 2]
    Image.fromarray(draw_character("zogling", pose, "a", np.random.default_rng(number))).save(path)
