"""How the best learning rates depend on a model's width: ``python run.py bench widths``.

Trains a second base model on the embedded one's world that is half as wide, then, on both, a LoRA alone and embeddings
alone at several learning rates, and prints the gain of each: the share by which the loss on images that were not
trained on falls below the initialization text's. What has been trained or measured is not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from benchmarks.baseline import baseline
from benchmarks.methods.measures import mean_loss
from lib_pivotal.cli.train import train_run
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.demo.__main__ import INIT_TEXT, NAMES
from lib_pivotal.demo.assets import materialize
from lib_pivotal.demo.base_model.networks import make_text_encoder, make_unet
from lib_pivotal.demo.base_model.train_unet import draw_latents, train_unet
from lib_pivotal.demo.characters import write_dataset
from lib_pivotal.demo.evaluate import Parts, held_out, parts_of
from lib_pivotal.demo.shapes import TEXT_WIDTH, UNET_WIDTHS
from lib_pivotal.host.diffusers.checkpoint import load_networks
from lib_pivotal.host.diffusers.model import load_model
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

_LORA_RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
_EMBEDDING_RATES = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2)
_STEPS = 200
_SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000, "prediction_type": "epsilon"}


def main() -> None:
    """Train what has not been trained, and print the gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-out/widths"), help="folder for models and results")
    parser.add_argument("--base-steps", type=int, default=3000, help="steps of training the narrow base model")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    out: Path = options.out
    usual = materialize(out / "model").a
    for name in NAMES:
        write_dataset(out / "data" / name, name)
        write_dataset(out / "held-out", name, "held_out", "a")
    bases = {TEXT_WIDTH: usual, TEXT_WIDTH // 2: _narrow_base(out, usual, options.base_steps)}
    for kind, rates in (("LoRA", _LORA_RATES), ("embeddings", _EMBEDDING_RATES)):
        _say(f"| {kind}, width | " + " | ".join(f"{rate:g}" for rate in rates) + " |")
        _say("|---|" + "---:|" * len(rates))
        for width, base in bases.items():
            gains = [_mean_gain(kind, rate, base, width, options) for rate in rates]
            _say(f"| {width} | " + " | ".join(f"{gain:.1%}" for gain in gains) + " |")


def _narrow_base(out: Path, usual: Path, steps: int) -> Path:
    """A base model of half the width, in diffusers' layout, with the embedded model's VAE."""
    folder, width = out / "narrow", TEXT_WIDTH // 2
    if (folder / "model_index.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    vae = load_networks(usual).vae
    drawn = draw_latents(vae, "a", 10_000, seed=ord("a"), device="cpu")
    unet, text = make_unet([width // 2 for width in UNET_WIDTHS], width), make_text_encoder(width)

    def tokenize(captions: Sequence[str], length: int) -> torch.Tensor:
        rows = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True)
        return torch.tensor(rows["input_ids"])

    train_unet(
        unet, text, drawn, tokenize, steps=steps, batch=64, lr=1e-3, trains_text=True, device="cpu",
        keep=folder / "part.pt",
    )  # fmt: skip
    networks: dict[str, Any] = {"unet": unet, "text_encoder": text, "vae": vae}
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(_SCHEDULER))
    (folder / "model_index.json").write_text("{}")
    return folder


def _mean_gain(kind: str, rate: float, base: Path, width: int, options: argparse.Namespace) -> float:
    gains = [_gain(kind, rate, base, options.out, width, seed) for seed in range(options.seeds)]
    return sum(gains) / len(gains)


def _gain(kind: str, rate: float, base: Path, out: Path, width: int, seed: int) -> float:
    run = out / "runs" / f"{kind}-{width}-{rate:g}-{seed}"
    result = run / "gain.json"
    if not result.exists():
        outcome = train_run(_config(kind, rate, base, out / "data", seed), (), run)
        if outcome.outcome != "done" or outcome.bundle_path is None:
            raise SystemExit("The training was stopped.")
        bundle, model = read_bundle(outcome.bundle_path), load_model(base)
        data = held_out(out / "held-out", model)
        parts = parts_of(bundle, model, embeddings=bool(bundle.embeddings), loras=["unet"] if bundle.lora else [])
        result.write_text(
            json.dumps(1 - mean_loss(model, data, parts) / mean_loss(model, data, Parts({}, []), INIT_TEXT))
        )
    return float(json.loads(result.read_text()))


def _config(kind: str, rate: float, base: Path, data: Path, seed: int) -> TrainConfig:
    is_lora = kind == "LoRA"
    changes: dict[str, Any] = {"unet_lr": rate} if is_lora else {"embedding_lr": rate, "rank": 0}
    plain = baseline(base, data, _STEPS, is_control=is_lora)
    return replace(plain, **changes, batch_size=4, conv_rank=0, text_encoder_rank=0, seed=seed, output_name="bundle")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
