"""The guided filter against its definition, window by window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivm.models import guided_filter as module
from ivm.models.guided_filter import FINER, guided_filter, make_guide


def windows(values_SSC):
    """Each place's window as [S, S, window, C], with the picture mirrored at its borders."""
    radius = module._RADIUS
    padded = np.pad(values_SSC, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    size = 2 * radius + 1
    seen = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))
    return seen.transpose(0, 1, 3, 4, 2).reshape(*values_SSC.shape[:2], size * size, -1)


def by_definition(logits_SS, image_SS3):
    """Ridge regression of the logits on R, G and B in each window; the mean of what the windows say."""
    colours = image_SS3.astype(np.float64) / 255
    x = windows(colours)
    y = windows(logits_SS[:, :, None].astype(np.float64))[..., 0]
    apart = x - x.mean(axis=2, keepdims=True)
    covariance = np.einsum("ijwa,ijwb->ijab", apart, apart) / x.shape[2]
    both = np.einsum("ijwa,ijw->ija", apart, y - y.mean(axis=2, keepdims=True)) / x.shape[2]
    slopes = np.linalg.solve(covariance + module._EPSILON * np.eye(3), both[..., None])[..., 0]
    offset = y.mean(axis=2) - (slopes * x.mean(axis=2)).sum(-1)
    smooth = windows(np.dstack([slopes, offset])).mean(axis=2)
    return (smooth[:, :, :3] * colours).sum(-1) + smooth[:, :, 3]


@pytest.mark.parametrize("look", ["colours", "grey", "one colour"])
def test_it_is_the_ridge_regression_of_its_definition(look):
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)
    if look == "grey":
        image = np.repeat(image[:, :, :1], 3, axis=2)
    if look == "one colour":
        image[:] = (200, 30, 90)
    logits = rng.uniform(-3.5, 3.5, (30, 30)).astype(np.float32)
    guide = make_guide(image, 30)
    np.testing.assert_allclose(guided_filter(logits, guide), by_definition(logits, image), atol=2e-3)


def test_a_coarse_heatmap_takes_over_the_pictures_edges():
    image = np.full((144, 144, 3), (40, 90, 60), np.uint8)
    image[31:95, 44:110] = (200, 60, 50)
    truth = (image == (200, 60, 50)).all(axis=2)
    coarse = np.full((48, 48), -4.0, np.float32)
    coarse[11:31, 15:36] = 4.0  # a cell off
    before = np.kron(coarse, np.ones((FINER, FINER))) > 0
    after = guided_filter(coarse, make_guide(image, 144)) > 0
    iou = [(mask & truth).sum() / (mask | truth).sum() for mask in (before, after)]
    assert iou[0] < 0.95
    assert iou[1] > 0.98


@settings(max_examples=25, deadline=None)
@given(level=st.floats(-20, 20), seed=st.integers(0, 99))
def test_the_same_everywhere_stays_so(level, seed):
    image = np.random.default_rng(seed).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    same = guided_filter(np.full((8, 8), level, np.float32), make_guide(image, 24))
    assert same.shape == (24, 24)
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, level, atol=2e-3)


def test_what_is_surer_than_the_limit_stays_surer():
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    logits = np.zeros((24, 24), np.float32)
    logits[12, 12] = 20.0
    filtered = guided_filter(logits, make_guide(image, 24))
    assert filtered.argmax() == 12 * 24 + 12
    assert filtered.max() > 15
