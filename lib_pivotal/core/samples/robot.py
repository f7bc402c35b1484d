"""The character of the sample images: a small robot with things that no word for robots says."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pivotal.core.samples.drawing import Color, Drawing

__all__ = ["Pose", "draw_robot"]

_TEAL: Color = (38, 160, 156)
_DARK: Color = (22, 104, 106)
_CREAM: Color = (248, 232, 196)
_ORANGE: Color = (238, 128, 46)
_RED: Color = (214, 52, 60)
_YELLOW: Color = (252, 206, 62)
_INK: Color = (28, 34, 44)
_WHITE: Color = (255, 255, 255)


@dataclass(frozen=True)
class Pose:
    """How the robot stands.

    Attributes:
        x: center, 0 … 1 from the left.
        y: soles of its boots, 0 … 1 from the top.
        size: its height, 0 … 1 of the image.
        arms: ``down``, ``up``, ``waving`` or ``holding``.
        face: ``smiling``, ``laughing``, ``sleeping`` or ``surprised``.
    """

    x: float = 0.5
    y: float = 0.88
    size: float = 0.62
    arms: str = "down"
    face: str = "smiling"


_ARMS = {
    "down": (((-0.24, -0.42), (-0.35, -0.30), (-0.35, -0.17)), ((0.24, -0.42), (0.35, -0.30), (0.35, -0.17))),
    "up": (((-0.24, -0.42), (-0.37, -0.52), (-0.38, -0.68)), ((0.24, -0.42), (0.37, -0.52), (0.38, -0.68))),
    "waving": (((-0.24, -0.42), (-0.35, -0.30), (-0.35, -0.17)), ((0.24, -0.42), (0.40, -0.46), (0.44, -0.64))),
    "holding": (((-0.24, -0.42), (-0.35, -0.30), (-0.30, -0.17)), ((0.24, -0.42), (0.36, -0.38), (0.42, -0.44))),
}
"""Shoulder, elbow and hand of both arms, relative to the soles, in heights of the robot."""


def draw_robot(drawing: Drawing, pose: Pose) -> tuple[float, float]:
    """Draw the robot.

    Args:
        drawing: to draw into.
        pose: how it stands.

    Returns:
        Where its right hand (from the viewer) is.
    """

    def at(x: float, y: float) -> tuple[float, float]:
        return pose.x + x * pose.size, pose.y + y * pose.size

    h = pose.size
    for side in (-1, 1):
        drawing.line([at(side * 0.12, -0.22), at(side * 0.12, -0.08)], 0.07 * h, _DARK)
        drawing.box(*at(side * 0.135, -0.045), 0.19 * h, 0.09 * h, _ORANGE, corner=0.035 * h)
    hand = (0.0, 0.0)
    for points in _ARMS[pose.arms]:
        drawing.line([at(*point) for point in points], 0.065 * h, _DARK)
        hand = at(*points[-1])
        drawing.circle(*hand, 0.055 * h, _ORANGE)
    drawing.box(*at(0, -0.36), 0.50 * h, 0.36 * h, _TEAL, corner=0.13 * h)
    drawing.ellipse(*at(0, -0.335), 0.30 * h, 0.24 * h, _CREAM)
    for index, color in enumerate((_RED, _YELLOW, _TEAL)):
        drawing.circle(*at(-0.07 + 0.07 * index, -0.335), 0.022 * h, color)
    _draw_head(drawing, pose)
    return hand


def _draw_head(drawing: Drawing, pose: Pose) -> None:
    def at(x: float, y: float) -> tuple[float, float]:
        return pose.x + x * pose.size, pose.y + y * pose.size

    h = pose.size
    drawing.line([at(0.06, -0.82), at(0.10, -0.94)], 0.028 * h, _DARK)
    drawing.circle(*at(0.10, -0.955), 0.045 * h, _RED)
    for side in (-1, 1):
        drawing.box(*at(side * 0.285, -0.67), 0.06 * h, 0.14 * h, _ORANGE, corner=0.02 * h)
    drawing.box(*at(0, -0.67), 0.54 * h, 0.32 * h, _TEAL, corner=0.12 * h)
    drawing.box(*at(0, -0.67), 0.44 * h, 0.22 * h, _CREAM, corner=0.09 * h)
    # One eye is larger than the other: this is what makes it this robot.
    for x, radius, color in ((-0.11, 0.075, _YELLOW), (0.10, 0.045, _WHITE)):
        _draw_eye(drawing, *at(x, -0.69), radius * h, color, pose.face)
    x, y = at(0.0, -0.605)
    if pose.face == "surprised":
        drawing.ellipse(x, y, 0.05 * h, 0.055 * h, _INK)
    elif pose.face == "laughing":
        drawing.ellipse(x, y, 0.12 * h, 0.06 * h, _RED)
    else:
        drawing.arc(x, y - 0.02 * h, 0.05 * h, 25, 155, 0.016 * h, _INK)


def _draw_eye(drawing: Drawing, x: float, y: float, radius: float, color: Color, face: str) -> None:
    if face == "sleeping":
        drawing.arc(x, y, radius * 0.8, 10, 170, radius * 0.22, _INK)
        return
    drawing.circle(x, y, radius * 1.15, _INK)
    drawing.circle(x, y, radius, color)
    drawing.circle(x, y, radius * (0.62 if face == "surprised" else 0.45), _INK)
    drawing.circle(x - radius * 0.18, y - radius * 0.2, radius * 0.15, _WHITE)
