"""Heatmap -> mask -> rendered picture: the deployment modes, and the one masking code of the package.

    heatmap --threshold--> mask --dilate, feather--> weights --blend--> picture --crop, resize--> Rendered

`render` goes the whole way. Training, annotation and the discriminator take the same steps on arrays, by
`soft_mask` and `blend`, so that a model is trained on what it will be given.

Two paths lead to the same picture. `exact=True` is the reference inference: OpenCV's Gaussian blur of the
dilated mask at full resolution, blended in float32. The default does the blur on a Gaussian pyramid and
blends in bytes; its weights are within 1/255 of the exact ones, in a fraction of the time.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ivm.blending import Colour, blend, blur, parse_colour
from ivm.errors import InputError, OptionError
from ivm.geometry import Transform, crop_box
from ivm.images import ImageLike, read_image
from ivm.types import Heatmap, check_threshold

__all__ = [
    "DEFAULT_DARKNESS",
    "DEFAULT_DILATE",
    "DEFAULT_RADIUS",
    "MODES",
    "NOT_FOUND",
    "Rendered",
    "Transform",
    "blend",
    "check_options",
    "parse_colour",
    "render",
    "shrink",
    "soft_mask",
]

MODES: dict[str, str] = {
    "overlay": "lay a colour over the irrelevant area; the paper's plain mode",
    "blur": "blur the irrelevant area, so that its layout stays and its detail goes",
    "grayscale": "take the colour out of the irrelevant area",
    "crop": "cut the picture to the box of the relevant area, and change no pixel",
    "overlay+crop": "overlay, then crop; the best mode in the paper",
    "darken": "dim the irrelevant area, which stays recognisable",
    "transparent": "RGBA: the irrelevant area becomes transparent, with a soft edge",
    "outline": "draw a line around the relevant area, and remove nothing",
    "heatmap": "show the heatmap in colours over the grey picture, for people",
}
"""Every deployment mode, with one sentence on what it does to the picture."""

NOT_FOUND: dict[str, str] = {
    "keep": "return the whole picture as it was",
    "mask": "go on with the heatmap as it is",
    "error": "raise an InputError",
}
"""What `render` can do where the target was not found or the mask is empty; the first is the default."""

DEFAULT_DILATE = 0.05
"""Dilation and feathering reach this share of the picture's height, as in the reference code."""

DEFAULT_RADIUS = 0.1
"""The blur mode's reach, as a share of the picture's height (ours)."""

DEFAULT_DARKNESS = 0.7
"""The darken mode's opacity (ours)."""

_MAX_SIDE = 20_000  # of a result that is to be resized, in pixels
_OUTLINE: Colour = (255, 212, 0)
_MASKED = {"dilate", "feather"}
_CROPPED = {"margin", "min_size", "aspect"}
_OPTIONS: dict[str, set[str]] = {  # what a mode uses besides threshold, longest, not_found and exact
    "overlay": _MASKED | {"colour", "opacity"},
    "blur": _MASKED | {"radius", "opacity"},
    "grayscale": _MASKED | {"opacity"},
    "crop": _MASKED | _CROPPED,
    "overlay+crop": _MASKED | _CROPPED | {"colour", "opacity"},
    "darken": _MASKED | {"opacity"},
    "transparent": _MASKED | {"opacity"},
    "outline": _MASKED | {"colour"},
    "heatmap": {"opacity"},
}


@dataclass(frozen=True, eq=False)
class Rendered:
    """A rendered picture; unpacks as `picture, transform = render(...)`.

    Attributes:
        image: uint8 [H', W', 3] RGB, or [H', W', 4] RGBA for mode "transparent". Never the caller's array.
        transform: maps coordinates on `image` to the original picture.
        kept_whole: nothing was removed, because there was no target to keep (see `render`, `not_found`).
    """

    image: np.ndarray
    transform: Transform
    kept_whole: bool = False

    def __iter__(self) -> Iterator[Any]:
        return iter((self.image, self.transform))


