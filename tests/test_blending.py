"""Blending in bytes against blending in floats, the blur against OpenCV's, and the names of colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivm.blending import blend, blur, parse_colour
from ivm.errors import InputError, OptionError


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    """Image [256, 256, 3] and weights [256, 256] that hold each pair of a pixel value and a weight."""
    values, weights = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    return np.stack([values, 255 - values, values // 2], axis=2), weights


def exact(image: np.ndarray, weights: np.ndarray, background: np.ndarray) -> np.ndarray:
    m = weights.astype(np.float64)[:, :, None]
    return image * m + background * (1 - m)


@pytest.mark.parametrize("colour", ["white", "black", "red", "#123456", (1, 128, 254)])
def test_every_byte_and_weight_with_a_colour(colour: str | tuple[int, int, int]) -> None:
    image, weights = every_pair()
    right = exact(image, weights / 255, np.array(parse_colour(colour), float))
    assert np.abs(blend(image, weights, colour) - right).max() <= 1.01
    floats = blend(image, (weights / 255).astype(np.float32), colour)
    assert np.abs(floats - right).max() <= 0.501


def test_every_byte_and_weight_with_a_picture() -> None:
    image, weights = every_pair()
    back = np.ascontiguousarray(image[::-1, ::-1])
    right = exact(image, weights / 255, back)
    assert np.abs(blend(image, weights, back) - right).max() <= 1.01
    assert np.abs(blend(image, (weights / 255).astype(np.float32), back) - right).max() <= 0.501


@pytest.mark.parametrize("kind", ["bytes", "floats", "mask"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (7, 5), (3, 3)])
def test_ends_are_untouched(shape: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    back = rng.integers(0, 256, (*shape, 3), np.uint8)
    mask = rng.random(shape) > 0.5
    weights = {"bytes": mask * np.uint8(255), "floats": mask.astype(np.float32), "mask": mask}[kind]
    assert (blend(image, weights, back) == np.where(mask[:, :, None], image, back)).all()
    assert (blend(image, weights, (9, 8, 7)) == np.where(mask[:, :, None], image, np.uint8([9, 8, 7]))).all()


def test_nothing_given_is_changed_and_any_layout_is_taken() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    weights = rng.integers(0, 256, (20, 30), np.uint8)
    before = image.copy(), weights.copy()
    image.flags.writeable = weights.flags.writeable = False
    turned = blend(image[::-1, ::2], weights[::-1, ::2], image[:, ::-2])
    assert (turned == blend(image[::-1, ::2].copy(), weights[::-1, ::2].copy(), image[:, ::-2].copy())).all()
    out = blend(image, weights)
    assert not np.shares_memory(out, image)
    assert (image == before[0]).all()
    assert (weights == before[1]).all()


@pytest.mark.parametrize(
    ("image", "weights", "background", "message"),
    [
        (np.zeros((4, 5, 3)), np.zeros((4, 5), np.uint8), "white", "image must be uint8"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), "white", "image must be uint8"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5), np.uint8), "white", "image must be uint8"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), "white", "weights must be"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64), "white", "weights must be"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 1.5), "white", r"weights must be in \[0, 1\]"),
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), np.nan), "white", r"weights must be in \[0, 1\]"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5)), np.zeros((4, 4, 3), np.uint8), "background"),
    ],
)
def test_wrong_arrays_are_refused(
    image: np.ndarray, weights: np.ndarray, background: np.ndarray | str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        blend(image, weights, background)


@pytest.mark.parametrize("radius", [1, 2, 9, 18, 19, 33, 51, 80, 150])
@pytest.mark.parametrize("layout", ["grey", "rgb"])
def test_blur_agrees_with_opencv(radius: int, layout: str) -> None:
    rng = np.random.default_rng(radius)
    shape = (211, 300) if layout == "grey" else (211, 300, 3)
    image = rng.integers(0, 256, shape, np.uint8)
    image[60:150, 100:170] = 255
    image[:, :40] = 0
    right = cv2.GaussianBlur(image.astype(np.float32), (2 * radius + 1,) * 2, 0)
    assert np.abs(blur(image, radius) - right).max() <= 1.01
    assert np.abs(blur(image, radius, exact=True) - right).max() <= 0.501


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 120), st.integers(0, 255))
def test_blur_keeps_a_plain_picture(height: int, width: int, radius: int, value: int) -> None:
    image = np.full((height, width), value, np.uint8)
    assert (blur(image, radius) == image).all()


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 9000, 3), (9000, 3)])
def test_a_strip_narrower_than_its_blur(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    right = cv2.GaussianBlur(image.astype(np.float32), (901, 901), 0)
    assert np.abs(blur(image, 450).astype(np.float32) - right.reshape(shape)).max() <= 1.01


@pytest.mark.parametrize(
    ("colour", "rgb"),
    [
        ("white", (255, 255, 255)),
        ("#102030", (16, 32, 48)),
        ("#fff", (255, 255, 255)),
        ("RebeccaPurple", (102, 51, 153)),
        ((1, 2, 3), (1, 2, 3)),
        ([0, 0, 255], (0, 0, 255)),
        (tuple(np.uint8([4, 5, 6])), (4, 5, 6)),
    ],
)
def test_colours(colour: object, rgb: tuple[int, int, int]) -> None:
    parsed = parse_colour(colour)  # type: ignore[arg-type]
    assert parsed == rgb
    assert all(type(value) is int for value in parsed)


@pytest.mark.parametrize(
    "colour",
    [
        "",
        "whit",
        "#12345",
        "#11223344",
        "rgb(300, 0, 0)",
        "hsl(0, 100%, 200%)",
        (1, 2),
        (1, 2, 256),
        (0.5, 0.5, 0.5),
        (-1, 0, 0),
        7,
        None,
    ],
)
def test_what_is_no_colour_is_refused(colour: object) -> None:
    with pytest.raises(OptionError, match="colour must be a name such as 'white'"):
        parse_colour(colour)  # type: ignore[arg-type]
