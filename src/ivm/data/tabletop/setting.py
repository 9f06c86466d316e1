"""Everything about a scene but its objects: room, light, camera, and where an arm reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ivm.data.tabletop.arm import Arm, sample_arm
from ivm.data.tabletop.arranging import TURNED, Arrangement, Item
from ivm.data.tabletop.library import Library
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.stage import Camera, Drawing, Light

__all__ = [
    "ARM",
    "FLOOR",
    "GRIPPER",
    "MAT",
    "REPEATS",
    "TABLE",
    "WALL",
    "draw_arm_pose",
    "draw_camera",
    "draw_items",
    "draw_lights",
    "draw_room",
    "look_at",
    "stand_away",
]

RNG = np.random.Generator

# Owners of pixels that are not items; items count from 0.
TABLE, FLOOR, WALL, ARM, GRIPPER, MAT = range(1000, 1006)


def look_at(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Rotation [3, 3] (columns right, up, back) of a camera at `position`."""
    back = position - target
    back = back / np.linalg.norm(back)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.column_stack([c * right + s * up, -s * right + c * up, back])


def draw_camera(view: str, azimuth: float, arrangement: Arrangement, arm: Arm | None, rng: RNG) -> Camera:
    """A camera of the kind `view` that stands towards `azimuth` (radians) and sees most of the items."""
    items = arrangement.items
    centres = np.array([item.centre for item in items]) if items else np.zeros((1, 3))
    middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
    sizes = np.array([item.extent for item in items]) if items else np.array([0.1])
    radius = float((np.linalg.norm(centres[:, :2] - middle[:2], axis=1) + sizes).max())
    toward = np.array([np.cos(azimuth), np.sin(azimuth)])
    if view == "wrist":
        tip = arm.tip if arm is not None else np.array([*middle[:2], rng.uniform(0.06, 0.2)])
        if arm is not None:  # the camera sits on the gripper's flat side
            toward = np.array([-np.sin(arm.turn), np.cos(arm.turn)]) * (1 if rng.random() < 0.5 else -1)
        position = np.append(tip[:2] + toward * rng.uniform(0.09, 0.14), tip[2] + rng.uniform(0.11, 0.2))
        tilt = np.deg2rad(rng.uniform(4, 24))
        target = np.append(position[:2] - toward * position[2] * np.tan(tilt), 0.0)
        roll = rng.normal(0, 0.05) + (np.pi if rng.random() < 0.5 else 0.0)  # fingers at the top or bottom
        return Camera(position, look_at(position, target, roll), rng.uniform(55, 76))
    fovy = rng.uniform(28, 58)
    high = np.deg2rad(rng.uniform(74, 88) if view == "top" else rng.uniform(17, 58))
    far = (radius + 0.03) * rng.uniform(0.72, 1.12) / np.tan(np.deg2rad(fovy / 2))
    far = float(np.clip(far, 0.4, 1.9))
    target = np.array([*middle[:2], 0.03]) + np.append(rng.normal(0, 0.12 * radius, 2), 0)
    position = target + far * np.array([*(toward * np.cos(high)), np.sin(high)])
    return Camera(position, look_at(position, target, rng.normal(0, 0.02)), fovy)


def draw_arm_pose(spec: TabletopSpec, view: str, arrangement: Arrangement, rng: RNG) -> Arm | None:
    """An arm, with the share of scenes that have one, whose gripper is over the table or over an item."""
    if rng.random() >= spec.robot:
        return None
    if arrangement.items and rng.random() < 0.75:
        x, y = arrangement.items[rng.integers(len(arrangement.items))].centre[:2] + rng.normal(0, 0.025, 2)
    else:
        x, y = rng.normal(0, 0.12, 2)
    clear = arrangement.height_near(x, y, 0.075)
    above = rng.uniform(0.06, 0.16) if view == "wrist" else rng.uniform(0.015, 0.2)
    return sample_arm(np.array([x, y, clear + above]), rng.uniform(0, 2 * np.pi), rng)


def stand_away(arm: Arm, camera: Camera, rng: RNG) -> Arm:
    """The arm turned about its gripper so that it does not come from the camera's side."""
    ahead = np.arctan2(*(arm.tip - camera.position)[[1, 0]])
    angle = ahead + rng.uniform(-1.9, 1.9)
    run = float(np.linalg.norm(arm.base - arm.tip[:2]))
    return replace(arm, base=arm.tip[:2] + run * np.array([np.cos(angle), np.sin(angle)]))


