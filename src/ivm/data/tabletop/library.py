"""The specimens and textures that one block of scenes draws from.

A block is what is compiled once: compiling and uploading take as long as a dozen pictures. It is a function
of (spec, seed, block number), so that any process that wants one of its scenes makes the same block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.meshes import Mesh, box, join, lathe
from ivm.data.tabletop.paint import (
    PATTERNS,
    TINTS,
    label_texture,
    pattern_texture,
    sample_colour,
    surface_texture,
)
from ivm.data.tabletop.spec import TabletopSpec
from ivm.errors import DataError
from ivm.images import read_image

__all__ = ["LABELS", "Library", "Specimen", "Texture", "make_library"]

LABELS = (
    "MILK",
    "SALT",
    "TEA",
    "COLA",
    "SOAP",
    "RICE",
    "JAM",
    "OIL",
    "OATS",
    "CORN",
    "SUGAR",
    "JUICE",
    "COFFEE",
)
"""Words on bottles, cans, jars and boxes."""

_LETTERS = "ABCDEFGHKLMNPRSTXYZ2345678"
_TITLES = ("ART", "MAPS", "MATH", "COOK", "STARS", "BIRDS", "MUSIC", "TREES")
_POINT_SPACING = 0.0045  # metres; finer than the layout's grid, so that no cell under a surface stays empty


@dataclass(frozen=True, eq=False)
class Specimen:
    """One compiled object, standing on z = 0: its kind's name, its parts as (index of the mesh, paint), and
    points on its surface, float32 [P, 3], about 4 mm apart.
    """

    name: str
    parts: tuple[tuple[int, str | tuple[float, float, float]], ...]
    points: np.ndarray

    @cached_property
    def extent(self) -> np.ndarray:
        """float [3]: half its width along x and y, and its height."""
        return np.append(np.abs(self.points[:, :2]).max(axis=0), self.points[:, 2].max())


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture for surfaces: uint8 [S, S, 3], and what having it means for a thing's description."""

    pixels: np.ndarray
    role: str  # "surface", "pattern", "label" or "tint"
    pattern: str | None = None
    colour: str | None = None
    material: str | None = None
    text: str | None = None


@dataclass(frozen=True, eq=False)
class Library:
    """Meshes, specimens and textures of one block; `furniture` names the meshes of tables and rooms."""

    meshes: tuple[Mesh, ...]
    specimens: tuple[Specimen, ...]
    textures: tuple[Texture, ...]
    furniture: dict[str, int]

    @cached_property
    def by_name(self) -> dict[str, list[int]]:
        """Kind -> indices of its specimens."""
        found: dict[str, list[int]] = {}
        for i, specimen in enumerate(self.specimens):
            found.setdefault(specimen.name, []).append(i)
        return found

    @cached_property
    def half_width(self) -> dict[str, float]:
        """Kind -> half the greatest width of its smallest specimen, in metres."""
        return {
            name: min(float(self.specimens[i].extent[:2].max()) for i in mine)
            for name, mine in self.by_name.items()
        }

    @cached_property
    def by_role(self) -> dict[str, list[int]]:
        """Role -> indices of its textures."""
        found: dict[str, list[int]] = {role: [] for role in ("surface", "pattern", "label", "tint")}
        for i, texture in enumerate(self.textures):
            found[texture.role].append(i)
        return found


def make_library(spec: TabletopSpec, seed: int, block: int, per_kind: int = 2) -> Library:
    """The library of a block: `per_kind` specimens of every kind that `spec` allows, and textures.

    Raises:
        DataError: `spec.photos` names a folder without pictures.
    """
    rng = np.random.default_rng([seed, block, 0x7AB1E])
    meshes: list[Mesh] = [*_furniture().values()]
    furniture = {name: i for i, name in enumerate(_furniture())}
    specimens = []
    for name in spec.choices:
        for _ in range(per_kind):
            parts = KINDS[name].build(rng)
            low = min(float(mesh.vertices[:, 2].min()) for mesh, _ in parts)
            placed = [(mesh.moved(z=-low), paint) for mesh, paint in parts]
            indices = range(len(meshes), len(meshes) + len(placed))
            meshes.extend(mesh for mesh, _ in placed)
            points = np.concatenate([_surface_points(mesh) for mesh, _ in placed])
            specimens.append(Specimen(name, tuple(zip(indices, [p for _, p in placed], strict=True)), points))
    return Library(tuple(meshes), tuple(specimens), tuple(_textures(spec, rng)), furniture)


def _furniture() -> dict[str, Mesh]:
    """Unit meshes, scaled where they are drawn. Tops are grids, because light is computed at vertices."""
    disc = lathe([(0, -0.001), (0.5, -0.001), *[(r, 0.0) for r in np.linspace(0.5, 0.1, 5)], (0, 0)], 40)
    return {
        "sheet": _grid(12),
        "slab": box(1, 1, 1).moved(z=-1.001),
        "disc": Mesh(disc.vertices, disc.faces, disc.vertices[:, :2] + np.float32(0.5)),
        "drum": lathe([(0, -1), (0.5, -1), (0.5, -0.001), (0, -0.001)], 40),
    }


