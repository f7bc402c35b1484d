"""Converts images with a color profile to sRGB, for which the models were trained."""

from __future__ import annotations

import io
import logging

from PIL import Image

try:
    from PIL import ImageCms
except ImportError:
    # Some builds of Pillow lack the color management library.
    ImageCms = None  # type: ignore[assignment]

__all__ = ["has_other_profile", "to_srgb"]

logger = logging.getLogger("pivotal.images")

_MODES = ("L", "RGB", "CMYK")
"""Modes that the color management library converts; the color of other modes is converted as RGB."""


def has_other_profile(image: Image.Image) -> bool:
    """Whether an image has a usable color profile other than sRGB."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile or ImageCms is None or image.mode.startswith(("I", "F", "1")):
        return False
    try:
        return "srgb" not in _description(profile).lower()
    except Exception:
        # The library raises different errors for damaged profiles.
        return False


def to_srgb(image: Image.Image) -> Image.Image:
    """The image with its colors converted to sRGB, in mode RGB or RGBA; unchanged without another profile.

    Args:
        image: a decoded image.
    """
    if not has_other_profile(image):
        return image
    try:
        return _converted(image)
    except Exception:
        # For instance a CMYK profile in an RGB image.
        logger.debug("the color profile cannot be used", exc_info=True)
        return image


def _description(profile: bytes) -> str:
    return str(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))))


def _converted(image: Image.Image) -> Image.Image:
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    color = image if image.mode in _MODES and not has_alpha else image.convert("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
    result = ImageCms.profileToProfile(color, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert result is not None
    if has_alpha:
        result.putalpha(image.convert("RGBA").getchannel("A"))
    result.info.pop("icc_profile", None)
    return result
