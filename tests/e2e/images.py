"""Two drawn concepts with captions, small enough to train in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

__all__ = ["CONCEPTS", "NAMES", "draw", "settings"]

NAMES = ("zogling", "mibblefox")
CONCEPTS = [
    {"name": NAMES[0], "init_text": "circle", "vectors": 2},
    {"name": NAMES[1], "init_text": "triangle", "vectors": 3},
]

_GROUNDS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 60, 190), "yellow": (220, 200, 60)}


def draw(folder: Path) -> Path:
    """Eight images of 64 by 64 px, four of each concept, with a caption next to each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (word, color) in enumerate(_GROUNDS.items()):
        for name in NAMES:
            image = Image.new("RGB", (64, 64), color)
            pen = ImageDraw.Draw(image)
            left = 8 + 5 * number
            if name == NAMES[0]:
                pen.ellipse((left, 14, left + 30, 44), fill=(240, 240, 240), outline=(0, 0, 0), width=3)
                pen.rectangle((left + 10, 40, left + 20, 60), fill=(20, 20, 20))
            else:
                pen.polygon([(left, 50), (left + 15, 10), (left + 30, 50)], fill=(250, 150, 200))
                pen.line((left, 56, left + 30, 56), fill=(0, 0, 0), width=4)
            path = folder / f"{name}_{word}.png"
            image.save(path)
            path.with_suffix(".txt").write_text(f"{name}, {word} background")
    return folder


def settings(folder: Path, output_name: str, **changes: Any) -> dict[str, Any]:
    """A run of a few steps over everything that can be trained."""
    return {
        "concepts": CONCEPTS,
        "data_folder": str(folder),
        "resolution": 64,
        "steps": 6,
        # The LoRA is trained from the first of these few steps on.
        "lora_start": 0.0,
        "batch_size": 2,
        "rank": 4,
        "alpha": 2.0,
        "conv_rank": 2,
        "text_encoder_rank": 2,
        "unet_lr": 2e-3,
        "text_encoder_lr": 2e-3,
        "embedding_lr": 1.5e-2,
        "schedule": "constant",
        "warmup": 0.0,
        "sample_every": 3,
        "sample_steps": 2,
        "output_name": output_name,
        **changes,
    }
