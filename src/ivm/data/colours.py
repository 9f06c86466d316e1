"""Colour names read off pixels: one owner for photos, collage and baselines."""

from __future__ import annotations

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

_NAMES = tuple(COLOURS)
_EXAMPLES = np.array([rgb for examples in COLOURS.values() for rgb in examples], np.uint8)
_OWNER = np.array([i for i, name in enumerate(_NAMES) for _ in COLOURS[name]])


def _lab(rgb_N3: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor((rgb_N3.reshape(1, -1, 3).astype(np.float32) / 255.0), cv2.COLOR_RGB2LAB)[0]
    lab[:, 0] *= 0.6  # lightness varies with the light, hue does not
    return lab


_EXAMPLES_LAB = _lab(_EXAMPLES)


def colour_index(rgb_N3: np.ndarray) -> np.ndarray:
    """int [N]: position in COLOURS of the word nearest to each uint8 pixel (CIELAB, lightness x 0.6)."""
    distances = ((_lab(np.asarray(rgb_N3))[:, None] - _EXAMPLES_LAB[None]) ** 2).sum(axis=2)
    return _OWNER[distances.argmin(axis=1)]


def colour_of(image_HW3: np.ndarray, mask_HW: np.ndarray, share: float = 0.55, most: int = 400) -> str | None:
    """The colour word that names at least `share` of the masked pixels, or None if no colour dominates.

    Args:
        image_HW3: uint8 RGB.
        mask_HW: bool, the pixels to name.
        share: in (0, 1].
        most: look at about this many pixels, evenly spaced in reading order.
    """
    pixels = image_HW3[mask_HW]
    if len(pixels) < 8:
        return None
    pixels = pixels[:: max(1, len(pixels) // most)]
    counts = np.bincount(colour_index(pixels), minlength=len(_NAMES))
    best = int(counts.argmax())
    return _NAMES[best] if counts[best] >= share * len(pixels) else None
