"""The demo's result: a Markdown table, one line per claim, and a grid of images."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

__all__ = [
    "CONTROL",
    "CONTROL_BARE",
    "EMBEDDINGS",
    "INIT",
    "ROWS",
    "TEXT",
    "UNET",
    "WHOLE",
    "Claim",
    "claims",
    "grid",
    "table",
]

Losses = Mapping[str, Mapping[str, float]]
"""Base → row → mean held-out loss."""

INIT, EMBEDDINGS, UNET, TEXT, WHOLE = (
    "initialization text, no bundle",
    "embeddings only",
    "embeddings + UNet LoRA",
    "embeddings + text encoder LoRA",
    "whole bundle",
)
CONTROL_BARE, CONTROL = "control: rare word, without its LoRA", "control: rare word with its LoRA"
ROWS = (INIT, EMBEDDINGS, TEXT, UNET, WHOLE, CONTROL_BARE, CONTROL)


@dataclass(frozen=True)
class Claim:
    """A claim of pivotal tuning and whether the numbers support it."""

    text: str
    holds: bool
    numbers: str

    def __str__(self) -> str:
        """The claim, its verdict and the numbers in one line."""
        return f"{'holds' if self.holds else 'DOES NOT HOLD'}: {self.text} ({self.numbers})"


def claims(losses: Losses) -> list[Claim]:
    """Judge the claims by the mean losses on base models ``"A"`` and ``"B"``.

    Source: the recipe at https://civitai.com/articles/2494 claims that the embeddings carry the identity, so that it
    is still there without the LoRA and can be used on other base models.
    """
    a, b = losses["A"], losses["B"]
    gain, control_gain = a[INIT] - a[WHOLE], a[INIT] - a[CONTROL]
    kept = _share(a[INIT] - a[EMBEDDINGS], gain)
    control_kept = _share(a[INIT] - a[CONTROL_BARE], control_gain)
    moved, moved_embeddings = _share(b[INIT] - b[WHOLE], gain), b[INIT] - b[EMBEDDINGS]
    # "Not worse" allows a difference of one per mille, which is measurement noise.
    ordered = a[WHOLE] <= a[UNET] * 1.001 and a[UNET] < a[EMBEDDINGS] < a[INIT]
    return [
        Claim(
            "whole bundle ≤ UNet part < embeddings alone < initialization text",
            ordered,
            " ≤ ".join(f"{a[row]:.4f}" for row in (WHOLE, UNET, EMBEDDINGS, INIT)),
        ),
        Claim(
            "embeddings alone keep more than 30 % of the gain, the control about none without its LoRA",
            kept > 0.3 and control_kept < 0.1,
            f"{kept:.0%} and {control_kept:.0%}",
        ),
        Claim(
            "on base B, without training on it, at least 50 % of the gain remains",
            moved >= 0.5 and moved_embeddings > 0,
            f"{moved:.0%}; embeddings alone gain {moved_embeddings:.4f}",
        ),
    ]


def _share(part: float, whole: float) -> float:
    """The share of a gain that remains; 0 where there was no gain."""
    return part / whole if whole > 0 else 0.0


def table(losses: Losses) -> str:
    """Markdown table of the mean losses; lower is better."""
    bases = list(losses)
    lines = ["| what is switched on | " + " | ".join(f"base {base}" for base in bases) + " |"]
    lines.append("|---|" + "---:|" * len(bases))
    lines += [f"| {row} | " + " | ".join(f"{losses[base][row]:.4f}" for base in bases) + " |" for row in ROWS]
    return "\n".join(lines)


def grid(rows: Sequence[tuple[str, Sequence[Image.Image]]], titles: Sequence[str], side: int = 128) -> Image.Image:
    """One labeled row of images per entry.

    Args:
        rows: label and images of each row.
        titles: titles of the columns.
        side: side of an image in the grid, in px.
    """
    left, top = 250, 52
    sheet = Image.new("RGB", (left + len(titles) * (side + 6), top + len(rows) * (side + 6)), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        lines = "\n".join(textwrap.wrap(title, side // 6, break_long_words=False))
        pen.multiline_text((left + column * (side + 6), 4), lines, fill=(0, 0, 0))
    for number, (label, images) in enumerate(rows):
        y = top + number * (side + 6)
        pen.text((8, y + side // 2 - 6), label, fill=(0, 0, 0))
        for column, image in enumerate(images):
            enlarged = image.convert("RGB").resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left + column * (side + 6), y))
    return sheet
