"""The guided filter: a coarse heatmap takes over the edges of the picture it is about.

A colour guided filter (He, Sun and Tang, "Guided Image Filtering", TPAMI 2013): in each small window the
filtered logits are the linear function of the picture's colours that is nearest to the given ones. So they
change where colours change, and not half a cell beside it. What depends on the picture alone is made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["FINER", "Guide", "guided_filter", "make_guide"]

FINER = 3
"""A guide has so many rows for each row of a heatmap."""

_RADIUS = 6  # of a window in rows of the guide: two rows of the heatmap
_EPSILON = 1e-4  # regularises the fit: colours that vary by less than 1 % are no edge
_SURE = 4.0  # logits beyond it are as sure as it: the fit is to be good where masks end

# Brightness and two differences of colour, at right angles. The axes do not change the result; but a grey
# picture's covariance of R, G and B cannot be inverted in float32, and that of these can.
_AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]]) / 255.0


@dataclass(frozen=True, eq=False)
class Guide:
    """What the filter needs of a picture, float32.

    Attributes:
        colours: [S, S, 3], brightness and two differences of colour.
        means: [S, S, 3], of the colours in each window.
        inverse: [S, S, 6], the inverse of the colours' covariance in each window, regularised: of the
            symmetric matrix the elements 00, 01, 02, 11, 12, 22.
    """

    colours: np.ndarray
    means: np.ndarray
    inverse: np.ndarray


def make_guide(image_HW3: np.ndarray, side: int) -> Guide:
    """The guide of a uint8 picture of any size, squashed to side x side."""
    shrinks = image_HW3.shape[0] >= side and image_HW3.shape[1] >= side
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    colours = cv2.transform(cv2.resize(image_HW3, (side, side), interpolation=way).astype(np.float32), _AXES)
    means = _mean(colours)
    x, y, z = cv2.split(colours)
    mx, my, mz = cv2.split(means)
    xx, xy, xz = cv2.split(_mean(colours * x[:, :, None]))
    yy, yz, zz = cv2.split(_mean(cv2.merge([y * y, y * z, z * z])))
    xx, yy, zz = xx - mx * mx + _EPSILON, yy - my * my + _EPSILON, zz - mz * mz + _EPSILON
    xy, xz, yz = xy - mx * my, xz - mx * mz, yz - my * mz
    cofactors = cv2.merge(
        [
            yy * zz - yz * yz,
            xz * yz - xy * zz,
            xy * yz - xz * yy,
            xx * zz - xz * xz,
            xy * xz - xx * yz,
            xx * yy - xy * xy,
        ]
    )
    determinant = xx * cofactors[:, :, 0] + xy * cofactors[:, :, 1] + xz * cofactors[:, :, 2]
    return Guide(colours, means, cofactors / determinant[:, :, None])


def guided_filter(logits_hw: np.ndarray, guide: Guide) -> np.ndarray:
    """Logits float32 [h, w] of a heatmap -> [S, S], with the edges of the picture.

    Surer logits than 4 keep what they have beyond it.
    """
    side = guide.colours.shape[0]
    fine = cv2.resize(logits_hw, (side, side), interpolation=cv2.INTER_CUBIC)
    given = np.clip(fine, -_SURE, _SURE)
    mean = _mean(given)
    x, y, z = cv2.split(_mean(guide.colours * given[:, :, None]) - guide.means * mean[:, :, None])
    xx, xy, xz, yy, yz, zz = cv2.split(guide.inverse)
    slopes = cv2.merge([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z])
    filtered = _dot(_mean(slopes), guide.colours) + _mean(mean - _dot(slopes, guide.means))
    return filtered + (fine - given)


def _dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[S, S, 3] and [S, S, 3] -> [S, S]."""
    return cv2.transform(left * right, np.ones((1, 3)))


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the window around each place."""
    return cv2.blur(values, (2 * _RADIUS + 1, 2 * _RADIUS + 1))
