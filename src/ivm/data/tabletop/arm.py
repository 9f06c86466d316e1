"""A simple arm with a two-finger gripper: its parts, from where the finger tips should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ivm.data.tabletop.paint import sample_colour
from ivm.data.tabletop.stage import Drawing

__all__ = ["Arm", "draw_arm", "joints", "sample_arm"]

RNG = np.random.Generator

_SHOULDER = 0.30  # metres above the table
_HAND = 0.15  # wrist to finger tips


@dataclass(frozen=True, eq=False)
class Arm:
    """Where an arm stands and what it looks like.

    Attributes:
        base: float [2], on the table.
        tip: float [3], between the finger tips; the gripper points down.
        links: (upper arm, forearm) in metres.
        thick: radius of the links, in metres.
        opening: between the fingers, in metres.
        turn: of the gripper about the vertical, in radians.
        body, joint: float [3] sRGB colours of links and of joints and gripper.
        square: links are boxes, else capsules.
    """

    base: np.ndarray
    tip: np.ndarray
    links: tuple[float, float]
    thick: float
    opening: float
    turn: float
    body: np.ndarray
    joint: np.ndarray
    square: bool


def sample_arm(tip: np.ndarray, away: float, rng: RNG) -> Arm:
    """A random arm whose finger tips are at `tip` and whose base stands in direction `away` (radians)."""
    links = rng.uniform(0.30, 0.38), rng.uniform(0.27, 0.34)
    reach = sum(links) * rng.uniform(0.6, 0.9)
    rise = tip[2] + _HAND - _SHOULDER
    run = np.sqrt(max(reach**2 - rise**2, 0.2**2))
    base = tip[:2] + run * np.array([np.cos(away), np.sin(away)])
    body = ("white", "grey", "black", "orange", "yellow", "blue", "red", "silver", "white")[rng.integers(9)]
    joint = ("black", "grey", "silver", "white", "black")[rng.integers(5)]
    return Arm(
        base,
        tip,
        links,
        rng.uniform(0.026, 0.042),
        rng.uniform(0.03, 0.085),
        rng.uniform(0, np.pi),
        sample_colour(body, rng),
        sample_colour(joint, rng),
        bool(rng.random() < 0.35),
    )


def _up(metres: float) -> np.ndarray:
    return np.array([0.0, 0.0, metres])


def joints(arm: Arm) -> np.ndarray:
    """float [3, 3]: shoulder, elbow and wrist, the elbow up."""
    shoulder = np.array([*arm.base, _SHOULDER])
    wrist = arm.tip + _up(_HAND)
    upper, fore = arm.links
    line = wrist - shoulder
    distance = min(float(np.linalg.norm(line)), 0.999 * (upper + fore))
    along = line / np.linalg.norm(line)
    cosine = (upper**2 + distance**2 - fore**2) / (2 * upper * distance)
    cosine = float(np.clip(cosine, -1, 1))
    up = np.array([0, 0, 1.0]) - along * along[2]
    up /= np.linalg.norm(up)
    elbow = shoulder + upper * (cosine * along + np.sqrt(1 - cosine**2) * up)
    return np.array([shoulder, elbow, wrist])


def draw_arm(drawing: Drawing, arm: Arm, arm_owner: int, gripper_owner: int) -> None:
    """Add the arm's parts: base and links belong to `arm_owner`, hand and fingers to `gripper_owner`."""
    shoulder, elbow, wrist = joints(arm)
    r = arm.thick
    upright = np.eye(3)

    def bar(a: np.ndarray, b: np.ndarray, radius: float, rgb: np.ndarray) -> None:
        axis = (b - a) / np.linalg.norm(b - a)
        side = np.cross([0, 0, 1.0], axis) if abs(axis[2]) < 0.99 else np.array([1.0, 0, 0])
        side /= np.linalg.norm(side)
        rotation = np.column_stack([side, np.cross(axis, side), axis])
        half = float(np.linalg.norm(b - a)) / 2
        if arm.square:
            size = (radius * 0.9, radius * 0.9, half)
            drawing.primitive(arm_owner, "box", size, (a + b) / 2, rotation, rgb, "plastic")
        else:
            drawing.primitive(arm_owner, "capsule", (radius, half, 0), (a + b) / 2, rotation, rgb, "plastic")

    foot = np.array([*arm.base, 0.0])
    drawing.primitive(
        arm_owner, "cylinder", (2.2 * r, 0.02, 0), foot + _up(0.02), upright, arm.joint, "plastic"
    )
    bar(foot, shoulder, 1.35 * r, arm.body)
    bar(shoulder, elbow, r, arm.body)
    bar(elbow, wrist, 0.85 * r, arm.body)
    line = wrist[:2] - arm.base
    line = line / max(float(np.linalg.norm(line)), 1e-6)
    across = np.array([-line[1], line[0], 0.0])
    axle = np.column_stack([[0, 0, 1.0], np.cross(across, [0, 0, 1.0]), across])
    for point, width in ((shoulder, 1.5), (elbow, 1.3), (wrist, 1.1)):
        size = (width * r, width * r * 1.1, 0)
        drawing.primitive(arm_owner, "cylinder", size, point, axle, arm.joint, "plastic")
    c, s = np.cos(arm.turn), np.sin(arm.turn)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    flange = (wrist + arm.tip + _up(0.085)) / 2
    drawing.primitive(gripper_owner, "cylinder", (0.6 * r, 0.03, 0), flange, upright, arm.body, "plastic")
    hand = arm.tip + _up(0.075)
    drawing.primitive(gripper_owner, "box", (0.055, 0.018, 0.016), hand, turn, arm.joint, "plastic")
    for side in (-1, 1):
        finger = arm.tip + turn @ [side * (arm.opening / 2 + 0.005), 0, 0.03]
        drawing.primitive(gripper_owner, "box", (0.005, 0.010, 0.032), finger, turn, arm.joint, "metal")
