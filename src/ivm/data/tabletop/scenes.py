"""Endless labelled tabletop scenes: a scene is a function of (spec, seed, index) alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ivm.data.reading import GENERIC
from ivm.data.scene import Scene, Thing
from ivm.data.tabletop.arm import draw_arm
from ivm.data.tabletop.arranging import LABEL_ANGLE, TURNED, Arrangement, Item, arrange
from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.library import Library, make_library
from ivm.data.tabletop.setting import (
    ARM,
    FLOOR,
    GRIPPER,
    MAT,
    TABLE,
    WALL,
    draw_arm_pose,
    draw_camera,
    draw_items,
    draw_lights,
    draw_room,
    stand_away,
)
from ivm.data.tabletop.spatial import spatial_relations
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.stage import Camera, Drawing, Stage
from ivm.errors import OptionError

__all__ = ["Studio", "tabletop_scene", "tabletop_scenes"]

RNG = np.random.Generator

_ATTEMPTS = 6
_MIN_FILLED = 0.02  # of the picture, by things that can be named

_BACKGROUND: dict[int, tuple[str, tuple[str, ...], frozenset[str]]] = {
    TABLE: ("table", ("desk", "tabletop"), frozenset({"surface"})),
    FLOOR: ("floor", ("ground",), frozenset()),
    WALL: ("wall", (), frozenset()),
    ARM: ("robot arm", ("robot", "arm"), frozenset()),
    GRIPPER: ("gripper", ("robot hand", "robot gripper"), frozenset()),
    MAT: ("placemat", ("mat",), frozenset({"surface"})),
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
            areas = [thing.area for thing in scene.things if thing.is_thing]
            if len(areas) >= min(2, self.spec.objects[0]) and sum(areas) >= _MIN_FILLED * self.spec.size**2:
                break
        return scene

    def _attempt(self, library: Library, stage: Stage, view: str, index: int, rng: RNG) -> Scene:
        azimuth = rng.uniform(0, 2 * np.pi)  # where the viewer stands
        arrangement = arrange(self.spec, library, azimuth, rng)
        arm = draw_arm_pose(self.spec, view, arrangement, rng)
        camera = draw_camera(view, azimuth, arrangement, arm, rng)
        if arm is not None and view != "wrist":
            arm = stand_away(arm, camera, rng)
        drawing = Drawing()
        draw_items(drawing, library, arrangement.items)
        if arm is not None:
            draw_arm(drawing, arm, ARM, GRIPPER)
        draw_room(drawing, library, rng)  # last: what is hidden behind nearer parts costs nothing
        lights, ambient = draw_lights(rng)
        image, parts = stage.draw(drawing, camera, lights, ambient)
        owners = np.array([*drawing.owners, -1], np.int16)
        pixels = np.bincount(parts.ravel().astype(np.intp) + 1, minlength=len(owners))
        pixels = np.append(pixels[1:], pixels[0])  # of each part; of nothing at the end, as -1 finds it
        seen = _Seen(
            owners[parts],
            np.bincount(owners[:-1], pixels[:-1], MAT + 1),
            np.bincount(owners[:-1], pixels[:-1] * np.array(drawing.main), MAT + 1),
        )
        things, shown, table = _describe(self.spec, library, arrangement, seen, camera)
        relations = spatial_relations(arrangement.items, things, shown, camera, table)
        hidden = {
            i for i in range(len(arrangement.items)) if i not in shown and seen.areas[i] > 0
        }  # in the picture, but too little of it to be asked for, or to be called absent
        nouns = _NOUNS - _nouns_of(arrangement.items[i].name for i in hidden)
        if all(seen.areas[i] < _least(self.spec) for i in hidden):  # else "everything" would be more
            nouns |= frozenset(GENERIC)
        provenance = {"maker": "tabletop", "seed": self.seed, "index": index, "spec": _changes(self.spec)}
        return Scene(image, tuple(things), relations, view, nouns, provenance)


def _nouns_of(names: Iterable[str]) -> frozenset[str]:
    return frozenset(noun for name in names for noun in (name, *KINDS[name].synonyms))


_NOUNS = _nouns_of(KINDS)  # what every scene was searched for


def _changes(spec: TabletopSpec) -> dict[str, Any]:
    """What differs from the default spec, as plain JSON values."""
    default = asdict(TabletopSpec())
    return {name: value for name, value in spec.to_json().items() if value != _plain(default[name])}


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, eq=False)
class _Seen:
    """Owner of every pixel, int16 [S, S]; each owner's pixels, and how many of them have its main colour."""

    owners: np.ndarray
    areas: np.ndarray
    coloured: np.ndarray


def _describe(
    spec: TabletopSpec,
    library: Library,
    arrangement: Arrangement,
    seen: _Seen,
    camera: Camera,
) -> tuple[list[Thing], list[int], int | None]:
    """Nameable things (items first), the item of each, and the table's place among them."""
    items = arrangement.items
    least = _least(spec)
    areas = seen.areas
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
                seen.owners == i,
                item.colour if seen.coloured[i] >= _MIN_COLOURED * areas[i] else None,
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
        if areas[owner] >= least * (4 if owner in (TABLE, FLOOR, WALL) else 1):
            if owner == TABLE:
                table = len(things)
            mask = seen.owners == owner
            things.append(Thing(name, mask, synonyms=synonyms, affordances=affordances, is_thing=False))
    return things, shown, table


def _least(spec: TabletopSpec) -> float:
    """Visible pixels from which a thing is named."""
    return spec.min_pixels * (spec.size / 256) ** 2


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


_MIN_SHARE = 0.22  # visible, of a thing's whole outline; less of it is not asked for
_MIN_COLOURED = 0.4  # of what is visible, in its main colour; else (a can from above) it has no colour word
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
