"""What needs no model: the trivial maskings that every figure stands beside."""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np

from ivm.data.colours import COLOURS, colour_index
from ivm.images import ImageLike, read_image
from ivm.types import Heatmap

__all__ = ["BASELINES", "CentreEllipse", "ColourWords", "WholeImage"]


class WholeImage:
    """Keeps everything."""

    name = "whole image"

    def batch(self, images: Sequence[ImageLike], instructions: Sequence[str]) -> list[Heatmap]:
        """Heatmaps of 1."""
        shapes = [read_image(image).shape[:2] for image in images]
        return [Heatmap(np.ones(shape, np.float32)) for shape in _spread(shapes, instructions)]


class CentreEllipse:
    """Keeps the ellipse in the middle with half the picture's width and height as its axes."""

    name = "centre ellipse"

    def batch(self, images: Sequence[ImageLike], instructions: Sequence[str]) -> list[Heatmap]:
        """Heatmaps that fall from 1 at the centre to 0.5 on the ellipse."""
        values = [_ellipse(*read_image(image).shape[:2]) for image in images]
        return [Heatmap(value) for value in _spread(values, instructions)]


class ColourWords:
    """Keeps pixels of the colours that the instruction names, smoothed; without any, the centre ellipse."""

    name = "colour words"

    def batch(self, images: Sequence[ImageLike], instructions: Sequence[str]) -> list[Heatmap]:
        """Heatmaps: the share of such pixels in a neighbourhood of 4 % of the longer side."""
        pictures = [read_image(image) for image in images]
        named: dict[int, np.ndarray] = {}  # the colours of a picture are named once for all its instructions
        heatmaps = []
        for picture, instruction in zip(_spread(pictures, instructions), instructions, strict=True):
            words = set(re.findall(r"[a-z]+", instruction.lower().replace("gray", "grey")))
            wanted = [i for i, colour in enumerate(COLOURS) if colour in words]
            if not wanted:
                heatmaps.append(Heatmap(_ellipse(*picture.shape[:2])))
                continue
            if id(picture) not in named:
                named[id(picture)] = colour_index(picture.reshape(-1, 3)).reshape(picture.shape[:2])
            hits = np.isin(named[id(picture)], wanted).astype(np.float32)
            reach = max(1, round(0.04 * max(hits.shape)))
            heatmaps.append(Heatmap(np.clip(cv2.blur(hits, (reach, reach)), 0.0, 1.0)))
        return heatmaps


BASELINES = (WholeImage, CentreEllipse, ColourWords)
"""Every baseline, in the order of reports."""


def _ellipse(height: int, width: int) -> np.ndarray:
    y = (np.arange(height, dtype=np.float32) + 0.5) / height * 4 - 2  # -1 and 1 on the ellipse's ends
    x = (np.arange(width, dtype=np.float32) + 0.5) / width * 4 - 2
    # Just above 0.5 on the rim: the mask is what lies strictly above.
    return np.clip(1.0 - 0.499 * (y[:, None] ** 2 + x[None, :] ** 2), 0.0, 1.0).astype(np.float32)


def _spread(values: list, instructions: Sequence[str]) -> list:
    return values * len(instructions) if len(values) == 1 else values