def draw_lights(rng: RNG) -> tuple[list[Light], np.ndarray]:
    """One to three lights that together leave colours what they are called."""
    tint = 1 + rng.normal(0, 0.025, 3)
    ambient = rng.uniform(0.36, 0.5) * tint
    count = int(rng.integers(1, 4))
    total = rng.uniform(0.47, 0.62)
    shares = rng.dirichlet(np.full(count, 1.5)) if count > 1 else np.ones(1)
    shares = np.sort(shares)[::-1]
    lights = []
    for i, share in enumerate(shares):
        angle, high = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(38, 85))
        direction = -np.array([np.cos(angle) * np.cos(high), np.sin(angle) * np.cos(high), np.sin(high)])
        strength = total * share / max(np.sin(high), 0.6)
        diffuse = strength * tint * (1 + rng.normal(0, 0.03, 3))
        lights.append(Light(-2 * direction, direction, diffuse, float(rng.uniform(0.1, 0.6) * share), i == 0))
    return lights, ambient


def draw_room(drawing: Drawing, library: Library, rng: RNG) -> None:
    """Add table, floor and walls, sometimes a placemat."""
    surfaces = library.by_role["surface"]

    def surface() -> tuple[np.ndarray, int]:
        """Tint and texture of one surface; a fifth are plain."""
        if rng.random() < 0.2:
            grey = rng.uniform(0.25, 0.95)
            return np.clip(grey + rng.normal(0, 0.06, 3), 0.08, 0.95), -1
        return np.full(3, rng.uniform(0.75, 0.98)), surfaces[rng.integers(len(surfaces))]

    sheet, slab = library.furniture["sheet"], library.furniture["slab"]
    finish = ("wood", "rough", "varnish")[rng.integers(3)]
    rgb, texture = surface()
    round_table = rng.random() < 0.2
    size = rng.uniform(1.3, 1.9, 2) if not round_table else np.full(2, rng.uniform(1.4, 1.8))
    turn = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    tile = rng.uniform(0.25, 0.9)  # metres that one tile of the texture covers
    shift = np.append(rng.normal(0, 0.06, 2), 0)
    top = library.furniture["disc"] if round_table else sheet
    edge = library.furniture["drum"] if round_table else slab
    scale = np.array([size[0], size[1], 1.0])
    drawing.mesh(TABLE, top, shift, rotation * scale, rgb, finish, texture, tuple(size / tile))
    under = np.array([size[0], size[1], rng.uniform(0.02, 0.06)])
    dark = rgb * (0.75 if texture < 0 else 0.45)
    drawing.mesh(TABLE, edge, shift - [0, 0, 0.001], rotation * under, dark, finish)
    if rng.random() < 0.12:
        mat = rng.uniform([0.3, 0.25], [0.5, 0.4])
        mat_rgb, mat_texture = surface()
        round_mat = rng.random() < 0.4
        if round_mat:
            mat[1] = mat[0]
        angle = rng.uniform(0, np.pi)
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) * np.append(mat, 1.0)
        place = np.append(rng.normal(0, 0.05, 2), 0.0015)
        mesh = library.furniture["disc"] if round_mat else sheet
        drawing.mesh(MAT, mesh, place, matrix, mat_rgb, "rough", mat_texture, (2.0, 2.0))
    rgb, texture = surface()
    floor = np.array([10.0, 10.0, 1.0])  # also under corners that stand askew
    repeat = 10.0 / rng.uniform(0.6, 2.0)
    drawing.mesh(
        FLOOR, sheet, np.array([0, 0, -0.75]), np.diag(floor), rgb, "rough", texture, (repeat, repeat)
    )
    turn = rng.uniform(0, 2 * np.pi)
    rgb, texture = surface()
    repeat = 6.0 / rng.uniform(0.8, 3.0)
    for k in range(4):
        angle = turn + k * np.pi / 2
        inward = -np.array([np.cos(angle), np.sin(angle), 0.0])
        across = np.array([inward[1], -inward[0], 0.0])
        matrix = np.column_stack([across * 7.0, np.array([0, 0, 3.2]), np.cross(across, [0, 0, 1.0])])
        far = -inward * rng.uniform(2.2, 3.3) + [0, 0, 0.85]
        drawing.mesh(WALL, sheet, far, matrix, rgb, "wall", texture, (repeat, repeat / 2))


def draw_items(drawing: Drawing, library: Library, items: tuple[Item, ...]) -> None:
    """Add every part of every item; the owner is the number of the item."""
    for i, item in enumerate(items):
        parts = library.specimens[item.specimen].parts
        for mesh, paint in parts:
            if paint == "main":
                repeat = (1.0, 1.0)
                if item.texture >= 0:
                    repeat = REPEATS.get(item.name, {}).get(library.textures[item.texture].role, (1.0, 1.0))
                drawing.mesh(i, mesh, item.position, item.matrix, item.rgb, item.finish, item.texture, repeat)
            else:
                rgb = item.accent if paint == "accent" else paint
                finish = "plastic" if item.finish in ("wood", "wicker", "rough") else item.finish
                drawing.mesh(i, mesh, item.position, item.matrix, rgb, finish, main=False)


# How often a texture runs round and along: turned things stretch it too far otherwise.
REPEATS = {name: {"label": (3.0, 1.0), "pattern": (2.0, 1.0)} for name in TURNED}