def render(
    image: ImageLike,
    heatmap: Heatmap,
    mode: str = "overlay",
    *,
    threshold: float | None = None,
    dilate: float | None = None,
    feather: float | None = None,
    colour: Colour | None = None,
    opacity: float | None = None,
    radius: float | None = None,
    margin: float | None = None,
    min_size: int | None = None,
    aspect: float | None = None,
    longest: int | None = None,
    not_found: str = "keep",
    exact: bool = False,
) -> Rendered:
    """Remove the irrelevant area of a picture, in the way that `mode` says.

    An option left at None takes the default given below. An option that the mode has no use for is refused.

    Args:
        image: whatever `ivm.images.read_image` takes; never changed.
        heatmap: of the same height and width.
        mode: a key of `MODES`.
        threshold: heatmap values strictly above it are the mask, in [0, 1]; default `heatmap.threshold`.
        dilate: how far the mask is grown, as a share of the picture's HEIGHT, in [0, 1]; default 0.05. The
            kernel is a square of k = 2 * int(dilate * H) + 1 pixels.
        feather: how far its edge is softened, in the same measure; default: as `dilate`. 0 turns it off.
        colour: of "overlay" and "overlay+crop" (default white), and of the line of "outline".
        opacity: how completely the irrelevant area is replaced, in [0, 1]; default 1, for "darken" 0.7. For
            "heatmap", how strongly its colours cover the picture.
        radius: reach of "blur", as a share of the picture's height, in [0, 1]; default 0.1.
        margin: space around a crop, as a share of the longer side of its box, at least 0; default 0.
        min_size: least width and height of a crop in pixels, where the picture has them; default 1.
        aspect: width / height that a crop is grown to, as near as the picture allows; default: left as it is.
        longest: resize the result so that its longer side has this many pixels (a small crop is enlarged);
            default: its size is left alone.
        not_found: what to do where `heatmap.found` is False OR the mask is empty. "keep": return the whole
            picture as it was, and `kept_whole` True (mode "heatmap" removes nothing and is drawn all the
            same). "mask": go on; an empty mask then masks everything, and a plain "crop", which has
            nothing to cut to, keeps the whole picture. "error": raise.
        exact: the reference inference: dilated mask, `cv2.GaussianBlur` with the same k at full resolution,
            image * m + colour * (1 - m) in float32, crop to the box of m > 0; rounded to the nearest byte
            (the reference code leaves floats). "blur" is done at full resolution, too.

    Source: thresholding, dilation, feathering, overlay and crop follow the reference code; blur and grayscale
    follow the paper; the other modes are ours. The reference keeps the whole picture only if the heatmap's
    maximum is below the threshold; at a maximum equal to it, it paints the whole picture. Ours keeps it.

    Raises:
        ImageError: the image cannot be read.
        InputError: heatmap and image differ in size, or `not_found` is "error" and there is no target.
        OptionError: a mode or option is unknown, out of range, or of no use to this mode.
    """
    _check_choice(mode, MODES, "mode")
    _check_choice(not_found, NOT_FOUND, "not_found")
    given = {
        "dilate": dilate,
        "feather": feather,
        "colour": colour,
        "opacity": opacity,
        "radius": radius,
        "margin": margin,
        "min_size": min_size,
        "aspect": aspect,
    }
    for name, value in given.items():
        if value is not None and name not in _OPTIONS[mode]:
            users = ", ".join(key for key, names in _OPTIONS.items() if name in names)
            raise OptionError(f"mode {mode!r} has no use for {name}: it is an option of {users}")
    grow = DEFAULT_DILATE if dilate is None else check_threshold(dilate, "dilate")
    soften = grow if feather is None else check_threshold(feather, "feather")
    fill = parse_colour(colour if colour is not None else _OUTLINE if mode == "outline" else "white")
    strength = DEFAULT_DARKNESS if mode == "darken" else 1.0
    strength = strength if opacity is None else check_threshold(opacity, "opacity")
    softness = DEFAULT_RADIUS if radius is None else check_threshold(radius, "radius")
    frame: dict[str, Any] = {
        "margin": _check_number(0.0 if margin is None else margin, "margin", 0.0, 100.0),
        "min_size": _check_whole(1 if min_size is None else min_size, "min_size"),
        "aspect": None if aspect is None else _check_number(aspect, "aspect", 0.01, 100.0),
    }
    if longest is not None:
        _check_whole(longest, "longest")
    if not isinstance(exact, bool | np.bool_):  # "false" would be true
        raise OptionError(f"exact must be True or False, but got {exact!r}")

    picture = read_image(image)
    if not isinstance(heatmap, Heatmap):
        raise InputError(f"heatmap must be an ivm.Heatmap, but got {type(heatmap).__name__}")
    height, width = picture.shape[:2]
    if heatmap.shape != (height, width):
        raise InputError(
            f"heatmap must be {height}x{width} (height x width) like its image, "
            f"but is {heatmap.shape[0]}x{heatmap.shape[1]}"
        )
    box = heatmap.box(threshold)
    if (box is None or not heatmap.found) and not_found == "error":
        limit = heatmap.threshold if threshold is None else check_threshold(threshold)
        why = (
            f"found is False, score {heatmap.score:.2f}" if not heatmap.found else f"no value above {limit:g}"
        )
        raise InputError(
            f"the target of {heatmap.instruction!r} must be in the image, but is not found ({why}): "
            "pass not_found='keep' to keep the whole image"
        )
    kept_whole = (box is None or not heatmap.found) and not_found == "keep" and mode != "heatmap"
    kept_whole = kept_whole or (mode == "crop" and box is None)
    transform = Transform((width, height), (width, height))
    if kept_whole:
        opaque = np.full((height, width), 255, np.uint8)
        whole = _with_alpha(picture, opaque) if mode == "transparent" else picture.copy()
        return _finish(whole, transform, longest, kept_whole)
    if mode == "heatmap":
        drawn = _draw_heatmap(picture, heatmap, heatmap.to_mask(threshold), strength)
        return _finish(drawn, transform, longest)
    x0, y0, x1, y1 = 0, 0, width, height
    if "crop" in mode and box is not None:
        # A square dilation and a blur reach r pixels each to every side: this is the box of m > 0.
        reach = _pixels(grow, height) + _pixels(soften, height)
        x0, y0, x1, y1 = crop_box(box, width, height, reach=reach, **frame)
        transform = Transform((width, height), (x1 - x0, y1 - y0), (float(x0), float(y0)))
    part = picture[y0:y1, x0:x1]
    if mode == "crop":
        return _finish(part.copy(), transform, longest)
    weights = soft_mask(heatmap, threshold=threshold, dilate=grow, feather=soften, exact=exact)[y0:y1, x0:x1]
    if mode == "outline":
        return _finish(_draw_outline(part, weights >= (0.5 if exact else 128), fill), transform, longest)
    weights = _fade(weights, strength)
    if mode == "transparent":
        return _finish(_with_alpha(part, weights), transform, longest)
    background: np.ndarray | Colour = fill
    if mode == "darken":
        background = (0, 0, 0)
    elif mode == "grayscale":
        background = cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif mode == "blur":
        background = blur(part, _pixels(softness, height), exact)
    return _finish(blend(part, weights, background), transform, longest)


