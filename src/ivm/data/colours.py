"""Colour names read off pixels: one owner for photos, collage and baselines."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

__all__ = ["COLOURS", "colour_index", "colour_of"]

COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((200, 30, 35), (150, 20, 25), (225, 60, 55)),
    "orange": ((240, 130, 30), (220, 110, 20)),
    "yellow": ((240, 210, 40), (220, 190, 60), (250, 230, 110)),
    "green": ((50, 150, 60), (30, 90, 40), (110, 180, 80), (60, 180, 120)),
    "blue": ((35, 80, 190), (25, 40, 110), (90, 160, 225), (50, 120, 170)),
    "purple": ((120, 50, 150), (80, 40, 110), (160, 110, 200)),
    "pink": ((240, 130, 180), (245, 170, 190), (220, 60, 130)),
    "brown": ((115, 70, 40), (80, 50, 30), (150, 105, 70)),
    "black": ((18, 18, 20), (40, 40, 42)),
    "white": ((245, 245, 243), (220, 220, 220)),
    "grey": ((128, 128, 128), (90, 92, 95), (170, 170, 172)),
}
"""Colour word -> sRGB examples. The eleven basic colour terms of English (Berlin and Kay, 1969)."""

# How the same colours look in pictures, too: in drawings, in shade, in warm light.
_SEEN: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((225, 40, 75), (200, 25, 65), (245, 50, 70), (115, 25, 28)),
    "orange": ((250, 110, 45), (255, 145, 60), (190, 100, 35), (255, 120, 50)),
    "yellow": ((190, 165, 60), (150, 130, 45), (255, 200, 60), (250, 180, 60)),
    "green": ((20, 60, 30), (140, 200, 90)),
    "blue": ((30, 50, 85),),
    "purple": ((110, 60, 165), (135, 90, 215)),
    "pink": ((205, 105, 140), (235, 90, 170), (150, 78, 105)),
    "brown": ((120, 66, 64), (100, 58, 52), (135, 85, 65)),
    "black": ((58, 54, 62),),
}
# Colours that people do not agree to call by one of these words: what is nearest to them has no name.
_BETWEEN = (
    ((60, 170, 170), (95, 195, 195), (40, 115, 115)),  # turquoise
    ((222, 203, 172), (198, 178, 146), (238, 218, 196), (150, 138, 115)),  # beige
    ((245, 190, 170), (225, 170, 140)),  # peach, skin
)

_NAMES = tuple(COLOURS)
_GROUPS = (*((*examples, *_SEEN.get(name, ())) for name, examples in COLOURS.items()), *_BETWEEN)
_EXAMPLES = np.array([rgb for examples in _GROUPS for rgb in examples], np.uint8)
_OWNER = np.array([min(i, len(_NAMES)) for i, examples in enumerate(_GROUPS) for _ in examples], np.uint8)
_BITS = 5  # of each channel that the table of all colours keeps


def _lab(rgb_N3: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor((rgb_N3.reshape(1, -1, 3).astype(np.float32) / 255.0), cv2.COLOR_RGB2LAB)[0]
    lab[:, 0] *= 0.6  # lightness varies with the light, hue does not
    return lab


@cache
def _table() -> np.ndarray:
    """uint8 [32768]: the owner of each colour at 5 bits a channel; ten times as fast as distances."""
    levels = (np.arange(1 << _BITS) << (8 - _BITS)) + (1 << (7 - _BITS))
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    distances = ((_lab(grid)[:, None] - _lab(_EXAMPLES)[None]) ** 2).sum(axis=2)
    return _OWNER[distances.argmin(axis=1)]


def colour_index(rgb_N3: np.ndarray) -> np.ndarray:
    """uint8 [N]: position in COLOURS of the word nearest to each uint8 pixel (CIELAB, lightness x 0.6).

    len(COLOURS) stands for a colour between the words, such as turquoise or beige.
    """
    levels = np.asarray(rgb_N3).reshape(-1, 3).astype(np.int32) >> (8 - _BITS)
    return _table()[(levels[:, 0] << (2 * _BITS)) | (levels[:, 1] << _BITS) | levels[:, 2]]


def colour_of(image_HW3: np.ndarray, mask_HW: np.ndarray, share: float = 0.55, most: int = 400) -> str | None:
    """The colour word that names at least `share` of the masked pixels, or None if none does.

    Args:
        image_HW3: uint8 RGB.
        mask_HW: bool, the pixels to name.
        share: in (0, 1].
        most: look at about this many pixels, evenly spaced.
    """
    step = max(1, int((mask_HW.size / (12 * most)) ** 0.5))
    pixels = image_HW3[::step, ::step][mask_HW[::step, ::step]]
    if len(pixels) < min(64, most) and step > 1:  # a thin thing, which the grid misses
        pixels = image_HW3[mask_HW]
    if len(pixels) < 8:
        return None
    pixels = pixels[:: max(1, len(pixels) // most)]
    counts = np.bincount(colour_index(pixels), minlength=len(_NAMES))[: len(_NAMES)]
    best = int(counts.argmax())
    return _NAMES[best] if counts[best] >= share * len(pixels) else None