def _grid(cells: int) -> Mesh:
    """A unit square in z = 0 facing up, and its thin underside, without which it would have no volume."""
    t = np.linspace(-0.5, 0.5, cells + 1)
    x, y = (a.ravel() for a in np.meshgrid(t, t))
    i, j = (a.ravel() for a in np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij"))
    a = i * (cells + 1) + j
    b, c, d = a + 1, a + cells + 1, a + cells + 2
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)]).astype(np.int32)
    square = np.column_stack([x, y]).astype(np.float32)
    top = Mesh(np.column_stack([square, np.zeros(len(x), np.float32)]), faces, square + np.float32(0.5))
    ends = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
    deep = np.column_stack([ends, np.full(4, -1e-3, np.float32)])
    under = Mesh(deep, np.array([[0, 2, 1], [0, 3, 2]], np.int32), ends + np.float32(0.5))
    return join(top, under)


def _surface_points(mesh: Mesh) -> np.ndarray:
    """float32 [P, 3]: points spread evenly over the faces, the same ones every time."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    count = np.ceil(area / _POINT_SPACING**2).astype(int)
    face = np.repeat(np.arange(len(count)), count)
    n = np.arange(len(face), dtype=np.float64)
    s, t = (0.5 + n * 0.7548776662) % 1, (0.5 + n * 0.5698402910) % 1  # the R2 low-discrepancy sequence
    flip = s + t > 1
    s, t = np.where(flip, 1 - s, s)[:, None], np.where(flip, 1 - t, t)[:, None]
    return (a[face] + s * (b - a)[face] + t * (c - a)[face]).astype(np.float32)


def _textures(spec: TabletopSpec, rng: np.random.Generator) -> list[Texture]:
    textures = [Texture(surface_texture(rng), "surface") for _ in range(14)]
    if spec.photos:
        textures += [Texture(patch, "surface") for patch in _photo_patches(Path(spec.photos), rng, 6)]
    for material, function in TINTS.items():
        for _ in range(2):
            grey = (np.clip(function(rng, 64), 0, 1) * 255).astype(np.uint8)
            textures.append(Texture(np.repeat(grey[..., None], 3, axis=2), "tint", material=material))
    colours = sorted({colour for colours in spec.choices.values() for colour in colours} - {"silver", "gold"})
    if not colours:
        return textures
    for k in range(15):
        colour = colours[rng.integers(len(colours))]
        rgb = sample_colour(colour, rng)
        other = _contrast(rgb, rng)
        pattern = PATTERNS[k % len(PATTERNS)]
        textures.append(Texture(pattern_texture(pattern, rgb, other, rng), "pattern", pattern, colour))
    for k in range(27):
        colour = colours[rng.integers(len(colours))]
        rgb = sample_colour(colour, rng)
        text = (LABELS, tuple(_LETTERS), _TITLES)[k % 3]
        word = text[rng.integers(len(text))]
        paper = np.full(3, 0.95) if k % 3 == 0 and rng.random() < 0.6 else None
        ground = rgb if paper is None else paper
        ink = np.full(3, 0.06) if ground @ [0.3, 0.6, 0.1] > 0.45 else np.full(3, 0.96)
        kind = ("word", "letter", "title")[k % 3]
        pixels = label_texture(word, rgb, ink, paper)
        textures.append(Texture(pixels, "label", pattern=kind, colour=colour, text=word))
    return textures


def _contrast(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White, black or another clear colour that stands out from `rgb`."""
    light = float(rgb @ [0.3, 0.6, 0.1])
    if rng.random() < 0.6:
        return np.full(3, 0.95 if light < 0.7 else 0.1)
    names = ("yellow", "blue", "red", "green", "white", "black", "pink", "turquoise")
    options = [sample_colour(name, rng) for name in names]
    return max(options, key=lambda other: float(np.abs(other - rgb).sum()) * rng.uniform(0.5, 1.0))


def _photo_patches(folder: Path, rng: np.random.Generator, count: int, size: int = 256) -> list[np.ndarray]:
    from PIL import Image

    suffixes = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes) if folder.is_dir() else []
    if not paths:
        raise DataError(f"photos must name a folder with pictures, but {folder} has none")
    patches = []
    for _ in range(count):
        picture = read_image(paths[rng.integers(len(paths))])
        side = int(min(picture.shape[:2]) * rng.uniform(0.3, 1.0))
        y, x = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
        patch = Image.fromarray(picture[y : y + side, x : x + side])
        patches.append(np.asarray(patch.resize((size, size), Image.Resampling.LANCZOS)))
    return patches
