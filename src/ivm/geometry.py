"""Where a rendered picture lies on the original one: `Transform`, and the box that a crop takes.

Coordinates are (x, y) in pixels and continuous: pixel column i reaches from i to i + 1, so the centre of the
first pixel is (0.5, 0.5). A box (x0, y0, x1, y1) is two such points, so its right and bottom are exclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ivm.errors import InputError, OptionError

__all__ = ["Transform", "crop_box"]


@dataclass(frozen=True)
class Transform:
    """Maps coordinates on a rendered picture to the original picture, and back. Per axis,

        rendered = (original - offset) * scale,   original = rendered / scale + offset.

    Attributes:
        original_size: (width, height) of the original picture, in pixels.
        size: (width, height) of the rendered picture, in pixels.
        offset: (x, y) of the rendered picture's top left corner on the original, in its pixels.
        scale: (x, y) rendered pixels to one original pixel; (1, 1) unless the picture was resized.
    """

    original_size: tuple[int, int]
    size: tuple[int, int]
    offset: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)

    def to_original(self, xy: ArrayLike, *, clip: bool = False) -> np.ndarray:
        """Points or boxes on the rendered picture -> the original picture.

        Args:
            xy: points, [2] or [..., 2] as (x, y), or boxes, [4] or [..., 4] as (x0, y0, x1, y1).
            clip: move what falls outside the original picture onto its edge. Off, the map is affine and
                undone by `from_original`, also for points outside the picture.

        Returns:
            float64, shaped as `xy`.

        Raises:
            InputError: `xy` is not numbers with 2 or 4 in its last dimension.
        """
        mapped = _pairs(xy) / self.scale + self.offset
        return _shaped(mapped, xy, self.original_size if clip else None)

    def from_original(self, xy: ArrayLike, *, clip: bool = False) -> np.ndarray:
        """Points or boxes on the original picture -> the rendered picture; see `to_original`.

        What a crop has cut away falls outside the rendered picture. With `clip` a point is moved onto its
        edge, a box is cut to it, and a box wholly outside becomes empty.
        """
        mapped = (_pairs(xy) - self.offset) * self.scale
        return _shaped(mapped, xy, self.size if clip else None)

    def resized(self, width: int, height: int) -> Transform:
        """The transform after the rendered picture has been resized to `width` x `height` pixels.

        Raises:
            OptionError: a side is below 1.
        """
        if width < 1 or height < 1:
            raise OptionError(f"a size must be at least 1x1 pixels, but got {width}x{height}")
        scale = (self.scale[0] * width / self.size[0], self.scale[1] * height / self.size[1])
        return Transform(self.original_size, (int(width), int(height)), self.offset, scale)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain JSON values; `from_dict` reads them."""
        return {
            "original_size": list(self.original_size),
            "size": list(self.size),
            "offset": list(self.offset),
            "scale": list(self.scale),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transform:
        """What `to_dict` wrote.

        Raises:
            InputError: a key is missing, does not hold two numbers, or a size or scale is not above 0.
        """
        try:
            (width, height), (w, h) = values["original_size"], values["size"]
            (x, y), (sx, sy) = values["offset"], values["scale"]
            read = cls(
                (int(width), int(height)), (int(w), int(h)), (float(x), float(y)), (float(sx), float(sy))
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            read = None
        if (
            read is None
            or not np.isfinite([*read.offset, *read.scale]).all()
            or min(*read.original_size, *read.size, *read.scale) <= 0
        ):
            raise InputError(
                "a transform must hold original_size, size, offset and scale, each two numbers, sizes and "
                f"scale above 0, but got {values!r}"
            )
        return read


def crop_box(
    box: tuple[int, int, int, int],
    width: int,
    height: int,
    *,
    reach: int = 0,
    margin: float = 0.0,
    min_size: int = 1,
    aspect: float | None = None,
) -> tuple[int, int, int, int]:
    """Grow a box inside a picture.

    In this order: by `reach` pixels and by `margin` times its longer side on every side, cut at the picture's
    edges; then about its centre, and moved inward where it would leave the picture, to `min_size` and to
    `aspect`, both as near as the picture allows.

    Args:
        box: (x0, y0, x1, y1) inside the picture, not empty.
        width, height: of the picture, in pixels.
        reach: pixels, at least 0.
        margin: share of the longer side, at least 0.
        min_size: least width and height, in pixels.
        aspect: width / height, above 0; None leaves it.

    Returns:
        (x0, y0, x1, y1) inside the picture, containing `box`.
    """
    x0, y0, x1, y1 = max(0, box[0] - reach), max(0, box[1] - reach), box[2] + reach, box[3] + reach
    x1, y1 = min(width, x1), min(height, y1)
    room = round(margin * max(x1 - x0, y1 - y0))
    x0, y0, x1, y1 = max(0, x0 - room), max(0, y0 - room), min(width, x1 + room), min(height, y1 + room)
    w, h = max(x1 - x0, min_size), max(y1 - y0, min_size)
    if aspect is not None:
        w, h = max(w, round(h * aspect)), max(h, round(w / aspect))
    x0, x1 = _around(x0, x1, min(w, width), width)
    y0, y1 = _around(y0, y1, min(h, height), height)
    return x0, y0, x1, y1


def _around(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """An interval of `length` with the centre of [start, end), moved into [0, limit)."""
    first = min(max(0, start - (length - (end - start)) // 2), limit - length)
    return first, first + length


def _pairs(xy: ArrayLike) -> np.ndarray:
    """float64 [N, 2], from points or boxes of any shape."""
    try:
        array = np.asarray(xy, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"points and boxes must be numbers, but got {xy!r}") from None
    if array.ndim == 0 or array.shape[-1] not in (2, 4):
        raise InputError(f"points must be [..., 2] and boxes [..., 4], but got shape {array.shape}")
    return array.reshape(-1, 2)


def _shaped(pairs: np.ndarray, like: ArrayLike, limit: tuple[int, int] | None) -> np.ndarray:
    if limit is not None:
        pairs = np.clip(pairs, 0.0, np.asarray(limit, dtype=np.float64))
    return pairs.reshape(np.shape(like))
