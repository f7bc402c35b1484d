"""What the transparent parts of images show."""

from __future__ import annotations

from PIL import Image, ImageStat

__all__ = ["BACKGROUNDS", "alpha_of", "on_background"]

BACKGROUNDS = {
    "white": "white",
    "black": "black",
    "gray": "medium gray",
    "mean": "the mean color of the visible parts",
    "hidden": "the colors stored under them",
}
"""Choices of the setting ``background`` → what transparent parts show, for messages."""

_COLORS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128)}


def alpha_of(image: Image.Image) -> Image.Image | None:
    """How visible each pixel is, in mode L; None if the image has no transparent parts."""
    if not _has_alpha(image):
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def on_background(image: Image.Image, background: str) -> Image.Image:
    """The image in mode RGB without transparency.

    Args:
        image: the image in any mode.
        background: one of :data:`BACKGROUNDS`.

    Raises:
        ValueError: its colors cannot be converted.
    """
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if _has_alpha(image):
        image = image.convert("RGBA")
        if background != "hidden":
            color = _mean_color(image) if background == "mean" else _COLORS[background]
            image = _over(image, color)
    return image.convert("RGB")


def _has_alpha(image: Image.Image) -> bool:
    # Of an image with 16 bits per pixel, Pillow cannot use the transparent gray level.
    return image.mode in ("RGBA", "LA", "PA") or ("transparency" in image.info and not image.mode.startswith("I"))


def _over(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, (*color, 255)), image)


def _mean_color(image: Image.Image) -> tuple[int, int, int]:
    """Mean of the pixels, each weighted by its alpha; white if all of them are transparent."""
    visible = ImageStat.Stat(image.getchannel("A")).mean[0] / 255
    if not visible:
        return _COLORS["white"]
    # On black, each pixel has its color times its alpha.
    red, green, blue, _ = (min(255, round(level / visible)) for level in ImageStat.Stat(_over(image, (0, 0, 0))).mean)
    return red, green, blue


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert an image of 16 bits per pixel to mode L; a transparent gray level is lost."""
    image = image.convert("I")
    image.info.pop("transparency", None)
    # The added term keeps multiples of 257 from being rounded down.
    return image.point(lambda value: value * (1 / 257) + 0.0005).convert("L")
