"""The whole demo, with too few steps for its claims and for good images, but with all its parts."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.presets import find_preset
from lib_pivotal.core.events import Event, StepDone
from lib_pivotal.demo import assets
from lib_pivotal.demo.report import ROWS, claims

needs_model = pytest.mark.skipif(not assets.BASE_A.exists(), reason="THE SMALL MODEL IS MISSING: no demo was run.")


@needs_model
@pytest.mark.long
def test_the_demo_trains_measures_and_draws(tmp_path: Path, monkeypatch) -> None:
    from lib_pivotal.demo import __main__ as demo
    from lib_pivotal.demo import characters, evaluate

    all_poses = characters.poses
    monkeypatch.setattr(characters, "poses", lambda *arguments: all_poses(*arguments)[:4])
    monkeypatch.setattr(demo, "_SAMPLE_STEPS", 1)
    monkeypatch.setattr(evaluate, "_PAIRS", 1)
    (prompt, *_) = demo._prompts()
    monkeypatch.setattr(demo, "_prompts", lambda: [prompt])
    text = demo.run(tmp_path, 3)
    assert (tmp_path / "result.md").read_text(encoding="utf-8").strip() == text
    assert all(f"| {row} |" in text for row in ROWS)
    assert text.count("holds: ") + text.count("DOES NOT HOLD: ") == 3
    assert Image.open(tmp_path / "result.png").size[0] > 500, "one column for each base"
    bundle = read_bundle(tmp_path / "demo.safetensors")
    assert set(bundle.embeddings) == set(demo.NAMES)
    logs = sorted(path.read_text(encoding="utf-8") for path in tmp_path.glob("runs/*/log.txt"))
    assert len(logs) == 2, "each training has a guarded run folder of its own"


def test_the_demo_trains_with_the_preset_for_characters() -> None:
    from lib_pivotal.demo.__main__ import demo_config

    preset = find_preset("character-sd1")
    config = demo_config(Path("base"), Path("data"), 500)
    changed = {name for name, value in preset.settings.items() if getattr(config, name) != value}
    assert changed == {"steps", "resolution", "text_encoder_rank"}
    for concept in config.concepts:
        assert {name: getattr(concept, name) for name in preset.concept} == preset.concept
    control = demo_config(Path("base"), Path("data"), 500, is_control=True)
    assert replace(control, concepts=config.concepts, output_name=config.output_name) == config


@needs_model
def test_a_signal_during_training_keeps_the_progress_and_ends_the_demo(tmp_path: Path, monkeypatch, capsys) -> None:
    from lib_pivotal.cli.main import reported
    from lib_pivotal.demo.__main__ import run
    from lib_pivotal.host.diffusers.progress import ConsoleProgress

    def interrupt(_progress: ConsoleProgress, event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ConsoleProgress, "handle", interrupt)
    assert reported(lambda: len(run(tmp_path, 30))) == 1
    said = capsys.readouterr()
    assert "Stopped, progress kept at step 2" in said.out and "Interrupted" in said.err
    assert read_bundle(tmp_path / "demo.safetensors").lora
    assert not (tmp_path / "control.safetensors").exists()
    assert not list(tmp_path.glob("runs/*/.lock"))


def _losses(**changed: float) -> dict[str, dict[str, float]]:
    """Base A's rows in the report's order; base B the same. Every claim holds until something is changed."""
    values = dict(zip(ROWS, (1.0, 0.8, 0.75, 0.6, 0.55, 1.0, 0.6), strict=True))
    values.update({ROWS[int(number[1:])]: value for number, value in changed.items()})
    return {"A": values, "B": dict(zip(ROWS, (1.0, 0.85, 0.8, 0.7, 0.7, 1.0, 0.8), strict=True))}


def test_claims_are_judged_by_the_numbers() -> None:
    assert [claim.holds for claim in claims(_losses())] == [True, True, True]
    assert not claims(_losses(r3=0.5))[0].holds  # the UNet part better than the whole
    assert not claims(_losses(r1=0.95))[1].holds  # embeddings alone keep too little
    assert not claims(_losses(r5=0.9))[1].holds  # the rare word alone carries something
    assert not claims(_losses(r4=0.3, r3=0.3))[2].holds  # too little of the gain is left on base B