def check_options(mode: str, options: Mapping[str, Any]) -> None:
    """Find a wrong deployment mode or option of `render` before a picture is read.

    Args:
        mode: as in `render`.
        options: keyword arguments of `render`; None is as if not given.

    Raises:
        OptionError: as `render` raises it, or `render` has no such option.
    """
    known = inspect.getfullargspec(render).kwonlyargs
    unknown = [str(name) for name in options if name not in known]
    if unknown:
        raise OptionError(f"options must be among {', '.join(known)}, but got {', '.join(unknown)}")
    given = dict(options)
    if given.get("threshold") is not None:
        check_threshold(given.pop("threshold"))
    if given.get("longest") is not None:
        _check_whole(given.pop("longest"), "longest")  # and not make so large a picture
    # One pixel, which is the target whatever the threshold: `render` checks the rest.
    found = Heatmap(np.ones((1, 1), np.float32), threshold=0.0)
    render(np.zeros((1, 1, 3), np.uint8), found, mode, **given)


def shrink(rendered: Rendered, longest: int) -> Rendered:
    """At most `longest` pixels along the longer side, with the transform of that; never enlarged."""
    if max(rendered.image.shape[:2]) <= longest:
        return rendered
    return _finish(rendered.image, rendered.transform, longest, rendered.kept_whole)


def soft_mask(
    heatmap: Heatmap | np.ndarray,
    *,
    threshold: float | None = None,
    dilate: float = DEFAULT_DILATE,
    feather: float | None = None,
    exact: bool = False,
) -> np.ndarray:
    """How much of each pixel is kept: the thresholded, dilated and feathered mask.

    Args:
        heatmap: a Heatmap, float values [H, W] in [0, 1], or a mask, bool [H, W].
        threshold: as in `render`; default the heatmap's own, 0.5 for an array, none for a mask.
        dilate, feather: as in `render`: shares of H.
        exact: as in `render`.

    Returns:
        uint8 [H, W], 0 removed .. 255 kept, within 1/255 of the exact weights; with `exact` float32 [H, W] in
        [0, 1]. Pixels in the mask are kept entirely wherever `feather` is not greater than `dilate`.

    Raises:
        InputError: the heatmap is not as described.
        OptionError: an option is out of range.
    """
    if isinstance(heatmap, Heatmap):
        mask = heatmap.to_mask(threshold)
    elif isinstance(heatmap, np.ndarray) and heatmap.dtype == np.bool_ and heatmap.ndim == 2 and heatmap.size:
        if threshold is not None:
            raise OptionError("threshold has no use for a mask, which is boolean already")
        mask = np.ascontiguousarray(heatmap)
    elif isinstance(heatmap, np.ndarray) and heatmap.dtype.kind == "f":
        mask = Heatmap(heatmap).to_mask(threshold)
    else:
        array = isinstance(heatmap, np.ndarray)
        kind = f"{heatmap.dtype} {list(heatmap.shape)}" if array else type(heatmap).__name__
        raise InputError(f"heatmap must be a Heatmap, float [H, W] or bool [H, W], but got {kind}")
    height = mask.shape[0]
    grow = _pixels(check_threshold(dilate, "dilate"), height)
    soften = grow if feather is None else _pixels(check_threshold(feather, "feather"), height)
    bytes_HW = mask.view(np.uint8) * np.uint8(255)
    grown: np.ndarray = bytes_HW
    if grow:  # counting what of the mask is in the square takes the same time whatever its size
        square, beyond = (2 * grow + 1, 2 * grow + 1), cv2.BORDER_CONSTANT
        grown = cv2.boxFilter(mask.view(np.uint8), -1, square, normalize=False, borderType=beyond)
        grown = (grown > 0).view(np.uint8) * np.uint8(255)
    if exact:
        ones = (grown != 0).astype(np.float32)
        soft = cv2.GaussianBlur(ones, (2 * soften + 1, 2 * soften + 1), 0) if soften else ones
        return np.minimum(soft, np.float32(1))  # the taps' float sum may pass 1 by its last bit
    soft = blur(grown, soften)
    # The mask's own pixels lie inside by the whole reach of the blur; do not let rounding touch them.
    return cv2.max(soft, bytes_HW) if soften <= grow else soft


