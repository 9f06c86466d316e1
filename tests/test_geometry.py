"""Coordinates of a rendered picture: the map back, the map forth, and the box of a crop."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivm.errors import InputError, OptionError
from ivm.geometry import Transform, crop_box

sides = st.integers(1, 5000)
coordinates = st.floats(-1e4, 1e4)


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    """A crop somewhere in a picture, then resized, each axis by its own factor."""
    width, height = draw(sides), draw(sides)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    w, h = draw(st.integers(1, width - x0)), draw(st.integers(1, height - y0))
    crop = Transform((width, height), (w, h), (float(x0), float(y0)))
    return crop.resized(draw(sides), draw(sides))


@given(transforms(), st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5))
def test_there_and_back(transform: Transform, points: list[tuple[float, float]]) -> None:
    there = transform.from_original(points)
    assert there.shape == (len(points), 2)
    np.testing.assert_allclose(transform.to_original(there), points, rtol=1e-9, atol=1e-6)


@given(transforms())
def test_corners_meet_corners(transform: Transform) -> None:
    left, top, right, bottom = transform.to_original((0, 0, *transform.size))
    assert (left, top) == transform.offset
    assert 0 <= left < right <= transform.original_size[0] + 1e-6
    assert 0 <= top < bottom <= transform.original_size[1] + 1e-6


@given(transforms(), st.tuples(coordinates, coordinates, coordinates, coordinates))
def test_clipping_stays_inside_and_changes_nothing_there(
    transform: Transform, box: tuple[float, ...]
) -> None:
    for function, limit in (
        (transform.to_original, transform.original_size),
        (transform.from_original, transform.size),
    ):
        free, clipped = function(box), function(box, clip=True)
        inside = (free >= 0) & (free <= np.array([*limit, *limit]))
        assert (clipped >= 0).all()
        assert (clipped <= np.array([*limit, *limit])).all()
        assert (clipped[inside] == free[inside]).all()


def test_known_values() -> None:
    transform = Transform((640, 480), (200, 100), (40.0, 30.0)).resized(400, 300)
    assert transform.scale == (2.0, 3.0)
    assert transform.to_original((10, 30)).tolist() == [45.0, 40.0]
    assert transform.to_original([0, 0, 400, 300]).tolist() == [40.0, 30.0, 240.0, 130.0]
    assert transform.from_original([[40, 30], [0, 0]]).tolist() == [[0.0, 0.0], [-80.0, -90.0]]
    assert transform.from_original([0, 0, 20, 20], clip=True).tolist() == [0.0, 0.0, 0.0, 0.0]  # cut away
    assert transform.to_original(np.zeros((0, 2))).shape == (0, 2)
    assert transform.to_original(np.zeros((2, 3, 4))).shape == (2, 3, 4)


def test_it_is_a_value() -> None:
    transform = Transform((640, 480), (200, 100), (40.0, 30.0))
    with pytest.raises(dataclasses.FrozenInstanceError):
        transform.offset = (0.0, 0.0)  # type: ignore[misc]
    assert transform == Transform((640, 480), (200, 100), (40.0, 30.0))
    points = np.array([[1.0, 2.0]])
    transform.to_original(points)
    assert points.tolist() == [[1.0, 2.0]]


@given(transforms())
def test_json_keeps_it(transform: Transform) -> None:
    assert Transform.from_dict(json.loads(json.dumps(transform.to_dict()))) == transform


@pytest.mark.parametrize(
    "change",
    [
        {"size": None},
        {"size": [0, 5]},
        {"scale": [1.0]},
        {"scale": [1.0, 0.0]},
        {"offset": "left"},
        {"offset": [0.0, float("nan")]},
    ],
)
def test_wrong_json_is_refused(change: dict[str, object]) -> None:
    values = Transform((640, 480), (200, 100)).to_dict() | change
    with pytest.raises(InputError, match="a transform must hold"):
        Transform.from_dict(values)


def test_missing_json_is_refused() -> None:
    with pytest.raises(InputError, match="original_size, size, offset and scale"):
        Transform.from_dict({"size": [1, 1]})


@pytest.mark.parametrize("xy", [3.0, [1, 2, 3], "ab", [["x", "y"]], [[1, 2], [3]]])
def test_what_is_no_point_is_refused(xy: object) -> None:
    with pytest.raises(InputError, match="points"):
        Transform((10, 10), (10, 10)).to_original(xy)  # type: ignore[arg-type]


def test_an_empty_size_is_refused() -> None:
    with pytest.raises(OptionError, match="0x5"):
        Transform((10, 10), (10, 10)).resized(0, 5)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, int, int, int], int, int]:
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))), width, height


@given(
    boxes(),
    st.integers(0, 400),
    st.floats(0, 3),
    st.integers(1, 400),
    st.one_of(st.none(), st.floats(0.05, 20)),
)
def test_a_crop_contains_the_box_and_stays_inside(
    given_box: tuple[tuple[int, int, int, int], int, int],
    reach: int,
    margin: float,
    min_size: int,
    aspect: float | None,
) -> None:
    box, width, height = given_box
    x0, y0, x1, y1 = crop_box(
        box, width, height, reach=reach, margin=margin, min_size=min_size, aspect=aspect
    )
    assert 0 <= x0 <= box[0] < box[2] <= x1 <= width
    assert 0 <= y0 <= box[1] < box[3] <= y1 <= height
    assert x1 - x0 >= min(min_size, width)
    assert y1 - y0 >= min(min_size, height)
    if aspect is not None and x1 - x0 < width and y1 - y0 < height:
        w, h = x1 - x0, y1 - y0
        assert abs(w - h * aspect) <= 0.5 + 1e-9 or abs(h - w / aspect) <= 0.5 + 1e-9


def test_known_crops() -> None:
    box = (40, 30, 60, 50)
    assert crop_box(box, 200, 100) == box
    assert crop_box(box, 200, 100, reach=35) == (5, 0, 95, 85)
    assert crop_box(box, 200, 100, margin=0.5) == (30, 20, 70, 60)
    assert crop_box(box, 200, 100, aspect=2.0) == (30, 30, 70, 50)
    assert crop_box(box, 200, 100, aspect=0.5) == (40, 20, 60, 60)
    assert crop_box(box, 200, 100, min_size=90) == (5, 0, 95, 90)  # moved inward at the top
    assert crop_box((190, 90, 200, 100), 200, 100, min_size=40) == (160, 60, 200, 100)
