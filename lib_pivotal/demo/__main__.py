"""The main job on the embedded small model: ``python -m lib_pivotal.demo``.

Trains two characters jointly on base A, writes the bundle, and measures what each part of it is worth,
there and on base B, against a LoRA with rare words.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from lib_pivotal.cli.console import guarded
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.events import Control, Event, StepDone
from lib_pivotal.core.lora.inject import attach
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.demo.assets import materialise
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from lib_pivotal.demo.evaluate import Parts, held_out, loss_of, parts_of
from lib_pivotal.demo.report import (
    CONTROL,
    CONTROL_BARE,
    EMBEDDINGS,
    INIT,
    ROWS,
    TEXT,
    UNET,
    WHOLE,
    claims,
    grid,
    table,
)
from lib_pivotal.host.diffusers.model import DiffusersModel, load_model
from lib_pivotal.host.diffusers.sample import DiffusersSampler

START_WORDS = "circle"
NAMES = tuple(CHARACTERS)[:2]


def main() -> None:
    """Run everything and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder of the results")
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    started = time.monotonic()
    # Networks this small are done before a second thread has begun.
    torch.set_num_threads(1)
    result = run(options.out, options.steps)
    _say(result)
    _say(f"\nDone in {time.monotonic() - started:.0f} s. Everything is in {options.out}.")


def run(out: Path, steps: int) -> str:
    """Train, measure and draw; returns the text of the result, which is also in ``out/result.md``."""
    _say("Writing the small model and the pictures …")
    bases = materialise(out / "model")
    data = _write_data(out)
    model = load_model(bases.a)
    _say(f"Training {' and '.join(NAMES)} jointly, embeddings and LoRA, {steps} steps …")
    bundle_path = _train(model, out, demo_config(data, steps))
    _say(f"Training the control, the same LoRA with rare words and no embeddings, {steps} steps …")
    control_path = _train(model, out, demo_config(data, steps, is_control=True))
    losses: dict[str, dict[str, float]] = {}
    pictures: dict[str, list[Image.Image]] = {row: [] for row in ROWS}
    for base, path, style in (("A", bases.a, "a"), ("B", bases.b, "b")):
        _say(f"Measuring and drawing on base {base} …")
        model = load_model(path)
        rows = _rows(model, bundle_path, control_path)
        losses[base] = _losses(model, out / f"held-out-{style}", rows)
        for row, parts in rows.items():
            pictures[row] += _pictures(model, parts, row)
    titles = [f"base {base}: {words}" for base in losses for words in _prompts()]
    grid([(row, pictures[row]) for row in ROWS], titles).save(out / "result.png")
    lines = [
        f"Bundle: {bundle_path}",
        "",
        "Mean denoising loss on pictures never trained on (grounds never seen with the character), lower is better:",
        "",
        table(losses),
        "",
        *(str(claim) for claim in claims(losses)),
        "",
        f"Pictures of every row: {out / 'result.png'}",
    ]
    text = "\n".join(lines)
    (out / "result.md").write_text(text + "\n", encoding="utf-8")
    return text


def demo_config(data: Path, steps: int, *, is_control: bool = False) -> TrainConfig:
    """Settings of the demonstration; the control has no concepts, so that its names are just rare words."""
    return TrainConfig(
        concepts=() if is_control else tuple(Concept(name, START_WORDS, vectors=8, stop_at=0.5) for name in NAMES),
        data_folder=str(data),
        resolution=64,
        steps=steps,
        batch_size=8,
        rank=8,
        alpha=8.0,
        conv_rank=8,
        text_encoder_rank=4,
        text_encoder_lr=2e-4,
        unet_lr=1e-3,
        embedding_lr=2e-2,
        lora_start=0.4,
        # Small pictures are decided at higher noise than large ones; the cap moves with it.
        min_snr_gamma=0.3,
        sample_every=0,
        output_name="control" if is_control else "demo",
        if_exists="overwrite",
    )


def _write_data(out: Path) -> Path:
    for name in NAMES:
        write_dataset(out / "data" / name, name)
        for style in "ab":
            write_dataset(out / f"held-out-{style}", name, "held_out", style)
    return out / "data"


def _train(model: DiffusersModel, out: Path, config: TrainConfig) -> Path:
    folder = out / "runs" / config.output_name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folders = Folders(folder, out / "bundles", out / "cache")
    outcome = train(config, model, None, [_Console()], Control(), folders)
    assert outcome.bundle_path is not None
    return outcome.bundle_path


def _rows(model: DiffusersModel, bundle_path: Path, control_path: Path) -> dict[str, Parts]:
    """What is switched on in each row of the table."""
    bundle, control = read_bundle(bundle_path), read_bundle(control_path)
    nothing = Parts({}, [])
    return {
        INIT: nothing,
        EMBEDDINGS: parts_of(bundle, model, embeddings=True, loras=[]),
        TEXT: parts_of(bundle, model, embeddings=True, loras=["clip_l"]),
        UNET: parts_of(bundle, model, embeddings=True, loras=["unet"]),
        WHOLE: parts_of(bundle, model, embeddings=True, loras=["unet", "clip_l"]),
        CONTROL_BARE: nothing,
        CONTROL: parts_of(control, model, embeddings=False, loras=["unet", "clip_l"]),
    }


def _losses(model: DiffusersModel, folder: Path, rows: dict[str, Parts]) -> dict[str, float]:
    data = held_out(folder, model)
    result = {}
    for row, parts in rows.items():
        captions = [_told(caption, row) for caption in data.captions]
        result[row] = float(loss_of(model, data, captions, parts).mean())
    return result


def _told(caption: str, row: str) -> str:
    """What the model is told: the bare base knows the start words, every other row the names."""
    if row != INIT:
        return caption
    for name in NAMES:
        caption = caption.replace(name, START_WORDS)
    return caption


def _prompts() -> list[str]:
    """Both characters, and the first on a ground that it was never trained with."""
    unseen = CHARACTERS[NAMES[0]].held_out[1]
    seen = next(ground for ground in ("red", "green", "pink") if ground not in CHARACTERS[NAMES[0]].held_out)
    return [
        f"{NAMES[0]}, large, {seen} background",
        f"{NAMES[1]}, large, {seen} background",
        f"{NAMES[0]}, large, {unseen} background",
    ]


def _pictures(model: DiffusersModel, parts: Parts, row: str) -> list[Image.Image]:
    sampler = DiffusersSampler(model)
    pictures = []
    with attach(parts.loras):
        for prompt in _prompts():
            request = SampleRequest(_told(prompt, row), "", 64, 64, 20, 4.0, seed=3)
            sample = sampler.make(request, parts.embeddings)
            assert sample is not None
            pictures.append(sample.image)
    return pictures


class _Console:
    """A sink: one line that is written again and again."""

    def handle(self, event: Event) -> None:
        """Show a step."""
        if isinstance(event, StepDone) and event.step % 10 == 0:
            sys.stdout.write(f"\r  step {event.step}, loss {event.loss:.4f} ")
            sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"\r{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with guarded():
        main()
