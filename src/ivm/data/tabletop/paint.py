"""Named colours and procedural textures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ivm.data.colours import COLOURS

__all__ = [
    "COLOUR_NAMES",
    "PATTERNS",
    "SURFACES",
    "TINTS",
    "label_texture",
    "pattern_texture",
    "sample_colour",
    "surface_texture",
]

_EXTRA: dict[str, tuple[tuple[int, int, int], ...]] = {
    "beige": ((225, 205, 165), (215, 190, 150)),
    "gold": ((205, 160, 50), (215, 175, 70)),
    "silver": ((190, 192, 198), (175, 178, 184)),
    "turquoise": ((60, 190, 190), (40, 170, 175)),
}
_ALL = {**COLOURS, **_EXTRA}

COLOUR_NAMES = tuple(_ALL)
"""Every colour word a thing can have: the eleven basic ones and four more."""

RNG = np.random.Generator


def sample_colour(name: str, rng: RNG, shade: tuple[int, int, int] | None = None) -> np.ndarray:
    """float32 [3] sRGB in [0, 1]: one shade that people call `name`, or one close to `shade` (0-255)."""
    examples = np.array(_ALL[name] if shade is None else (shade,), np.float64)
    weights = rng.dirichlet(np.full(len(examples), 0.35))  # mostly near one example, sometimes between two
    rgb = weights @ examples / 255.0
    spread = 0.012 if name in ("black", "white") else 0.03
    return np.clip(rgb + rng.normal(0, spread) + rng.normal(0, 0.012, 3), 0.02, 1.0).astype(np.float32)


def _noise(rng: RNG, size: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise [size, size] in [0, 1] with about `cells` (rows, columns) bumps; it tiles."""
    rows, columns = cells
    grid = rng.random((rows, columns)).astype(np.float32)
    grid = np.pad(grid, ((2, 2), (2, 2)), mode="wrap")
    scale = (size // columns, size // rows)
    big = Image.fromarray(grid).resize(
        (grid.shape[1] * scale[0], grid.shape[0] * scale[1]), Image.Resampling.BICUBIC
    )
    y, x = 2 * scale[1], 2 * scale[0]
    crop = np.asarray(big)[y : y + rows * scale[1], x : x + columns * scale[0]]
    low, high = crop.min(), crop.max()
    crop = (crop - low) / max(float(high - low), 1e-6)
    if crop.shape != (size, size):
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BILINEAR))
    return crop


def _fractal(rng: RNG, size: int, first: int = 4, octaves: int = 4) -> np.ndarray:
    layers = [_noise(rng, size, (first << o, first << o)) * 0.5**o for o in range(octaves)]
    return np.sum(layers, axis=0) / sum(0.5**o for o in range(octaves))


