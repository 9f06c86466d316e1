"""Pixels: blend a picture with a colour or another picture, by weights; blur; name colours.

The arithmetic below `ivm.render`, on arrays alone. Bytes are blended in bytes and floats in float32.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import ImageColor

from ivm.errors import InputError, OptionError

__all__ = ["Colour", "blend", "blur", "parse_colour"]

Colour = str | tuple[int, int, int]
"""A name such as "white", "#rrggbb", or (red, green, blue) in 0..255."""

_NARROWEST = 3.0
"""Least standard deviation of a kernel on a coarse grid, in its pixels: below it the error passes 1/255."""


def blend(image: np.ndarray, weights: np.ndarray, background: np.ndarray | Colour = "white") -> np.ndarray:
    """image * weights + background * (1 - weights), rounded.

    Args:
        image: uint8 [H, W, 3].
        weights: [H, W]: uint8 0..255 (blended in bytes, within 1 of the rounded exact value), float in [0, 1]
            (blended in float32), or bool.
        background: a colour, or uint8 [H, W, 3].

    Returns:
        uint8 [H, W, 3], a new array: the image's own pixels where the weight is 1, the background's where it
        is 0.

    Raises:
        InputError: shapes or dtypes are not as described.
        OptionError: the colour is unknown.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"image must be uint8 [H, W, 3], but is {image.dtype} {list(image.shape)}")
    if weights.shape != image.shape[:2] or (weights.dtype.kind not in "fb" and weights.dtype != np.uint8):
        raise InputError(
            f"weights must be uint8, float or bool {list(image.shape[:2])} like the image, "
            f"but are {weights.dtype} {list(weights.shape)}"
        )
    picture = background if isinstance(background, np.ndarray) else None
    if picture is not None and (picture.shape != image.shape or picture.dtype != np.uint8):
        raise InputError(
            f"a background picture must be uint8 {list(image.shape)} like the image, "
            f"but is {picture.dtype} {list(picture.shape)}"
        )
    colour = (0, 0, 0) if isinstance(background, np.ndarray) else parse_colour(background)
    if weights.dtype.kind == "f":
        if not (weights.min() >= 0.0 and weights.max() <= 1.0):  # also refuses NaN
            raise InputError(
                f"weights must be in [0, 1], but range over [{weights.min():.4g}, {weights.max():.4g}]"
            )
        m = weights[:, :, None].astype(np.float32, copy=False)
        back = np.array(colour, np.float32) if picture is None else picture.astype(np.float32)
        return np.rint(image.astype(np.float32) * m + back * (1 - m)).astype(np.uint8)

    w = np.ascontiguousarray(weights)
    if w.dtype == np.bool_:
        w = w.view(np.uint8) * np.uint8(255)
    w3 = cv2.merge((w, w, w))
    out = cv2.multiply(np.ascontiguousarray(image), w3, scale=1 / 255)
    if picture is not None:
        rest = cv2.multiply(np.ascontiguousarray(picture), cv2.bitwise_not(w3), scale=1 / 255)
        cv2.add(out, rest, dst=out)
    elif any(colour):
        planes = {value: cv2.convertScaleAbs(w, alpha=-value / 255, beta=value) for value in set(colour)}
        cv2.add(out, cv2.merge([planes[value] for value in colour]), dst=out)
    return out


def blur(image: np.ndarray, radius: int, exact: bool = False) -> np.ndarray:
    """Gaussian blur with OpenCV's kernel of 2 * radius + 1 pixels, of uint8 [H, W] or [H, W, 3].

    A wide Gaussian is smooth enough to be done on a coarse grid: halve the picture until the kernel is narrow
    there, blur, and double it again. Halving and doubling blur a little themselves; the kernel makes up for
    it, so that the variances add up to that of the full kernel. `exact` does it at full resolution.
    """
    if radius == 0:
        return image
    height, width = image.shape[:2]
    sigma = 0.3 * (radius - 1) + 0.8  # what cv2.GaussianBlur takes for a kernel of this size
    levels = 0 if exact else max(0, int(math.log2(sigma / _NARROWEST)))
    pad = radius + 4 * 2**levels  # what lies beyond the edges is mirrored at full resolution, as OpenCV does
    strip = (height + pad) * (width + pad) > 4 * height * width + 1_000_000  # narrower than its own blur
    if levels == 0 or strip:
        k = 2 * radius + 1
        return np.rint(cv2.GaussianBlur(image.astype(np.float32), (k, k), 0)).astype(np.uint8)
    # The left and upper edges of a pyramid mirror by themselves. 16 bits keep the sum of roundings small.
    small: np.ndarray = cv2.copyMakeBorder(image, 0, pad, 0, pad, cv2.BORDER_REFLECT_101)
    small = np.multiply(small, np.uint16(128), dtype=np.uint16)
    for _ in range(levels):
        small = cv2.pyrDown(small)
    scale = 2**levels
    rest = (sigma**2 - 2 * (scale**2 - 1) / 3) / scale**2  # a step has variance 1 each way, on its own grid
    k = 2 * (radius // scale) + 1
    small = np.rint(cv2.GaussianBlur(small.astype(np.float32), (k, k), math.sqrt(rest))).astype(np.uint16)
    for _ in range(levels):
        small = cv2.pyrUp(small)
    return cv2.convertScaleAbs(np.ascontiguousarray(small[:height, :width]), alpha=1 / 128)


def parse_colour(colour: Colour) -> tuple[int, int, int]:
    """(red, green, blue) in 0..255 of a colour name, "#rrggbb", or three such numbers.

    Raises:
        OptionError: it is none of these.
    """
    values: tuple[int, ...] = ()
    if isinstance(colour, str):
        try:
            values = ImageColor.getrgb(colour)
        except ValueError:
            values = ()
    elif isinstance(colour, tuple | list) and all(
        isinstance(c, int | np.integer) and not isinstance(c, bool) and 0 <= c <= 255 for c in colour
    ):
        values = tuple(int(c) for c in colour)
    if len(values) == 3 and max(values) <= 255:  # Pillow takes "rgb(300, 0, 0)" for a colour
        return values
    raise OptionError(
        f"colour must be a name such as 'white', '#rrggbb' or three numbers from 0 to 255, but got {colour!r}"
    )
