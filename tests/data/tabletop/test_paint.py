from __future__ import annotations

import numpy as np
import pytest

from ivm.data.colours import COLOURS, colour_index
from ivm.data.tabletop.paint import (
    COLOUR_NAMES,
    PATTERNS,
    SURFACES,
    TINTS,
    label_texture,
    pattern_texture,
    sample_colour,
    surface_texture,
)


@pytest.mark.parametrize("name", COLOURS)
def test_sampled_colours_are_what_they_are_called(name: str) -> None:
    rng = np.random.default_rng(0)
    rgb = np.array([sample_colour(name, rng) for _ in range(200)])
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    named = colour_index((rgb * 255).astype(np.uint8))
    assert (named == list(COLOURS).index(name)).mean() > 0.85
    assert len(np.unique(np.round(rgb, 3), axis=0)) > 150


def test_a_shade_narrows_a_colour() -> None:
    rng = np.random.default_rng(0)
    rgb = np.array([sample_colour("yellow", rng, (240, 205, 60)) for _ in range(100)])
    assert np.abs(rgb - np.array([240, 205, 60]) / 255).mean() < 0.05
    assert set(COLOURS) < set(COLOUR_NAMES)


@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_tile_and_vary(name: str) -> None:
    first, second = (SURFACES[name](np.random.default_rng(seed), 128) for seed in (0, 1))
    assert first.shape == (128, 128, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, SURFACES[name](np.random.default_rng(0), 128))


def test_a_surface_texture_is_one_of_them() -> None:
    assert surface_texture(np.random.default_rng(0), 64).shape == (64, 64, 3)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", range(8))
def test_a_pattern_is_named_after_the_colour_that_covers_most(pattern: str, seed: int) -> None:
    red, white = np.array([0.8, 0.1, 0.1]), np.full(3, 0.95)
    pixels = pattern_texture(pattern, red, white, np.random.default_rng(seed)).reshape(-1, 3) / 255
    nearer_red = np.linalg.norm(pixels - red, axis=1) < np.linalg.norm(pixels - white, axis=1)
    assert 0.5 < nearer_red.mean() < 0.95


@pytest.mark.parametrize("material", TINTS)
def test_tints_only_darken_a_little(material: str) -> None:
    tint = TINTS[material](np.random.default_rng(0), 64)
    assert tint.shape == (64, 64)
    assert tint.min() >= 0.5
    assert tint.max() <= 1.001
    assert tint.std() > 0.02


@pytest.mark.parametrize("text", ["A", "MILK", "COFFEE"])
def test_a_label_shows_its_text_within_the_picture(text: str) -> None:
    pixels = label_texture(text, np.array([0.9, 0.8, 0.1]), np.full(3, 0.05), None)
    dark = pixels.sum(axis=2) < 200
    assert 0.02 < dark.mean() < 0.4
    assert not dark[:, [0, -1]].any()
    assert not dark[[0, -1]].any()
    columns = np.flatnonzero(dark.any(axis=0))
    assert abs(columns.mean() - 64) < 12
    other = label_texture(text[::-1] + "X", np.array([0.9, 0.8, 0.1]), np.full(3, 0.05), None)
    assert not np.array_equal(pixels, other)
