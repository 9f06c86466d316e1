"""Where things stand: objects lowered one by one onto a height map of the table.

Placing is exact and quick rather than simulated: a thing is lowered straight down until it touches, and kept
only if what carries it is meant to carry things and supports it on all sides. What lies on or in what is
read off the same contact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.library import Library
from ivm.data.tabletop.paint import sample_colour
from ivm.data.tabletop.spec import TabletopSpec

__all__ = ["LABEL_ANGLE", "TURNED", "Arrangement", "Item", "arrange"]

TURNED = frozenset({"can", "bottle", "jar", "cup", "mug", "jug", "vase", "teapot", "bowl", "ball"})
"""Kinds round which a texture runs."""

LABEL_ANGLE = np.pi / 3
"""Direction in which one of the three copies of a label on a turned thing looks, before it is placed."""

CELL = 0.006  # metres
HALF = 120  # cells from the middle of the map to its edge
SIDE = 2 * HALF
_CONTACT = 0.004  # metres within which surfaces count as touching

RNG = np.random.Generator


@dataclass(frozen=True, eq=False)
class Item:
    """One object as placed.

    Attributes:
        name: of KINDS.
        specimen: index in the library.
        position: float [3], of the specimen's origin.
        matrix: float [3, 3], turns and stretches the specimen.
        colour, rgb, accent: colour word, float [3] sRGB, and the second colour.
        finish: see Kind.
        texture: index in the library, or -1.
        support: index of the item that carries it, or -1 for the table.
        inside: it is in, not on, its support.
        centre: float [3], the middle of its points.
        extent: float, its size: the geometric mean of its three widths, in metres.
    """

    name: str
    specimen: int
    position: np.ndarray
    matrix: np.ndarray
    colour: str
    rgb: np.ndarray
    accent: np.ndarray
    finish: str
    texture: int
    support: int
    inside: bool
    centre: np.ndarray
    extent: float


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Items, and the height map float32 [SIDE, SIDE] (metres over the table) that they make."""

    items: tuple[Item, ...]
    heights: np.ndarray

    def height_near(self, x: float, y: float, radius: float) -> float:
        """The highest point within a square of half width `radius` metres about (x, y)."""
        r = int(np.ceil(radius / CELL))
        column, row = int(np.clip(x / CELL + HALF, r, SIDE - r)), int(np.clip(y / CELL + HALF, r, SIDE - r))
        return float(self.heights[row - r : row + r + 1, column - r : column + r + 1].max())


@dataclass(frozen=True, eq=False)
class _Look:
    """What an object is, before it has a place."""

    name: str
    specimen: int
    colour: str
    rgb: np.ndarray
    accent: np.ndarray
    finish: str
    texture: int
    scale: np.ndarray


class _Footprint:
    """Lowest and highest point over each cell of the grid that an object covers."""

    def __init__(self, points: np.ndarray) -> None:
        cells = np.rint(points[:2] * (1 / CELL)).astype(np.int64)
        reach = int(max(cells.max(), -cells.min())) + 1
        width = 2 * reach + 1
        key = (cells[1] + reach) * width + cells[0] + reach
        bottom = np.full(width * width, np.inf, np.float32)
        top = np.full(width * width, -np.inf, np.float32)
        np.minimum.at(bottom, key, points[2])
        np.maximum.at(top, key, points[2])
        used = np.flatnonzero(top > -np.inf)
        self.rows, self.columns = used // width - reach, used % width - reach
        self.bottom, self.top = bottom[used], top[used]
        self.offsets = self.rows * SIDE + self.columns
        self.reach = reach
        self.middle = points[:2].mean(axis=1)  # as good as the centre of mass for things of even thickness