def _grain(rng: RNG, size: int, stretch: int = 16) -> np.ndarray:
    """Wood grain [size, size] in [0, 1], along the columns."""
    bend = _noise(rng, size, (2, 2)) * rng.uniform(2, 7) + _noise(rng, size, (stretch, 2)) * 2
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (bend + np.linspace(0, rng.integers(3, 9), size)[:, None]))
    fibre = _noise(rng, size, (size // 2, 4))
    return 0.55 * rings + 0.45 * fibre


def _mix(t: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.clip(a + t[..., None] * (b - a), 0, 1) * 255).astype(np.uint8)


def _wood(rng: RNG, size: int) -> np.ndarray:
    light = np.array([0.80, 0.62, 0.42]) * rng.uniform(0.45, 1.12) + rng.normal(0, 0.03, 3)
    dark = light * rng.uniform(0.6, 0.85)
    picture = _grain(rng, size)
    planks = int(rng.choice([1, 2, 4, 8]))
    if planks > 1:
        height = size // planks
        shade = rng.uniform(0.0, 0.45, planks).repeat(height)[:, None]
        rolled = [
            np.roll(picture[i * height : (i + 1) * height], rng.integers(size), axis=1) for i in range(planks)
        ]
        picture = np.concatenate(rolled) * 0.6 + shade
        picture[::height] = 1.3
    return _mix(picture, light, dark)


def _two(rng: RNG) -> tuple[np.ndarray, np.ndarray]:
    """Two colours that go together: close in hue, or one of them pale."""
    first = rng.uniform(0.15, 0.95, 3)
    first = first * 0.6 + first.mean() * 0.4  # muted, as tables and walls are
    second = np.clip(first * rng.uniform(0.5, 1.5) + rng.normal(0, 0.08, 3), 0, 1)
    if rng.random() < 0.4:
        second = np.full(3, rng.uniform(0.75, 0.97))
    return first, second


def _checker(rng: RNG, size: int) -> np.ndarray:
    cells = int(rng.choice([2, 4, 8]))
    i = np.arange(size) * cells // size
    return _mix(((i[:, None] + i) % 2).astype(float), *_two(rng))


def _tiles(rng: RNG, size: int) -> np.ndarray:
    cells = int(rng.choice([2, 4]))
    tile, joint = _two(rng)
    where = np.arange(size) % (size // cells) < max(2, size // 64)
    picture = np.repeat(np.repeat(rng.uniform(0, 0.25, (cells, cells)), size // cells, 0), size // cells, 1)
    picture = picture + 0.15 * _fractal(rng, size, 8, 3)
    return _mix(np.where(where[:, None] | where, 1.0, picture), tile, joint)


def _stripes(rng: RNG, size: int) -> np.ndarray:
    bands = int(rng.choice([2, 4, 8]))
    t = np.arange(size) * bands / size % 1 < rng.uniform(0.25, 0.75)
    return _mix(np.broadcast_to(t[:, None], (size, size)).astype(float), *_two(rng))


def _cloth(rng: RNG, size: int) -> np.ndarray:
    """A weave; often with a tartan of broad bands."""
    threads = size // 4
    i = np.arange(size)
    weave = 0.5 + 0.25 * np.sin(2 * np.pi * threads * i / size)[:, None] * np.sin(
        2 * np.pi * threads * i / size
    )
    picture = 0.35 * weave + 0.2 * _fractal(rng, size, 8, 3)
    if rng.random() < 0.6:
        count = int(rng.choice([2, 4]))
        band = (i * count / size % 1 < rng.uniform(0.2, 0.5)).astype(float)
        picture += 0.35 * (band[:, None] + band)
    return _mix(picture, *_two(rng))


def _stone(rng: RNG, size: int) -> np.ndarray:
    field = _fractal(rng, size, 4, 5)
    if rng.random() < 0.5:  # veins, as in marble
        field = np.abs(np.sin(field * rng.uniform(6, 14))) ** 0.4
    first, second = _two(rng)
    return _mix(field, first, second * 0.4 + first * 0.6)


def _speckle(rng: RNG, size: int) -> np.ndarray:
    field = 0.5 * _noise(rng, size, (size // 2, size // 2)) + 0.5 * (rng.random((size, size)) < 0.08)
    first, second = _two(rng)
    return _mix(field, first, second)


def _dots(rng: RNG, size: int) -> np.ndarray:
    return _mix(_dot_field(size, int(rng.choice([4, 8])), rng.uniform(0.2, 0.36)), *_two(rng))


def _dot_field(size: int, cells: int, radius: float) -> np.ndarray:
    i = (np.arange(size) + 0.5) * cells / size
    row = np.floor(i).astype(int) % 2
    x = (i[None, :] + 0.5 * row[:, None]) % 1 - 0.5
    y = (i % 1 - 0.5)[:, None]
    return (np.hypot(x, y) < radius).astype(float)


def _plain(rng: RNG, size: int) -> np.ndarray:
    first, _ = _two(rng)
    return _mix(_fractal(rng, size, 2, 3), first, np.clip(first * rng.uniform(0.85, 1.12), 0, 1))


SURFACES: dict[str, Callable[[RNG, int], np.ndarray]] = {
    "wood": _wood,
    "checker": _checker,
    "tiles": _tiles,
    "stripes": _stripes,
    "cloth": _cloth,
    "stone": _stone,
    "speckle": _speckle,
    "dots": _dots,
    "plain": _plain,
}
"""Textures of tables, floors and walls: name -> function(rng, size) -> uint8 [size, size, 3] that tiles."""


def surface_texture(rng: RNG, size: int = 256) -> np.ndarray:
    """uint8 [size, size, 3]: a random one of SURFACES; wood, cloth and plain ones come most often."""
    names = list(SURFACES)
    weights = np.array(
        [4.0 if n in ("wood", "plain") else 2.0 if n in ("cloth", "stone") else 1.0 for n in names]
    )
    return SURFACES[names[rng.choice(len(names), p=weights / weights.sum())]](rng, size)


PATTERNS = ("striped", "checked", "dotted")
"""Patterns of two colours that a thing can have; its colour word is the one that covers more."""


def pattern_texture(pattern: str, rgb: np.ndarray, other: np.ndarray, rng: RNG, size: int = 64) -> np.ndarray:
    """uint8 [size, size, 3]: `rgb` (float [3]) with stripes, checks or dots of `other`."""
    i = np.arange(size)
    if pattern == "striped":
        bands = int(rng.choice([3, 4, 6]))
        line = i * bands / size % 1 < rng.uniform(0.25, 0.42)
        field = np.broadcast_to(line[:, None], (size, size))
        field = field if rng.random() < 0.6 else field.T
    elif pattern == "checked":
        cells = int(rng.choice([4, 6]))
        line = i * cells / size % 1 < 0.45
        field = 0.4 * line[:, None] + 0.4 * line + 0.2 * line[:, None] * line  # as on a table cloth
    else:
        field = _dot_field(size, int(rng.choice([4, 6])), rng.uniform(0.2, 0.3))
    return _mix(np.asarray(field, float), rgb, other)


def _grain_tint(rng: RNG, size: int) -> np.ndarray:
    return 1.0 - 0.38 * _grain(rng, size)


def _wicker_tint(rng: RNG, size: int) -> np.ndarray:
    i = np.arange(size)
    over = np.sin(2 * np.pi * 12 * i / size)[:, None] * np.sin(2 * np.pi * 12 * i / size)
    return 0.78 + 0.22 * np.sign(over) * np.abs(over) ** 0.5


def _rough_tint(rng: RNG, size: int) -> np.ndarray:
    return 1.0 - 0.22 * _noise(rng, size, (size // 2, size // 2))


TINTS: dict[str, Callable[[RNG, int], np.ndarray]] = {
    "wood": _grain_tint,
    "wicker": _wicker_tint,
    "rough": _rough_tint,
}
"""Brightness textures [size, size] in [0, 1] that leave a thing its colour: material -> function."""


def label_texture(
    text: str, ground: np.ndarray, ink: np.ndarray, paper: np.ndarray | None, size: int = 128
) -> np.ndarray:
    """uint8 [size, size, 3]: `text` in the middle on `ground`, on a patch of `paper` if that is given.

    Colours are float [3] sRGB in [0, 1].
    """

    def rgb(colour: np.ndarray) -> tuple[int, ...]:
        return tuple(int(v) for v in np.clip(colour, 0, 1) * 255)

    image = Image.new("RGB", (size, size), rgb(ground))
    draw = ImageDraw.Draw(image)
    font_size = int(size * (0.85 if len(text) == 1 else min(0.42, 1.45 / len(text))))
    font = ImageFont.load_default(font_size)
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    left, top = (size - (x1 - x0)) / 2, (size - (y1 - y0)) / 2
    if paper is not None:
        pad = size * 0.06
        draw.rectangle((left - pad, top - pad, left + x1 - x0 + pad, top + y1 - y0 + pad), fill=rgb(paper))
    draw.text(
        (left - x0, top - y0),
        text,
        font=font,
        fill=rgb(ink),
        stroke_width=max(1, size // 64),
        stroke_fill=rgb(ink),
    )
    return np.asarray(image)