def _fade(weights: np.ndarray, opacity: float) -> np.ndarray:
    """Weights of an irrelevant area that is replaced only to the share `opacity`."""
    if opacity == 1.0:
        return weights
    if weights.dtype == np.uint8:
        return cv2.convertScaleAbs(weights, alpha=opacity, beta=255 * (1 - opacity))
    return 1 - np.float32(opacity) * (1 - weights)


def _with_alpha(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    alpha = weights if weights.dtype == np.uint8 else np.rint(weights * 255).astype(np.uint8)
    return cv2.merge((*cv2.split(np.ascontiguousarray(image)), np.ascontiguousarray(alpha)))


def _draw_outline(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A line around `mask`, bool [H, W], with a dark rim that sets it off from any ground."""
    out = np.array(image, order="C")
    line = max(1, round(max(mask.shape) / 250))
    rim = line + 2 * max(1, round(line / 3))
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    contours = [
        cv2.approxPolyDP(contour, 0.6, True) for contour in found
    ]  # no pixel steps, and fewer to draw
    for paint, thickness in (((20, 20, 20), rim), (colour, line)):
        cv2.drawContours(out, contours, -1, paint, thickness, cv2.LINE_AA)
    return out


def _draw_heatmap(image: np.ndarray, heatmap: Heatmap, mask: np.ndarray, opacity: float) -> np.ndarray:
    """The heatmap in colours of even steps of lightness over the grey picture; a line around the mask."""
    values = cv2.convertScaleAbs(heatmap.values, alpha=255)
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    steps = np.arange(256)[:, None]
    cover = opacity * (0.45 + 0.15 * steps / 255)  # the picture is to show through everywhere
    bright = (0.9 * steps).astype(np.uint8)  # the map's last tenth is nearly white and hides a photo
    colours = cv2.applyColorMap(bright, cv2.COLORMAP_INFERNO)[:, :, ::-1] * cover[:, :, None]
    left = cv2.multiply(grey, cv2.LUT(values, np.rint(255 * (1 - cover)).astype(np.uint8)), scale=1 / 255)
    out = cv2.applyColorMap(values, np.rint(colours).astype(np.uint8, order="C"))
    return _draw_outline(cv2.add(out, cv2.merge((left, left, left)), dst=out), mask, (255, 255, 255))


def _finish(
    image: np.ndarray, transform: Transform, longest: int | None, kept_whole: bool = False
) -> Rendered:
    """Resize to `longest`, if wanted."""
    height, width = image.shape[:2]
    if longest is not None and longest != max(height, width):
        ratio = longest / max(height, width)
        size = max(1, round(width * ratio)), max(1, round(height * ratio))
        method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
        image = cv2.resize(np.ascontiguousarray(image), size, interpolation=method)
        transform = transform.resized(*size)
    return Rendered(image, transform, kept_whole)


def _pixels(share: float, height: int) -> int:
    """Half the kernel: a share of the height gives 2 * int(share * H) + 1 pixels (reference code)."""
    return int(share * height)


def _check_choice(value: str, choices: Mapping[str, str], name: str) -> None:
    if not isinstance(value, str) or value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"{name} must be one of {', '.join(choices)}, but got {value!r}{hint}")


def _check_number(value: float, name: str, low: float, high: float) -> float:
    if isinstance(value, int | float | np.number) and low <= value <= high:
        return float(value)
    raise OptionError(f"{name} must be a number from {low:g} to {high:g}, but got {value!r}")


def _check_whole(value: int, name: str) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and 1 <= value <= _MAX_SIDE:
        return int(value)
    raise OptionError(f"{name} must be a whole number of pixels from 1 to {_MAX_SIDE:,}, but got {value!r}")