class _Map:
    def __init__(self) -> None:
        self.heights = np.zeros(SIDE * SIDE, np.float32)
        self.owners = np.full(SIDE * SIDE, -1, np.int16)

    def cells(self, foot: _Footprint, x: float, y: float) -> np.ndarray | None:
        """Flat indices under the footprint put at (x, y), or None if it leaves the map."""
        column, row = round(x / CELL) + HALF, round(y / CELL) + HALF
        if not (foot.reach <= column < SIDE - foot.reach and foot.reach <= row < SIDE - foot.reach):
            return None
        return foot.offsets + (row * SIDE + column)

    def put(self, foot: _Footprint, cells: np.ndarray, z: float, owner: int) -> None:
        top = foot.top + z
        higher = top > self.heights[cells]
        self.heights[cells[higher]] = top[higher]
        self.owners[cells[higher]] = owner


def arrange(spec: TabletopSpec, library: Library, azimuth: float, rng: RNG) -> Arrangement:
    """Draw objects and put them on the table; most labels look towards `azimuth` (radians)."""
    choices = spec.choices
    count = int(rng.integers(spec.objects[0], spec.objects[1] + 1))
    radius = (0.07 + 0.075 * np.sqrt(count)) * rng.uniform(0.85, 1.15)
    squash = rng.uniform(0.65, 1.0)
    ground = _Map()
    items: list[Item] = []
    for k in range(count):
        pile = bool(items) and rng.random() < spec.stacked
        fits = (
            max((_bearer_width(item, library) for item in items if _carries(item)), default=0.0)
            if pile
            else 0.0
        )
        look = _draw_look(spec, library, choices, items, fits, rng, first=k == 0)
        kind = KINDS[look.name]
        specimen = library.specimens[look.specimen]
        for _ in range(2):  # a second orientation, if the first finds no room
            turn, lying = _turn(rng, kind.lying, _facing(look, library, azimuth, rng))
            matrix = turn * look.scale
            points = matrix.astype(np.float32) @ specimen.points.T  # [3, P]: rows are quick to reduce
            lift = float(points[2].min())
            points[2] -= lift
            foot = _Footprint(points)
            found = None
            if pile and not lying:
                for which in _bearers(items, look, rng):
                    found = _find_support(which, look, foot, items, library, ground, rng)
                    if found is not None:
                        break
            if found is None:
                found = _find_room(foot, ground, radius, squash, rng)
            if found is not None:
                break
        else:
            continue
        x, y, z, support, inside = found
        cells = ground.cells(foot, x, y)
        assert cells is not None
        ground.put(foot, cells, z, len(items))
        low, high = points.min(axis=1), points.max(axis=1)
        items.append(
            Item(
                look.name,
                look.specimen,
                np.array([x, y, z - lift]),
                matrix,
                look.colour,
                look.rgb,
                look.accent,
                look.finish,
                look.texture,
                support,
                inside,
                (low + high) / 2 + [x, y, z],
                float(np.prod(specimen.extent * look.scale) ** (1 / 3)),
            )
        )
    return Arrangement(tuple(items), ground.heights.reshape(SIDE, SIDE))


