"""Endless labelled tabletop scenes: a scene is a function of (spec, seed, index) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ivm.data.scene import Scene, Thing
from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.layout import LABEL_ANGLE, TURNED, Arrangement, Item, arrange
from ivm.data.tabletop.library import Library, make_library
from ivm.data.tabletop.relations import spatial_relations
from ivm.data.tabletop.robot import Arm, draw_arm, sample_arm
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.stage import Camera, Drawing, Light, Stage
from ivm.errors import OptionError

__all__ = ["Studio", "tabletop_scene", "tabletop_scenes"]

RNG = np.random.Generator

# Owners of pixels that are not items; items count from 0.
_TABLE, _FLOOR, _WALL, _ARM, _GRIPPER, _MAT = range(1000, 1006)

_ATTEMPTS = 6

_BACKGROUND: dict[int, tuple[str, tuple[str, ...], frozenset[str]]] = {
    _TABLE: ("table", ("desk", "tabletop"), frozenset({"surface"})),
    _FLOOR: ("floor", ("ground",), frozenset()),
    _WALL: ("wall", (), frozenset()),
    _ARM: ("robot arm", ("robot", "arm"), frozenset()),
    _GRIPPER: ("gripper", ("robot hand", "robot gripper"), frozenset()),
    _MAT: ("placemat", ("mat",), frozenset({"surface"})),
}


def tabletop_scenes(
    seed: int, start: int = 0, count: int | None = None, spec: TabletopSpec | None = None
) -> Iterator[Scene]:
    """Scenes number `start`, `start + 1`, ... of a seed; without end if `count` is None.

    The same scenes come out for any split into processes, as long as spec and seed are the same.

    Raises:
        OptionError: seed, start or count is negative.
        MissingExtraError: mujoco is not installed.
        IVMError: no off-screen OpenGL library can be loaded.
    """
    if start < 0 or (count is not None and count < 0):
        raise OptionError(f"start and count must not be negative, but got {start} and {count}")
    with Studio(spec or TabletopSpec(), seed) as studio:
        index = start
        while count is None or index < start + count:
            yield studio.scene(index)
            index += 1


def tabletop_scene(index: int, seed: int, spec: TabletopSpec | None = None) -> Scene:
    """One scene by its number; for many, use `tabletop_scenes` or a `Studio`, which keep what is compiled."""
    with Studio(spec or TabletopSpec(), seed) as studio:
        return studio.scene(index)


class Studio:
    """Makes scenes of one spec and seed in any order; keeps the last block compiled.

    Use it as a context manager or call `close`: it holds an OpenGL context. One thread only.
    """

    def __init__(self, spec: TabletopSpec, seed: int) -> None:
        if not isinstance(seed, int) or seed < 0:
            raise OptionError(f"the seed must be an integer of at least 0, but got {seed!r}")
        self.spec, self.seed = spec, seed
        self._block = -1
        self._library: Library | None = None
        self._stage: Stage | None = None

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL context; the next `scene` opens one again."""
        if self._stage is not None:
            self._stage.close()
        self._stage = self._library = None
        self._block = -1

    def _load(self, block: int) -> tuple[Library, Stage]:
        if block != self._block or self._library is None or self._stage is None:
            self.close()
            self._library = make_library(self.spec, self.seed, block)
            self._stage = Stage(self._library, self.spec.size, self.spec.shadows, self.spec.smooth)
            self._block = block
        return self._library, self._stage

    def scene(self, index: int) -> Scene:
        """Scene number `index`, 0 or more."""
        if index < 0:
            raise OptionError(f"the index of a scene must be at least 0, but got {index}")
        library, stage = self._load(index // self.spec.block)
        rng = np.random.default_rng([self.seed, index, 0x5CE4E])
        view = self.spec.views[rng.integers(len(self.spec.views))]
        for _ in range(_ATTEMPTS):  # a camera at the wrist may see nothing but the table
            scene = self._attempt(library, stage, view, index, rng)
            if sum(thing.is_thing for thing in scene.things) >= min(2, self.spec.objects[0]):
                break
        return scene

    def _attempt(self, library: Library, stage: Stage, view: str, index: int, rng: RNG) -> Scene:
        azimuth = rng.uniform(0, 2 * np.pi)  # where the viewer stands
        arrangement = arrange(self.spec, library, azimuth, rng)
        arm = _draw_arm_pose(self.spec, view, arrangement, rng)
        camera = _draw_camera(view, azimuth, arrangement, arm, rng)
        if arm is not None and view != "wrist":
            arm = _stand_away(arm, camera, rng)
        drawing = Drawing()
        _draw_room(drawing, library, rng)
        _draw_items(drawing, library, arrangement.items)
        if arm is not None:
            draw_arm(drawing, arm, _ARM, _GRIPPER)
        lights, ambient = _draw_lights(rng)
        image, owners = stage.draw(drawing, camera, lights, ambient)
        things, shown, table = _describe(self.spec, library, arrangement, owners, camera)
        relations = spatial_relations(arrangement.items, things, shown, camera, table)
        hidden = {
            item.name for i, item in enumerate(arrangement.items) if i not in shown and (owners == i).any()
        }  # in the picture, but too little of it to be asked for, or to be called absent
        provenance = {"maker": "tabletop", "seed": self.seed, "index": index, "spec": _changes(self.spec)}
        return Scene(image, tuple(things), relations, view, frozenset(KINDS) - hidden, provenance)


def _changes(spec: TabletopSpec) -> dict[str, Any]:
    """What differs from the default spec, as plain JSON values."""
    default = asdict(TabletopSpec())
    return {name: value for name, value in spec.to_json().items() if value != _plain(default[name])}


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _look_at(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Rotation [3, 3] (columns right, up, back) of a camera at `position`."""
    back = position - target
    back = back / np.linalg.norm(back)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back, right)
    c, s = np.cos(roll), np.sin(roll)
    return np.column_stack([c * right + s * up, -s * right + c * up, back])


def _draw_camera(view: str, azimuth: float, arrangement: Arrangement, arm: Arm | None, rng: RNG) -> Camera:
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
        return Camera(position, _look_at(position, target, roll), rng.uniform(55, 76))
    fovy = rng.uniform(28, 58)
    high = np.deg2rad(rng.uniform(74, 88) if view == "top" else rng.uniform(17, 58))
    far = (radius + 0.03) * rng.uniform(0.72, 1.12) / np.tan(np.deg2rad(fovy / 2))
    far = float(np.clip(far, 0.4, 1.9))
    target = np.array([*middle[:2], 0.03]) + np.append(rng.normal(0, 0.12 * radius, 2), 0)
    position = target + far * np.array([*(toward * np.cos(high)), np.sin(high)])
    return Camera(position, _look_at(position, target, rng.normal(0, 0.02)), fovy)


def _draw_arm_pose(spec: TabletopSpec, view: str, arrangement: Arrangement, rng: RNG) -> Arm | None:
    if rng.random() >= spec.robot:
        return None
    if arrangement.items and rng.random() < 0.75:
        x, y = arrangement.items[rng.integers(len(arrangement.items))].centre[:2] + rng.normal(0, 0.025, 2)
    else:
        x, y = rng.normal(0, 0.12, 2)
    clear = arrangement.height_near(x, y, 0.075)
    above = rng.uniform(0.06, 0.16) if view == "wrist" else rng.uniform(0.015, 0.2)
    return sample_arm(np.array([x, y, clear + above]), rng.uniform(0, 2 * np.pi), rng)


def _stand_away(arm: Arm, camera: Camera, rng: RNG) -> Arm:
    """The arm turned about its gripper so that it does not come from the camera's side."""
    ahead = np.arctan2(*(arm.tip - camera.position)[[1, 0]])
    angle = ahead + rng.uniform(-1.9, 1.9)
    run = float(np.linalg.norm(arm.base - arm.tip[:2]))
    return replace(arm, base=arm.tip[:2] + run * np.array([np.cos(angle), np.sin(angle)]))


def _draw_lights(rng: RNG) -> tuple[list[Light], np.ndarray]:
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


def _draw_room(drawing: Drawing, library: Library, rng: RNG) -> None:
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
    drawing.mesh(_TABLE, top, shift, rotation * scale, rgb, finish, texture, tuple(size / tile))
    under = np.array([size[0], size[1], rng.uniform(0.02, 0.06)])
    dark = rgb * (0.75 if texture < 0 else 0.45)
    drawing.mesh(_TABLE, edge, shift - [0, 0, 0.001], rotation * under, dark, finish)
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
        drawing.mesh(_MAT, mesh, place, matrix, mat_rgb, "rough", mat_texture, (2.0, 2.0))
    rgb, texture = surface()
    floor = np.array([10.0, 10.0, 1.0])  # also under corners that stand askew
    repeat = 10.0 / rng.uniform(0.6, 2.0)
    drawing.mesh(
        _FLOOR, sheet, np.array([0, 0, -0.75]), np.diag(floor), rgb, "rough", texture, (repeat, repeat)
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
        drawing.mesh(_WALL, sheet, far, matrix, rgb, "wall", texture, (repeat, repeat / 2))


def _draw_items(drawing: Drawing, library: Library, items: tuple[Item, ...]) -> None:
    for i, item in enumerate(items):
        parts = library.specimens[item.specimen].parts
        for mesh, paint in parts:
            if paint == "main":
                repeat = (1.0, 1.0)
                if item.texture >= 0:
                    repeat = _REPEATS.get(item.name, {}).get(library.textures[item.texture].role, (1.0, 1.0))
                drawing.mesh(i, mesh, item.position, item.matrix, item.rgb, item.finish, item.texture, repeat)
            else:
                rgb = item.accent if paint == "accent" else paint
                finish = "plastic" if item.finish in ("wood", "wicker", "rough") else item.finish
                drawing.mesh(i, mesh, item.position, item.matrix, rgb, finish)


# How often a texture runs round and along: turned things stretch it too far otherwise.
_REPEATS = {name: {"label": (3.0, 1.0), "pattern": (2.0, 1.0)} for name in TURNED}


def _describe(
    spec: TabletopSpec, library: Library, arrangement: Arrangement, owners: np.ndarray, camera: Camera
) -> tuple[list[Thing], list[int], int | None]:
    """Nameable things (items first), the item of each, and the table's place among them."""
    items = arrangement.items
    least = spec.min_pixels * (spec.size / 256) ** 2
    areas = np.bincount(owners.ravel().astype(np.int64) + 1, minlength=_MAT + 2)[1:]
    shown = [
        i
        for i, item in enumerate(items)
        if areas[i] >= least and areas[i] >= _MIN_SHARE * _outline(item, library, camera, spec.size)
    ]
    sizes = _size_words(items, shown)
    forward = -camera.rotation[:, 2]
    things = []
    for i in shown:
        item, kind = items[i], KINDS[items[i].name]
        texture = library.textures[item.texture] if item.texture >= 0 else None
        material = item.finish if item.finish in ("wood", "wicker") else None
        if item.finish == "metal" and item.colour in ("silver", "gold"):
            material = "metal"
        text = texture.text if texture is not None else None
        if text is not None and not _legible(item, text, areas[i] * (256 / spec.size) ** 2, camera):
            text = None
        affordances = frozenset(kind.affordances) | ({"readable"} if text else frozenset())
        things.append(
            Thing(
                item.name,
                owners == i,
                item.colour,
                material,
                texture.pattern if texture is not None and texture.role == "pattern" else None,
                sizes.get(i),
                float((item.centre - camera.position) @ forward),
                kind.synonyms,
                affordances if text else affordances - {"readable"},
                text,
            )
        )
    table = None
    for owner, (name, synonyms, affordances) in _BACKGROUND.items():
        if areas[owner] >= least * (4 if owner in (_TABLE, _FLOOR, _WALL) else 1):
            if owner == _TABLE:
                table = len(things)
            mask = owners == owner
            things.append(Thing(name, mask, synonyms=synonyms, affordances=affordances, is_thing=False))
    return things, shown, table


def _legible(item: Item, text: str, area: float, camera: Camera) -> bool:
    """Whether a label shows and is large enough; `area` is in visible pixels of a picture of 256."""
    if area < (_READABLE if len(text) > 1 else _READABLE / 3):
        return False
    if item.name not in TURNED:
        return True  # boxes have it on every face
    toward = camera.position - item.centre
    upright = item.matrix[2, 2] > 0.9 * np.linalg.norm(item.matrix[:, 2])
    if not upright or toward[2] > 1.5 * np.linalg.norm(toward[:2]):
        return False
    heading = np.arctan2(item.matrix[1, 0], item.matrix[0, 0]) + LABEL_ANGLE
    off = (np.arctan2(toward[1], toward[0]) - heading + np.pi / 3) % (2 * np.pi / 3) - np.pi / 3
    return bool(abs(off) < np.deg2rad(26))


_MIN_SHARE = 0.22
_READABLE = 1500  # visible pixels at size 256 from which a label's word can be read; a third for a letter


def _outline(item: Item, library: Library, camera: Camera, size: int) -> float:
    """Pixels that the item would cover if nothing hid it and the frame did not end, roughly."""
    points = library.specimens[item.specimen].points[::2] @ item.matrix.T + item.position
    local = (points - camera.position) @ camera.rotation
    depth = np.maximum(-local[:, 2], 0.03)
    focal = size / 2 / np.tan(np.deg2rad(camera.fovy / 2))
    cell = max(size // 64, 1)
    pixel = np.int64(np.floor(local[:, :2] / depth[:, None] * (focal / cell)))
    pixel -= pixel.min(axis=0)
    span = np.minimum(pixel.max(axis=0) + 1, 512)
    pixel = np.minimum(pixel, span - 1)
    covered = np.zeros(int(span[0] * span[1]), bool)
    covered[pixel[:, 1] * span[0] + pixel[:, 0]] = True
    return float(covered.sum()) * cell * cell * 0.85  # cells on the edge are covered in part


def _size_words(items: tuple[Item, ...], shown: list[int]) -> dict[int, str]:
    """Item -> "large" or "small", where those of its name differ clearly."""
    words: dict[int, str] = {}
    for name in {items[i].name for i in shown}:
        mine = [i for i in shown if items[i].name == name]
        extents = np.array([items[i].extent for i in mine])
        low, high = extents.min(), extents.max()
        if high < 1.25 * low:
            continue
        for i, extent in zip(mine, extents, strict=True):
            if extent > high / 1.08:
                words[i] = "large"
            elif extent < low * 1.08:
                words[i] = "small"
    return words
