"""Writes the sample images with their captions, and says with which settings they are trained."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import presets, with_preset
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.samples.drawing import Drawing
from lib_pivotal.core.samples.robot import Pose, draw_robot
from lib_pivotal.core.samples.scenes import BACKGROUNDS, THINGS

__all__ = ["NAME", "sample_settings", "write_samples"]

NAME = "zogbot"
_SIDE = 1024
_SCENES: tuple[tuple[str, str, Pose], ...] = (
    ("meadow, blue sky, sun", "", Pose(0.45, 0.92, 0.66, "waving", "smiling")),
    ("white background", "", Pose(0.5, 0.93, 0.8, "down", "smiling")),
    ("beach, sea, sailing boat", "ice cream", Pose(0.4, 0.94, 0.62, "holding", "laughing")),
    ("night, moon, stars", "", Pose(0.6, 0.93, 0.56, "down", "sleeping")),
    ("city, buildings, evening", "", Pose(0.5, 0.96, 0.7, "up", "laughing")),
    ("snow, fir trees", "blue umbrella", Pose(0.42, 0.93, 0.58, "holding", "surprised")),
    ("indoors, window, bookshelf", "", Pose(0.5, 0.95, 0.72, "waving", "laughing")),
    ("forest, trees", "flower", Pose(0.47, 0.95, 0.55, "holding", "smiling")),
    ("pink background", "", Pose(0.5, 0.95, 0.84, "up", "surprised")),
    ("meadow, blue sky, sun", "red balloon", Pose(0.4, 0.95, 0.5, "holding", "laughing")),
    ("yellow background", "", Pose(0.46, 1.35, 1.3, "down", "laughing")),
    ("night, moon, stars", "", Pose(0.45, 0.95, 0.72, "up", "surprised")),
    ("gray background", "flower", Pose(0.45, 0.94, 0.78, "holding", "sleeping")),
    ("beach, sea, sailing boat", "", Pose(0.62, 0.97, 0.4, "waving", "smiling")),
    ("city, buildings, evening", "red balloon", Pose(0.36, 0.97, 0.46, "holding", "surprised")),
    ("indoors, window, bookshelf", "", Pose(0.52, 1.3, 1.2, "down", "sleeping")),
)
"""Background, thing in its hand, and pose of each image."""
_ARMS = {"down": "standing", "up": "arms up", "waving": "waving", "holding": "holding"}


def write_samples(folder: Path) -> None:
    """Write all images and captions; files that are already there stay as they are.

    Args:
        folder: is created.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(_SCENES, 1):
        image, text = folder / f"{NAME}-{number:02d}.png", folder / f"{NAME}-{number:02d}.txt"
        if not text.exists():
            with replacing(text, keep=False) as partial:
                partial.write_text(_caption(*scene), encoding="utf-8")
        if not image.exists():
            with replacing(image, keep=False) as partial:
                _drawn(*scene).save(partial, "PNG")


def sample_settings(folder: Path, family: str) -> TrainConfig:
    """The settings of a first run with the sample images.

    Args:
        folder: where they are.
        family: of the model, see ``core.families``; an unknown one gets the smallest settings.
    """
    values = {
        "data_folder": str(folder),
        "output_name": NAME,
        "concepts": [{"name": NAME, "init_text": "small teal robot", "class_noun": "robot"}],
        "sample_prompts": f"flat illustration of {NAME}, waving, forest, trees\n{NAME}, mountain, river",
    }
    config, problems = read_dict(with_preset(values, _preset(family)))
    assert not problems
    return config


def _preset(family: str) -> str:
    """The preset for a character with few images; models of an unknown family get the smallest settings."""
    found = [preset.name for preset in presets() if preset.family == family and preset.name.startswith("character")]
    return found[0] if found else "character-few-sd1"


def _caption(background: str, thing: str, pose: Pose) -> str:
    size = "close-up" if pose.size > 1.0 else "full body"
    held = f"holding {thing}" if thing else _ARMS[pose.arms]
    return f"{NAME}, flat illustration, {size}, {held}, {pose.face}, {background}"


def _drawn(background: str, thing: str, pose: Pose) -> Image.Image:
    drawing = Drawing(_SIDE, (255, 255, 255))
    BACKGROUNDS[background](drawing)
    hand = draw_robot(drawing, pose)
    if thing:
        THINGS[thing](drawing, *hand)
    return drawing.finish()