def _draw_look(
    spec: TabletopSpec,
    library: Library,
    choices: dict[str, tuple[str, ...]],
    items: list[Item],
    fits: float,
    rng: RNG,
    first: bool,
) -> _Look:
    """What the next thing is; one of half width `fits` metres at most, if that is given and there is any."""
    colour = None
    scale = rng.uniform(0.85, 1.18)
    if first and spec.only_pairs:
        name, colour = spec.only_pairs[rng.integers(len(spec.only_pairs))]
    elif items and not fits and rng.random() < spec.twins:
        other = items[rng.integers(len(items))]
        name = other.name
        different = [c for c in choices[name] if c != other.colour]
        if different and rng.random() < 0.85:
            colour = different[rng.integers(len(different))]
        if rng.random() < 0.35:  # a clearly smaller or larger one
            scale = rng.uniform(0.66, 0.76) if rng.random() < 0.5 else rng.uniform(1.3, 1.42)
    else:
        names = list(choices)
        weights = np.array([KINDS[n].weight for n in names])
        if fits:
            small = np.array([library.half_width[n] < fits for n in names])
            weights = np.where(small, weights, 0) if small.any() else weights
        if first and rng.random() < spec.stacked:  # begin with something that others can be put on or in
            carries = np.array(
                [bool(_BEARERS & set(KINDS[n].affordances)) and n not in _NARROW for n in names]
            )
            weights = np.where(carries, weights, 0) if carries.any() else weights
        name = names[rng.choice(len(names), p=weights / weights.sum())]
    kind = KINDS[name]
    allowed = choices[name] if colour is None else (colour,)
    finish = kind.finish[0] if rng.random() < 0.7 else kind.finish[rng.integers(len(kind.finish))]
    texture = _draw_texture(spec, library, name, allowed, finish, rng)
    painted = library.textures[texture].colour if texture >= 0 else None
    colour = painted or allowed[rng.integers(len(allowed))]
    rgb = sample_colour(colour, rng, kind.shades.get(colour))
    if painted is not None:
        rgb = np.ones(3, np.float32)  # the texture has the colour already
    accent = sample_colour(("white", "black", "silver", colour, "grey", "red", "blue")[rng.integers(7)], rng)
    options = library.by_name[name]
    stretch = np.array([1.0, 1.0, rng.uniform(0.92, 1.1)])
    specimen = options[rng.integers(len(options))]
    return _Look(name, specimen, colour, rgb, accent, finish, texture, scale * stretch)


def _draw_texture(
    spec: TabletopSpec, library: Library, name: str, allowed: tuple[str, ...], finish: str, rng: RNG
) -> int:
    """Index of a texture that fits the kind and has one of the allowed colours, or none; or -1."""
    kind = KINDS[name]
    chance = rng.random(2)
    if kind.label and chance[0] < spec.labels:
        style = {"block": "letter", "book": "title"}.get(name, "word")
        fit = _fitting(library, "label", allowed, style)
        if fit:
            return fit[rng.integers(len(fit))]
    if kind.patterned and chance[1] < spec.patterns:
        fit = _fitting(library, "pattern", allowed, None)
        if fit:
            return fit[rng.integers(len(fit))]
    if finish in ("wood", "wicker", "rough"):
        fit = [i for i in library.by_role["tint"] if library.textures[i].material == finish]
        return fit[rng.integers(len(fit))]
    return -1


def _fitting(library: Library, role: str, allowed: tuple[str, ...], style: str | None) -> list[int]:
    return [
        i
        for i in library.by_role[role]
        if library.textures[i].colour in allowed and style in (None, library.textures[i].pattern)
    ]


def _facing(look: _Look, library: Library, azimuth: float, rng: RNG) -> float:
    """The angle about the vertical: any, but labels are rather turned to whoever looks."""
    labelled = look.texture >= 0 and library.textures[look.texture].role == "label"
    if labelled and look.name in TURNED and rng.random() < 0.8:
        return azimuth - LABEL_ANGLE + rng.normal(0, 0.2)
    return rng.uniform(0, 2 * np.pi)


def _turn(rng: RNG, lying: float, angle: float) -> tuple[np.ndarray, bool]:
    c, s = np.cos(angle), np.sin(angle)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    if rng.random() < lying:
        roll = rng.uniform(0, 2 * np.pi)
        c, s = np.cos(roll), np.sin(roll)
        own = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        return about_z @ np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]) @ own, True
    return about_z, False


_Place = tuple[float, float, float, int, bool]  # x, y, z, support, inside


def _find_room(foot: _Footprint, ground: _Map, radius: float, squash: float, rng: RNG) -> _Place | None:
    """A free place on the table, within an ellipse that grows while there is no room."""
    for attempt in range(24):
        angle, far = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.random()) * (1 + 0.03 * attempt)
        x, y = far * np.cos(angle), far * squash * np.sin(angle)
        cells = ground.cells(foot, x, y)
        if cells is not None and (ground.owners[cells] < 0).all():
            return x, y, 0.0, -1, False
    return None


