from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivm.errors import OptionError
from ivm.tiles import MAX_GRID, MAX_TILES, fuse, grid_shape, lay_tiles, parse_tiles

SIZES = st.tuples(st.integers(64, 9000), st.integers(64, 9000))


@given(
    SIZES, st.one_of(st.just("auto"), st.integers(1, 11), st.tuples(st.integers(1, 11), st.integers(1, 11)))
)
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], tiles: object) -> None:
    try:
        laid = lay_tiles(size, tiles)
    except OptionError:
        return
    assert len(laid) != 1
    assert len(laid) <= MAX_TILES
    grid = grid_shape(size)
    assert max(grid) <= MAX_GRID
    if not laid:
        return
    seen = np.zeros((grid[0] // 4 + 1, grid[1] // 4 + 1), bool)
    for tile in laid:
        left, top, right, bottom = tile.cell
        seen[top // 4 : bottom // 4 + 1, left // 4 : right // 4 + 1] = True
        x0, y0, x1, y1 = tile.box
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
        assert tile.inner == (left > 0, top > 0, right < grid[1], bottom < grid[0])
        # The same part in pixels as in cells, to the rounding of a pixel.
        assert abs(x0 - left * size[1] / grid[1]) <= 1
        assert abs(y1 - bottom * size[0] / grid[0]) <= 1
    assert seen.all()
    rows = sorted({(tile.cell[1], tile.cell[3]) for tile in laid})
    for (_, bottom), (top, below) in pairwise(rows):
        assert (bottom - top) / (below - top) == pytest.approx(0.25, abs=0.15)


@given(st.integers(2, 8), st.integers(0, 1000), st.integers(0, 1000))
def test_a_target_of_up_to_a_ninth_of_a_tile_lies_whole_in_the_middle_of_one(
    tiles: int, x: int, y: int
) -> None:
    size = (3000, 4000)
    laid = lay_tiles(size, tiles)
    side = min(min(t.cell[2] - t.cell[0], t.cell[3] - t.cell[1]) for t in laid) // 9
    grid = grid_shape(size)
    left, top = x * (grid[1] - side) // 1000, y * (grid[0] - side) // 1000
    across, down = (1 + (laid[0].cell[i + 2] - laid[0].cell[i]) // 16 for i in (0, 1))  # where it fades
    assert any(
        tile.cell[0] + across * tile.inner[0] <= left
        and left + side <= tile.cell[2] - across * tile.inner[2]
        and tile.cell[1] + down * tile.inner[1] <= top
        and top + side <= tile.cell[3] - down * tile.inner[3]
        for tile in laid
    )


def test_auto_goes_by_size() -> None:
    assert lay_tiles((480, 640), "auto") == []
    assert lay_tiles((960, 1280), "auto") == []
    assert len(lay_tiles((3000, 4000), "auto")) == 12
    assert len(lay_tiles((64, 9000), "auto")) == 9
    assert len(lay_tiles((10_000, 12_000), "auto")) <= MAX_TILES
    assert lay_tiles((3000, 4000), None) == []
    assert lay_tiles((3000, 4000), 1) == []
    assert len(lay_tiles((3000, 4000), [2, 3])) == 6


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ("many", "'auto', a number"),
        (2.5, "'auto', a number"),
        (True, "'auto', a number"),
        ((1, 2, 3), "'auto', a number"),
        (("2", "2"), "'auto', a number"),
        (0, "at least 1"),
        ((0, 3), "at least 1"),
        (-2, "at least 1"),
        (40, "at most 128 together, but 40 makes 1200"),
        ((1, 100), "at least 64 pixels on a side"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(tiles: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        lay_tiles((3000, 4000), tiles)


def test_tiles_are_written_as_people_write_them() -> None:
    written = {None: None, "auto": "auto", "4": 4, "2x3": (2, 3), "2X3": (2, 3), "0": 0}
    assert {text: parse_tiles(text) for text in written} == written
    assert [parse_tiles(one) for one in (4, [2, 3], (2, 3))] == [4, (2, 3), (2, 3)]
    for text in ("many", "", "x", "2x", "x2", "2x2x2", "-1", "1.5", "²", " 2", "AUTO"):
        with pytest.raises(OptionError, match="tiles must be auto, a number"):
            parse_tiles(text)


LOGITS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(0, 4, (12, 16)))


def views_of(size: tuple[int, int], tiles: int, logits: np.ndarray, found: float) -> list:
    return [(tile, logits.astype(np.float32), found) for tile in lay_tiles(size, tiles)]


@settings(max_examples=25, deadline=None)
@given(LOGITS, LOGITS, st.floats(0.0, 1.0))
def test_tiles_that_found_nothing_change_nothing(whole: np.ndarray, tile: np.ndarray, score: float) -> None:
    import cv2

    size = (300, 400)
    joined, found = fuse(whole.astype(np.float32), score, views_of(size, 3, tile, 0.5), size, 0.5)
    expected = cv2.resize(whole.astype(np.float32), (400, 300), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(joined, expected)
    assert found >= score


@settings(max_examples=25, deadline=None)
@given(LOGITS, LOGITS, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_what_is_joined_lies_between_the_views(
    whole: np.ndarray, tile: np.ndarray, score: float, tile_score: float
) -> None:
    size = (300, 400)
    joined, found = fuse(whole.astype(np.float32), score, views_of(size, 2, tile, tile_score), size, 0.4)
    assert joined.shape == size
    assert joined.dtype == np.float32
    lacking = 14.0  # the most by which a whole image that did not find the target gives way
    assert joined.max() <= max(whole.max(), tile.max()) + 1e-4
    assert joined.min() >= min(whole.min(), tile.min()) - lacking - 1e-4
    assert min(score, tile_score) - 1e-6 <= found <= max(score, tile_score) + 1e-6


def test_at_a_seam_nothing_jumps() -> None:
    """A found, empty-bordered blob in one tile only: the joined logits are as smooth as the blob itself."""
    size = (400, 800)
    laid = lay_tiles(size, (1, 2))
    y, x = np.mgrid[0:64, 0:64] / 63 - 0.5
    blob = (8 - 200 * (x**2 + y**2)).clip(-6).astype(np.float32)
    whole = np.full((64, 64), -5.0, np.float32)
    views = [(laid[0], blob, 0.99), (laid[1], np.full((64, 64), -6.0, np.float32), 0.01)]
    joined, _ = fuse(whole, 0.3, views, size, 0.5)
    assert joined.max() > 4
    assert np.abs(np.diff(joined, axis=1)).max() < 0.35
    assert np.abs(np.diff(joined, axis=0)).max() < 0.35
