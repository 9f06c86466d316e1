"""High resolution: where the tiles of an image lie, and how what is seen in them joins what the whole shows.

Everything here is ours; the paper's model sees one resized image and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np

from ivm.errors import OptionError
from ivm.types import Box

__all__ = ["MAX_GRID", "MAX_TILES", "Tile", "Tiles", "fuse", "grid_shape", "lay_tiles", "parse_tiles"]

Tiles: TypeAlias = int | tuple[int, int] | Literal["auto"] | None
"""None: no tiles; int: tiles along the longer side; (rows, columns); "auto": by the image's size."""

MAX_GRID = 2048
"""Longest side, in cells, of the grid on which tiles are joined: bounds memory whatever the image's size."""

MAX_TILES = 128

_AUTO_SIDE = 1024  # pixels along a tile of "auto": one quarter of the side of a 12-megapixel photo
_AUTO_NONE = 1.25  # an image of up to this many _AUTO_SIDE has no tiles
_MIN_SIDE = 64  # pixels; less shows nothing
_OVERLAP = 0.25  # of a tile's side is shared with the next tile
_RAMP = 0.25  # of the overlap, at a tile's edge, where its word fades in

_LOOKS = 0.5  # how much the number of tiles counts against each of them, see `fuse`
_ELSEWHERE = 2.0  # logits by which a target found elsewhere counts against a tile, see `fuse`


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        box: in pixels of the image.
        cell: the same part in cells of the joining grid.
        inner: whether its left, top, right and bottom edges lie inside the image (not on its border).
    """

    box: Box
    cell: Box
    inner: tuple[bool, bool, bool, bool]


def parse_tiles(given: str | int | Sequence[int] | None) -> Tiles:
    """Tiles as people, JSON and Python write them: "auto", "4" or 4, "2x3" or [2, 3]; None stays None.

    Raises:
        OptionError: it is none of these.
    """
    if given is None:
        return None
    if given == "auto":
        return "auto"
    parts: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if isinstance(given, str):
        parts = given.lower().split("x")
    # Six digits: more tiles than there can be, and a number that is quickly read.
    counts = [part for part in parts if type(part) in (int, str) and re.fullmatch("[0-9]{1,6}", str(part))]
    if len(counts) != len(parts) or len(parts) not in (1, 2):
        raise OptionError(f"tiles must be auto, a number, or rows and columns such as 2x3, but got {given!r}")
    return int(parts[0]) if len(parts) == 1 else (int(parts[0]), int(parts[1]))


def grid_shape(size: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the grid on which the tiles of an image of `size` (H, W) are joined."""
    scale = min(1.0, MAX_GRID / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def lay_tiles(size: tuple[int, int], tiles: Tiles) -> list[Tile]:
    """Tiles of an image of `size` (H, W), in reading order; none where one tile would be the whole image.

    Neighbours share a quarter of their side, so that a target of up to that size lies whole in one of them.

    Raises:
        OptionError: `tiles` is not a `Tiles`, or asks for more than MAX_TILES or for tiles below 64 pixels.
    """
    rows, columns = _counts(size, tiles)
    if rows * columns <= 1:
        return []
    cells = grid_shape(size)
    scale = (size[0] / cells[0], size[1] / cells[1])
    laid = []
    for top, bottom in _spans(cells[0], rows):
        for left, right in _spans(cells[1], columns):
            box = (
                round(left * scale[1]),
                round(top * scale[0]),
                round(right * scale[1]),
                round(bottom * scale[0]),
            )
            inner = (left > 0, top > 0, right < cells[1], bottom < cells[0])
            laid.append(Tile(box, (left, top, right, bottom), inner))
    return laid


def fuse(
    whole_hw: np.ndarray,
    whole_found: float,
    views: Sequence[tuple[Tile, np.ndarray, float]],
    grid: tuple[int, int],
    found_threshold: float,
) -> tuple[np.ndarray, float]:
    """Join the whole image's logits with those of its tiles (ours).

    1. *A tile must have found the target.* Its found probability p, as a logit, is lowered by
       0.5 * log(number of tiles), because of many looks one goes wrong by chance, and by up to 2 where the
       whole image found the target elsewhere and shows nothing in this tile: context dampens tiles. What is
       left of p above the model's own limit is the tile's gate g, from 0 (not found) to 1 (half-way to
       certainty, or more).
    2. *A tile adds freely, and removes only what it sees whole.* Where the tile's logits are higher than the
       whole image's, these are raised towards them by g. Where they are lower, they are lowered by g times
       the tile's right to remove, which is 0 as soon as the mask of the tile or of the whole image runs over
       an inner edge of the tile: a large target is never cut up by tiles that see a part of it.
    3. *At a seam nothing jumps.* A tile's word fades in over its outer sixteenth; of overlapping tiles the
       strongest word counts, for raising and for lowering, and where they disagree the sum of both.
    4. *A whole image that did not find the target gives way* to the tiles that did: its logits are lowered by
       what it lacked to the limit, times the best gate.

    Args:
        whole_hw: float32 [h, w] logits of the whole image.
        whole_found: its found probability in [0, 1].
        views: a tile, its float32 [h, w] logits, and its found probability, each.
        grid: (rows, columns) on which to join, as from `grid_shape`.
        found_threshold: the model's limit for "found", in [0, 1].

    Returns:
        logits float32 [rows, columns], and the found probability: the best of the whole image's and the
        tiles' own, the latter lowered as in step 1.
    """
    joined: np.ndarray = cv2.resize(whole_hw, (grid[1], grid[0]), interpolation=cv2.INTER_LINEAR)
    limit = _logit(found_threshold)
    elsewhere = max(0.0, whole_found - found_threshold) / max(1.0 - found_threshold, 1e-6)
    cost_of_looks = _LOOKS * math.log(len(views))
    scores, gates = [], []
    for tile, _, found in views:
        left, top, right, bottom = tile.cell
        absent_here = 1.0 - _sigmoid(float(joined[top:bottom, left:right].max()))
        lowered = _logit(found) - cost_of_looks - _ELSEWHERE * elsewhere * absent_here
        scores.append(_sigmoid(lowered))
        gates.append(_smoothstep((scores[-1] - found_threshold) / max((1.0 - found_threshold) / 2.0, 1e-6)))
    lacking = min(0.0, _logit(whole_found) - limit)
    joined += np.float32(lacking * max(gates))

    raised = np.zeros(grid, np.float32)
    lowered_by = np.zeros(grid, np.float32)
    for (tile, tile_hw, _), gate in zip(views, gates, strict=True):
        if gate == 0.0:
            continue
        left, top, right, bottom = tile.cell
        part = (slice(top, bottom), slice(left, right))
        difference: np.ndarray = cv2.resize(
            tile_hw, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR
        )
        running_over = max(_most_on_inner_edges(tile_hw, tile), _most_on_inner_edges(joined[part], tile))
        may_remove = 1.0 - _sigmoid(running_over)
        difference -= joined[part]
        difference *= gate * _fade(tile)
        np.maximum(raised[part], difference, out=raised[part])
        np.maximum(lowered_by[part], -difference * np.float32(may_remove), out=lowered_by[part])
    joined += raised
    joined -= lowered_by
    return joined, max(whole_found, *scores)


def _counts(size: tuple[int, int], tiles: Tiles) -> tuple[int, int]:
    """(rows, columns) for what the caller asked."""
    height, width = size
    longer = max(size)
    if tiles is None:
        return 1, 1
    if isinstance(tiles, str):
        if tiles != "auto":
            raise OptionError(f"tiles must be 'auto', a number, (rows, columns) or None, but got {tiles!r}")
        if longer <= _AUTO_SIDE * _AUTO_NONE:
            return 1, 1
        side = max(_AUTO_SIDE, math.sqrt(height * width / MAX_TILES) * 1.1, longer / MAX_TILES)
        return max(1, round(height / side)), max(1, round(width / side))
    if isinstance(tiles, int) and not isinstance(tiles, bool):
        counts = max(1, round(tiles * height / longer)), max(1, round(tiles * width / longer))
        fits = tiles >= 1
    elif isinstance(tiles, tuple | list) and len(tiles) == 2 and all(type(n) is int for n in tiles):
        counts, fits = (tiles[0], tiles[1]), min(tiles) >= 1
    else:
        raise OptionError(f"tiles must be 'auto', a number, (rows, columns) or None, but got {tiles!r}")
    if not fits:
        raise OptionError(f"tiles must be at least 1 along a side, but got {tiles!r}")
    if counts[0] * counts[1] > MAX_TILES:
        raise OptionError(
            f"tiles must be at most {MAX_TILES} together, but {tiles!r} makes {counts[0] * counts[1]}"
        )
    if counts != (1, 1) and min(height // counts[0], width // counts[1]) < _MIN_SIDE:
        raise OptionError(
            f"tiles must be at least {_MIN_SIDE} pixels on a side, but {counts[0]} rows and {counts[1]} "
            f"columns of a {width}x{height} image are less: ask for fewer"
        )
    return counts


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    """`count` overlapping stretches that cover `length` cells."""
    stretch = length / (count - (count - 1) * _OVERLAP)
    step = stretch * (1.0 - _OVERLAP)
    spans = [(round(i * step), min(length, round(i * step + stretch))) for i in range(count)]
    return [*spans[:-1], (spans[-1][0], length)]


def _most_on_inner_edges(logits: np.ndarray, tile: Tile) -> float:
    """Highest logit on the edges of a tile that lie inside the image; very low if it has none."""
    left, top, right, bottom = tile.inner
    edges = [
        edge.max()
        for inside, edge in (
            (left, logits[:, 0]),
            (top, logits[0]),
            (right, logits[:, -1]),
            (bottom, logits[-1]),
        )
        if inside
    ]
    return float(max(edges, default=-30.0))


def _fade(tile: Tile) -> np.ndarray:
    """float32 [rows, columns] in (0, 1]: 1 inside, falling towards those edges that lie inside the image."""
    left, top, right, bottom = tile.cell
    across = _ramp(right - left, tile.inner[0], tile.inner[2])
    down = _ramp(bottom - top, tile.inner[1], tile.inner[3])
    return down[:, None] * across[None, :]


def _ramp(length: int, rises: bool, falls: bool) -> np.ndarray:
    width = max(1.0, length * _OVERLAP * _RAMP)
    up = np.minimum(1.0, (np.arange(length, dtype=np.float32) + 0.5) / np.float32(width))
    values = np.ones(length, np.float32)
    if rises:
        values *= up
    if falls:
        values *= up[::-1]
    return values


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1.0 - 1e-6)
    return math.log(bounded / (1.0 - bounded))


def _sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


def _smoothstep(t: float) -> float:
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
