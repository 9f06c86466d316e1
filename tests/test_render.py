"""Deployment modes: parity with the reference inference, what stays, what goes, the fallback, bad input."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ivm.render as module
from ivm.errors import ImageError, InputError, OptionError
from ivm.render import (
    MODES,
    NOT_FOUND,
    Rendered,
    Transform,
    blend,
    check_options,
    render,
    shrink,
    soft_mask,
)
from ivm.types import Heatmap

REMOVING = ["overlay", "blur", "grayscale", "overlay+crop", "darken", "transparent"]


def ellipses(height: int, width: int, seed: int, count: int = 3) -> Heatmap:
    """A heatmap as a model makes them: a few soft ellipses, values 0..1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = (y + 0.5) / height, (x + 0.5) / width
    values = np.zeros((height, width), np.float32)
    for _ in range(count):
        cx, cy, rx, ry = *rng.uniform(0.1, 0.9, 2), *rng.uniform(0.04, 0.2, 2)
        values = np.maximum(values, np.clip(1.6 - np.hypot((x - cx) / rx, (y - cy) / ry), 0, 1))
    return Heatmap(values, score=0.9, instruction="the cup")


def reference_weights(values: np.ndarray, threshold: float, rate: float = 0.05) -> np.ndarray:
    """The reference's weights, written anew and slowly: windows by index, mirrored borders by index."""
    height, width = values.shape
    reach = int(rate * height)
    mask = values > threshold
    grown = np.zeros_like(mask)
    ys, xs = np.nonzero(mask)
    for y, x in zip(ys, xs, strict=True):
        grown[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    kernel = cv2.getGaussianKernel(2 * reach + 1, 0)[:, 0]  # OpenCV's own taps: small sizes have a table
    blurred = grown.astype(np.float64)
    for axis, length in enumerate((height, width)):
        total = np.zeros_like(blurred)
        for shift, tap in zip(range(-reach, reach + 1), kernel, strict=True):
            index = np.abs(np.arange(length) + shift) % max(1, 2 * length - 2)
            total += tap * np.take(blurred, np.minimum(index, 2 * length - 2 - index), axis=axis)
        blurred = total
    return blurred


def unlike(image: np.ndarray) -> np.ndarray:
    """The same picture with no pixel channel at 255, so that a white pixel can only come from the overlay."""
    return np.minimum(image, 250)


@pytest.fixture(scope="module")
def coffee() -> np.ndarray:
    return unlike(skimage.data.coffee())


@pytest.mark.parametrize("name", ["coffee", "astronaut", "chelsea"])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_exact_is_the_reference(name: str, threshold: float) -> None:
    image = cv2.resize(getattr(skimage.data, name)(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    heatmap = ellipses(*image.shape[:2], seed=len(name))
    weights = reference_weights(heatmap.values, threshold)
    assert np.abs(soft_mask(heatmap, threshold=threshold, exact=True) - weights).max() < 1e-5

    floats = image * weights[:, :, None] + np.array([10, 20, 250]) * (1 - weights[:, :, None])
    whole = render(image, heatmap, threshold=threshold, colour=(10, 20, 250), exact=True).image
    assert np.abs(whole - floats).max() < 0.502  # rounding to bytes is all that is added

    rows, columns = np.nonzero(weights > 0)
    y0, y1, x0, x1 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    for exact in (True, False):
        cropped, transform = render(
            image, heatmap, "overlay+crop", threshold=threshold, colour=(10, 20, 250), exact=exact
        )
        assert transform.offset == (x0, y0)
        assert cropped.shape == (y1 - y0, x1 - x0, 3)
    whole = render(
        image, heatmap, "overlay+crop", threshold=threshold, colour=(10, 20, 250), exact=True
    ).image
    assert np.abs(whole - floats[y0:y1, x0:x1]).max() < 0.502


def masks(height: int, width: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    waves = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), max(1.0, height / 60))
    line = np.zeros((height, width), bool)
    line[height // 3, width // 4 :] = True
    hole = np.ones((height, width), bool)
    hole[:, width // 2] = False
    return {
        "ellipses": ellipses(height, width, seed).to_mask(),
        "noise": rng.random((height, width)) > 0.5,
        "points": rng.random((height, width)) > 1 - 4 / (height * width),
        "waves": waves > 0,
        "line": line,
        "hole": hole,
    }


@pytest.mark.parametrize("size", [(1024, 1024), (720, 961), (383, 640), (200, 77), (96, 1000), (33, 20)])
def test_default_weights_are_within_one_255th_of_exact(size: tuple[int, int]) -> None:
    for seed, (dilate, feather) in enumerate([(0.05, None), (0.0, 0.05), (0.1, 0.03), (0.02, 0.15)]):
        for kind, mask in masks(*size, seed).items():
            fast = soft_mask(mask, dilate=dilate, feather=feather)
            exact = soft_mask(mask, dilate=dilate, feather=feather, exact=True)
            assert fast.dtype == np.uint8
            assert exact.dtype == np.float32
            error = np.abs(fast / 255 - exact).max() * 255
            assert error <= 1.0001, f"{kind}, dilate {dilate}, feather {feather}: {error:.2f}/255"


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("outline", "heatmap")])
def test_default_picture_is_close_to_exact(mode: str, coffee: np.ndarray) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=5)
    fast, exact = render(coffee, heatmap, mode).image, render(coffee, heatmap, mode, exact=True).image
    # One 255th of a weight is one grey level; rounding in bytes adds another, a blurred background a third.
    assert np.abs(fast.astype(int) - exact).max() <= 3


def test_weights_on_ragged_masks_of_real_photos(coffee: np.ndarray) -> None:
    """The parts of photos that are brighter than their surroundings."""
    for image in (coffee, skimage.data.astronaut(), skimage.data.chelsea()):
        grey = image.mean(axis=2)
        mask = grey > cv2.GaussianBlur(grey, (0, 0), 25) + 10
        assert 0.05 < mask.mean() < 0.6
        assert np.abs(soft_mask(mask) / 255 - soft_mask(mask, exact=True)).max() <= 1.0001 / 255


@pytest.mark.parametrize("share", [0.03, 0.05, 0.11, 0.2])
def test_a_single_pixel_of_a_large_mask_is_kept_entirely(share: float) -> None:
    mask = np.zeros((700, 900), bool)
    mask[[3, 350, 696], [890, 450, 7]] = True
    assert (soft_mask(mask, dilate=share)[mask] == 255).all()


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_dilation_by_a_tall_pictures_height_needs_little_memory() -> None:
    code = """
import resource, numpy as np
from ivm.render import soft_mask
mask = np.zeros((16000, 4), bool)
mask[0, 0] = True
soft_mask(mask)  # loads what it needs
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28,) * 2)
assert (soft_mask(mask, dilate=1.0, feather=0.0) == 255).all()  # a kernel of 32,001 squared would be 1 GB
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_result_is_never_the_callers_array() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    before = image.copy()
    for mode in MODES:
        for values in (np.ones((40, 50)), np.zeros((40, 50))):
            for found in (True, False):
                out = render(image, Heatmap(values, found=found), mode).image
                out[:] = 7  # a result may be written on
    assert (image == before).all()


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@settings(deadline=None, max_examples=60)
@given(
    sizes, st.integers(0, 10_000), st.sampled_from(REMOVING), st.floats(0, 1), st.floats(0, 1), st.booleans()
)
def test_what_stays_and_what_goes(
    size: tuple[int, int], seed: int, mode: str, dilate: float, feather: float, exact: bool
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    heatmap = Heatmap(rng.random(size) * (rng.random(size) > 0.9), threshold=0.3)
    mask = heatmap.to_mask()
    if not mask.any():
        return
    feather = min(feather, dilate)  # then the mask's own pixels are kept entirely
    options: dict[str, Any] = {"colour": (3, 2, 1)} if "overlay" in mode else {}
    before = image.copy()
    image.flags.writeable = False
    out, transform = render(
        image, heatmap, mode, dilate=dilate, feather=feather, opacity=1.0, exact=exact, **options
    )
    assert (image == before).all()
    assert not np.shares_memory(out, image)
    assert out.dtype == np.uint8
    assert transform.size == (out.shape[1], out.shape[0])
    assert transform.original_size == (size[1], size[0])

    x0, y0 = (int(value) for value in transform.offset)
    window = np.s_[y0 : y0 + out.shape[0], x0 : x0 + out.shape[1]]
    assert mask[window].sum() == mask.sum(), "a crop may cut no pixel of the mask"
    image, mask = image[window], mask[window]
    assert (out[mask][:, :3] == image[mask]).all(), "kept pixels are unchanged"
    reach = int(dilate * size[0]) + int(feather * size[0])
    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    removed = out[~near]
    if "overlay" in mode:
        assert (removed == [3, 2, 1]).all()
    elif mode == "darken":
        assert (removed == 0).all()
    elif mode == "grayscale":
        assert (removed == removed[:, :1]).all()
    elif mode == "transparent":
        assert (removed[:, 3] == 0).all()
        assert (out[mask][:, 3] == 255).all()
        assert (out[:, :, :3] == image).all()


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from([(1, 1), (1, 17), (17, 1), (2, 2), (3, 1), (1, 4), (31, 45), (1, 700), (700, 1)]),
    st.sampled_from(list(MODES)),
    st.sampled_from(list(NOT_FOUND)[:2]),
    st.sampled_from(["empty", "full", "point", "not found"]),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.booleans(),
    st.sampled_from([None, 1, 64]),
)
def test_every_mode_on_every_shape(
    size: tuple[int, int],
    mode: str,
    not_found: str,
    kind: str,
    share: float,
    exact: bool,
    longest: int | None,
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    values = np.full(size, float(kind != "empty"), np.float32)
    if kind == "point":
        values[:] = 0
        values[size[0] // 2, size[1] // 2] = 1
    options = {} if mode == "heatmap" else {"dilate": share, "feather": share}
    result = render(
        image,
        Heatmap(values, found=kind != "not found"),
        mode,
        not_found=not_found,
        exact=exact,
        longest=longest,
        **options,
    )
    channels = 4 if mode == "transparent" else 3
    assert result.image.shape == (result.transform.size[1], result.transform.size[0], channels)
    assert result.image.dtype == np.uint8
    if longest is not None:
        assert max(result.transform.size) == longest
    corner = result.transform.to_original(result.transform.size)
    assert (corner <= np.array([size[1], size[0]]) + 1e-6).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cause", ["not found", "empty"])
def test_fallback(mode: str, cause: str, coffee: np.ndarray) -> None:
    values = np.zeros(coffee.shape[:2], np.float32)
    values[150:200, 250:300] = 0.5 if cause == "empty" else 0.9  # 0.5 is not strictly above 0.5
    heatmap = Heatmap(values, score=0.1, found=cause == "empty", instruction="the teapot")

    kept = render(coffee, heatmap, mode)
    assert kept.kept_whole == (mode != "heatmap")
    assert kept.transform == Transform((600, 400), (600, 400))
    if mode == "heatmap":
        assert not (kept.image == coffee).all()
    else:
        assert (kept.image[:, :, :3] == coffee).all()
        assert not np.shares_memory(kept.image, coffee)
        assert mode != "transparent" or (kept.image[:, :, 3] == 255).all()

    masked = render(coffee, heatmap, mode, not_found="mask")
    if cause == "empty" and mode == "crop":
        assert masked.kept_whole
        assert (masked.image == coffee).all()
    else:
        assert not masked.kept_whole
    if cause == "empty" and "overlay" in mode:
        assert (masked.image == 255).all()
        assert masked.image.shape == coffee.shape
    if cause == "empty" and mode == "transparent":
        assert (masked.image[:, :, 3] == 0).all()
    if cause == "not found" and "crop" in mode:
        assert masked.image.shape[0] < 200

    with pytest.raises(InputError, match=r"the target of 'the teapot' .* not_found='keep'"):
        render(coffee, heatmap, mode, not_found="error")


def test_found_and_not_empty_is_never_kept_whole(coffee: np.ndarray) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=1)
    for mode in MODES:
        for not_found in NOT_FOUND:
            assert not render(coffee, heatmap, mode, not_found=not_found).kept_whole


@pytest.mark.parametrize("mode", ["crop", "overlay+crop"])
def test_pixels_of_a_crop_are_where_the_transform_says(mode: str, coffee: np.ndarray) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=3, count=1)
    picture, transform = render(coffee, heatmap, mode, margin=0.1, aspect=1.5)
    assert abs(picture.shape[1] / picture.shape[0] - 1.5) < 0.02
    x, y = heatmap.point()
    there = np.floor(transform.from_original((x + 0.5, y + 0.5))).astype(int)
    assert (picture[there[1], there[0]] == coffee[y, x]).all()
    back = np.floor(transform.to_original(there + 0.5)).astype(int)
    assert back.tolist() == [x, y]


def test_resizing_keeps_the_map(coffee: np.ndarray) -> None:
    values = np.zeros(coffee.shape[:2], np.float32)
    values[100:180, 200:320] = 1
    plain = render(coffee, Heatmap(values), "overlay+crop", dilate=0, feather=0)
    assert plain.transform.offset == (200, 100)
    assert plain.transform.size == (120, 80)
    for longest in (48, 120, 360):
        result = render(coffee, Heatmap(values), "overlay+crop", dilate=0, feather=0, longest=longest)
        assert result.image.shape == (longest * 2 // 3, longest, 3)
        np.testing.assert_allclose(
            result.transform.to_original((longest / 2, longest / 3)), (260, 140), rtol=1e-12
        )
        shrunk = cv2.resize(result.image, (12, 8), interpolation=cv2.INTER_AREA)
        wanted = cv2.resize(coffee[100:180, 200:320], (12, 8), interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - wanted).mean() < 2


def test_options_of_crops(coffee: np.ndarray) -> None:
    values = np.zeros(coffee.shape[:2], np.float32)
    values[150:160, 300:320] = 1

    def box(**options: Any) -> list[float]:
        transform = render(coffee, Heatmap(values), "crop", **options).transform
        return transform.to_original((0, 0, *transform.size)).tolist()

    assert box(dilate=0) == [300, 150, 320, 160]  # without dilation no feathering, unless it is asked for
    assert box(dilate=0, feather=0.05) == [280, 130, 340, 180]
    assert box() == [260, 110, 360, 200]
    assert box(dilate=0, margin=0.5) == [290, 140, 330, 170]
    assert box(dilate=0, min_size=100) == [260, 105, 360, 205]
    assert box(dilate=0, aspect=1.0) == [300, 145, 320, 165]
    assert box(dilate=0, min_size=10_000) == [0, 0, 600, 400]
    cut = render(coffee, Heatmap(values), "crop", dilate=0, margin=0.5).image
    assert (cut == coffee[140:170, 290:330]).all(), "a plain crop changes no pixel"


def test_opacity_mixes(coffee: np.ndarray) -> None:
    values = np.zeros(coffee.shape[:2], np.float32)
    values[:, :50] = 1
    far = np.s_[:, 200:]
    for exact in (False, True):
        half = render(coffee, Heatmap(values), "overlay", colour="black", opacity=0.5, exact=exact).image
        assert np.abs(half[far] - coffee[far] / 2).max() <= 1.5
        none = render(coffee, Heatmap(values), "overlay", opacity=0.0, exact=exact).image
        assert (none == coffee).all()
        dim = render(coffee, Heatmap(values), "darken", exact=exact).image
        assert np.abs(dim[far] - coffee[far] * 0.3).max() <= 1.5
        clear = render(coffee, Heatmap(values), "transparent", opacity=0.25, exact=exact).image
        assert np.abs(clear[far][..., 3].astype(float) - 0.75 * 255).max() <= 1
    plain = render(coffee, Heatmap(values), "heatmap", opacity=0.0).image
    assert (plain[far] == plain[far][..., :1]).all()  # no colour is left


def test_blur_takes_the_detail_and_leaves_the_layout(coffee: np.ndarray) -> None:
    values = np.zeros(coffee.shape[:2], np.float32)
    values[:, :50] = 1
    fine, coarse = (
        render(coffee, Heatmap(values), "blur", radius=radius).image[:, 200:].astype(float)
        for radius in (0.01, 0.2)
    )

    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    original = coffee[:, 200:].astype(float)
    assert detail(coarse) < detail(fine) / 3 < detail(original) / 3
    assert np.abs(coarse.mean(axis=(0, 1)) - original.mean(axis=(0, 1))).max() < 5
    same = render(coffee, Heatmap(values), "blur", radius=0).image
    assert np.abs(same.astype(int) - coffee).max() <= 1


def test_transparent_over_a_colour_is_overlay(coffee: np.ndarray) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=2)
    rgba = render(coffee, heatmap, "transparent").image
    overlay = render(coffee, heatmap, "overlay", colour="white").image
    assert (blend(rgba[:, :, :3], rgba[:, :, 3], "white") == overlay).all()


def test_outline_draws_on_the_edge_alone(coffee: np.ndarray) -> None:
    values = np.zeros(coffee.shape[:2], np.float32)
    values[150:250, 200:400] = 1
    picture = render(coffee, Heatmap(values), "outline", dilate=0, colour=(0, 255, 1)).image
    changed = (picture != coffee).any(axis=2)
    edge = np.zeros_like(changed)
    edge[144:256, 194:406] = True
    edge[156:244, 206:394] = False
    assert changed.any()
    assert not (changed & ~edge).any()
    assert (picture[150, 210:390] == [0, 255, 1]).all()
    grown = render(coffee, Heatmap(values), "outline", dilate=0.05, feather=0).image
    assert (grown[130, 230:370] == (255, 212, 0)).all()  # 0.05 * 400 pixels outside
    large = render(cv2.resize(coffee, None, fx=3, fy=3), Heatmap(np.kron(values, np.ones((3, 3)))), "outline")
    small = render(coffee, Heatmap(values), "outline")
    widths = [(result.image == (255, 212, 0)).all(axis=2).sum(axis=0).max() for result in (large, small)]
    assert widths[0] >= 2 * widths[1], "the line grows with the picture"


def test_heatmap_view_gets_lighter_with_relevance() -> None:
    image = np.full((60, 256, 3), 90, np.uint8)
    heatmap = Heatmap(np.tile(np.linspace(0, 1, 256, dtype=np.float32), (60, 1)), threshold=1.0)
    picture = render(image, heatmap, "heatmap").image
    lightness = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[30, :, 0].astype(int)
    assert (np.diff(lightness) >= -1).all()  # bytes round
    assert lightness[-1] - lightness[0] > 100
    photo = skimage.data.chelsea()
    ones = Heatmap(np.ones(photo.shape[:2], np.float32), threshold=1.0)
    shown = render(photo, ones, "heatmap").image
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).ravel()
    for channel in range(3):  # the photo shows through the strongest colour
        assert np.corrcoef(shown[:, :, channel].ravel(), grey)[0, 1] > 0.9


def test_images_of_all_kinds(coffee: np.ndarray, tmp_path: Any) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=4)
    wanted = render(coffee, heatmap).image
    file = tmp_path / "coffee.png"
    Image.fromarray(coffee).save(file)
    stream = io.BytesIO()
    Image.fromarray(coffee).save(stream, format="PNG")
    for source in (file, str(file), stream.getvalue(), Image.fromarray(coffee), np.asfortranarray(coffee)):
        assert (render(source, heatmap).image == wanted).all()
    flipped = Heatmap(heatmap.values[:, ::-1], threshold=heatmap.threshold)
    for mode in MODES:
        assert render(coffee[:, ::-1], flipped, mode).image.dtype == np.uint8


def test_one_masking_code_for_arrays_and_pictures(coffee: np.ndarray) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=6)
    weights = soft_mask(heatmap, threshold=0.7, dilate=0.03)
    assert (soft_mask(heatmap.values, threshold=0.7, dilate=0.03) == weights).all()
    assert (soft_mask(heatmap.values.astype(np.float64), threshold=0.7, dilate=0.03) == weights).all()
    assert (soft_mask(heatmap.to_mask(0.7), dilate=0.03) == weights).all()
    assert (
        blend(coffee, weights, "white") == render(coffee, heatmap, threshold=0.7, dilate=0.03).image
    ).all()
    assert (soft_mask(heatmap.to_mask(), dilate=0) == heatmap.to_mask() * 255).all()


def test_more_dilation_and_a_lower_threshold_keep_more(coffee: np.ndarray) -> None:
    heatmap = ellipses(*coffee.shape[:2], seed=7)
    kept = [
        soft_mask(heatmap, threshold=threshold, dilate=dilate).mean()
        for threshold, dilate in [(0.9, 0.0), (0.9, 0.02), (0.6, 0.02), (0.4, 0.02), (0.4, 0.1)]
    ]
    assert kept == sorted(kept)
    assert len(set(kept)) == len(kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "overlai"}, "mode must be one of overlay, .* did you mean 'overlay'"),
        ({"mode": 3}, "mode must be one of"),
        ({"mode": ["overlay"]}, "mode must be one of"),
        ({"not_found": "ignore"}, "not_found must be one of keep, mask, error"),
        ({"threshold": 1.5}, r"threshold must be in \[0, 1\], but got 1.5"),
        ({"threshold": float("nan")}, "threshold"),
        ({"dilate": -0.1}, "dilate must be in"),
        ({"feather": 2}, "feather must be in"),
        ({"opacity": "much"}, "opacity must be a number"),
        ({"colour": "bleu"}, "colour must be a name"),
        ({"mode": "blur", "radius": 1.1}, "radius must be in"),
        ({"mode": "crop", "margin": -1}, "margin must be a number from 0"),
        ({"mode": "crop", "margin": float("nan")}, "margin must be a number from 0"),
        ({"mode": "crop", "aspect": 0}, "aspect must be a number from 0.01"),
        ({"mode": "crop", "min_size": 2.5}, "min_size must be a whole number"),
        ({"longest": 0}, "longest must be a whole number"),
        ({"longest": True}, "longest must be a whole number"),
        ({"mode": "blur", "colour": "red"}, "mode 'blur' has no use for colour: .* overlay"),
        ({"mode": "overlay", "margin": 0.1}, r"no use for margin: .* crop, overlay\+crop"),
        ({"mode": "crop", "opacity": 0.5}, "no use for opacity"),
        ({"mode": "heatmap", "dilate": 0.1}, "no use for dilate"),
        ({"mode": "darken", "radius": 0.1}, "no use for radius: it is an option of blur"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str, coffee: np.ndarray) -> None:
    with pytest.raises(OptionError, match=message):
        render(coffee, ellipses(*coffee.shape[:2], seed=0), **options)


def test_wrong_pictures_and_heatmaps_are_refused(coffee: np.ndarray, tmp_path: Any) -> None:
    heatmap = ellipses(400, 600, seed=0)
    with pytest.raises(InputError, match=r"heatmap must be 400x600 .* but is 600x400"):
        render(coffee, ellipses(600, 400, seed=0))
    with pytest.raises(InputError, match=r"heatmap must be an ivm\.Heatmap, but got ndarray"):
        render(coffee, heatmap.values)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"float64 \[400, 600, 3\]"):
        render(coffee / 255, heatmap)
    with pytest.raises(ImageError, match="missing"):
        render(tmp_path / "missing.png", heatmap)
    with pytest.raises(InputError, match=r"bool \[H, W\], but got uint8 \[400, 600\]"):
        soft_mask(np.zeros((400, 600), np.uint8))
    with pytest.raises(InputError, match="but got list"):
        soft_mask([[0.5]])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="threshold has no use for a mask"):
        soft_mask(np.zeros((4, 4), bool), threshold=0.5)
    with pytest.raises(OptionError, match="dilate"):
        soft_mask(np.zeros((4, 4), bool), dilate=3)


def test_a_rendered_value_unpacks(coffee: np.ndarray) -> None:
    result = render(coffee, ellipses(*coffee.shape[:2], seed=0))
    picture, transform = result
    assert isinstance(result, Rendered)
    assert picture is result.image
    assert transform is result.transform


def test_the_module_answers_for_its_function(coffee: np.ndarray) -> None:
    """`import ivm.render` binds `ivm.render` to the module; `ivm.render(...)` must work all the same."""
    heatmap = ellipses(*coffee.shape[:2], seed=0)
    assert (module(coffee, heatmap).image == render(coffee, heatmap).image).all()  # type: ignore[operator]


def test_rendering_loads_no_model_and_sets_no_threads() -> None:
    code = (
        "import sys, cv2; before = cv2.getNumThreads(); import ivm.render; "
        "assert cv2.getNumThreads() == before; "
        "print([n for n in ('torch', 'onnxruntime', 'transformers', 'matplotlib') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("nope", {}, "mode must be one of"),
        ("overlay", {"colour": "no colour"}, "colour"),
        ("overlay", {"treshold": 0.5}, "options must be among .*threshold.*, but got treshold"),
        ("overlay", {"threshold": 1.5}, "threshold must be in"),
        ("overlay", {"exact": "false"}, "exact must be True or False"),
        ("crop", {"longest": 0}, "longest"),
    ],
)
def test_wrong_options_are_found_without_a_picture(mode: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_options(mode, options)


def test_right_options_pass_and_a_large_size_is_not_made() -> None:
    check_options("crop", {"threshold": 1.0, "longest": 20_000, "margin": None, "not_found": "error"})


@pytest.mark.parametrize("longest", [100, 59, 7])
def test_shrinking_keeps_coordinates_true_and_never_enlarges(longest: int) -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    rendered = Rendered(image, Transform((60, 40), (60, 40)), kept_whole=True)
    small = shrink(rendered, longest)
    assert max(small.image.shape[:2]) == min(60, longest)
    assert small.kept_whole
    height, width = small.image.shape[:2]
    assert np.allclose(small.transform.to_original((width, height)), (60, 40))
