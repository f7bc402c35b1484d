"""Which family a checkpoint or diffusers folder belongs to, and whether it can be trained."""

from __future__ import annotations

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.families import FAMILIES

__all__ = ["detect_family"]


def detect_family(
    name: str,
    *,
    input_channels: int,
    conditioner_encoders: int,
    is_open_clip: bool,
    has_middle_attention: bool = True,
) -> str:
    """Name of a model's family, see ``core.families``.

    Args:
        name: of the file or folder, for the message.
        input_channels: of the UNet; 4 for text to image.
        conditioner_encoders: text encoders of a model in the layout of SDXL: 2, or 1 for a refiner; 0 for other models.
        is_open_clip: whether another model has SD2's text encoder or UNet.
        has_middle_attention: whether the middle block of the UNet has attention, which SSD-1B removed from SDXL.

    Raises:
        HostError: the model cannot be trained; the message says what it is.
    """
    odd = ""
    if input_channels != 4:
        odd = "an inpainting or editing model"
    elif conditioner_encoders == 1:
        odd = "an SDXL refiner"
    elif conditioner_encoders and not has_middle_attention:
        odd = "SSD-1B"
    if odd:
        titles = [family.title for family in FAMILIES.values()]
        hint = f"Ordinary {', '.join(titles[:-1])} and {titles[-1]} models can be trained."
        raise HostError(f"{name} is {odd}.", hint=hint)
    if conditioner_encoders:
        return "sdxl"
    return "sd2" if is_open_clip else "sd1"