def _find_support(
    which: int,
    look: _Look,
    foot: _Footprint,
    items: list[Item],
    library: Library,
    ground: _Map,
    rng: RNG,
) -> _Place | None:
    """A place on or in item `which`, the lowest of some that are tried."""
    bearer = items[which]
    hollow = "surface" not in KINDS[bearer.name].affordances and "container" in KINDS[bearer.name].affordances
    if bearer.name == look.name and not hollow:
        spread = 0.004  # stacks are straight
    else:
        spread = max(_bearer_width(bearer, library) - 0.03, 0.004)
    rim = bearer.position[2] + library.specimens[bearer.specimen].extent[2] * np.linalg.norm(
        bearer.matrix[:, 2]
    )
    if not hollow and foot.reach * CELL > 1.4 * _bearer_width(bearer, library):
        return None  # it might balance there, but nobody puts it so
    best: _Place | None = None
    for _ in range(8):
        x, y = bearer.position[:2] + rng.uniform(-spread, spread, 2) - foot.middle * 0.5
        cells = ground.cells(foot, x, y)
        if cells is None:
            continue
        gap = ground.heights[cells] - foot.bottom
        z = float(gap.max())
        touching = gap > z - _CONTACT
        owners = ground.owners[cells[touching]]
        mine = owners == which
        if hollow:  # other things in it may help to carry
            inside = [i for i, item in enumerate(items) if item.support == which and item.inside]
            mine |= np.isin(owners, inside)
        if not mine.any() or (not mine.all() and not hollow) or mine.mean() < 0.5:
            continue
        if not _steady(foot, touching, loose=hollow):
            continue
        sunk = z < rim - 0.012
        if hollow and not sunk:
            continue
        if best is None or z < best[2]:
            best = (float(x), float(y), z, which, bool(hollow))
            if not hollow:
                break
    return best


def _bearer_width(bearer: Item, library: Library) -> float:
    """Half the smaller width of the thing that carries, in metres."""
    specimen = library.specimens[bearer.specimen]
    return float(np.abs(specimen.extent[:2]).min() * np.linalg.norm(bearer.matrix[:, 0]))


_BEARERS = {"surface", "stackable", "container"}
_NARROW = {"vase", "jug", "wine glass", "bottle", "jar", "teapot"}  # hold liquids only


def _bearers(items: list[Item], look: _Look, rng: RNG) -> list[int]:
    """Some items that may carry the new one, in random order."""
    able = [i for i, item in enumerate(items) if _carries(item) or (_upright(item) and _stacks(item, look))]
    return [able[i] for i in rng.permutation(len(able))[:4]]


def _upright(item: Item) -> bool:
    return bool(item.matrix[2, 2] > 0.5 * np.linalg.norm(item.matrix[:, 2]))


def _carries(item: Item) -> bool:
    """Other things may be put on or in it."""
    able = bool({"surface", "container"} & set(KINDS[item.name].affordances))
    return able and item.name not in _NARROW and _upright(item)


def _stacks(item: Item, look: _Look) -> bool:
    return item.name == look.name and "stackable" in KINDS[item.name].affordances


def _steady(foot: _Footprint, touching: np.ndarray, loose: bool) -> bool:
    """Whether the contacts surround the middle: no gap of half a turn between their directions."""
    x = foot.columns[touching] * CELL - foot.middle[0]
    y = foot.rows[touching] * CELL - foot.middle[1]
    far = np.hypot(x, y)
    if (far < CELL).any() and far.max() < 2 * CELL:
        return True  # a round bottom that rests on its lowest point
    angle = np.sort(np.arctan2(y, x)[far > 1e-4])
    if len(angle) < 2:
        return False
    gaps = np.diff(np.append(angle, angle[0] + 2 * np.pi))
    return float(gaps.max()) < (1.25 if loose else 0.92) * np.pi
