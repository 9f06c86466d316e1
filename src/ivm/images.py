"""The boundary for pictures: whatever the caller has becomes uint8 [H, W, 3] RGB, once, here.

Orientation (EXIF), alpha, palettes, 16-bit and CMYK are settled on the way in; size is checked before a
pixel is decoded. Nothing behind this module sees any other layout.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from ivm.errors import ImageError, OptionError, OutputError
from ivm.files import whole

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "ImageLike", "read_image", "write_image"]

MAX_PIXELS = 120_000_000
"""Pictures with more pixels are refused before decoding (a 12-megapixel photo has 12 million)."""

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .j2k .jfif .jp2 .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .qoi .tif .tiff .webp".split()
)
"""Names with these endings, in any case, are taken for pictures when a folder is searched."""

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Image.Image, np.ndarray]

# Pillow reads many more. Some call programs (EPS: Ghostscript), some accept nearly any bytes, and icon files
# hide a picture of another size than they announce: none of them is a photo that somebody wants masked.
_COMMON = ("JPEG", "PNG", "BMP", "GIF", "PPM")  # these are loaded with Pillow itself
_RARE = ("WEBP", "TIFF", "AVIF", "JPEG2000", "QOI")

_WRITTEN = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}

# What Pillow's decoders raise on bad bytes, beside their own errors: found by changing bytes at random.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    RuntimeError,  # AVIF
    ArithmeticError,  # an orientation of infinity
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: ImageLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture as uint8 [H, W, 3] RGB.

    EXIF orientation is applied; alpha is laid over white; palettes, CMYK and grey become RGB; 16-bit and
    float pictures are scaled to 8 bits by their own type's range; of an animation the first frame is taken.
    A picture whose EXIF block is damaged is read as it lies.

    Args:
        source: path, encoded bytes (JPEG, PNG, WebP, TIFF, GIF, BMP, PPM, AVIF, JPEG 2000 or QOI), PIL image,
            or array: uint8 [H, W, 3] RGB (returned as it is, without a copy), uint8 [H, W] grey or
            uint8 [H, W, 4] RGBA. The caller's image is never changed.
        max_pixels: refuse larger pictures, in pixels. Pillow's own bound (`PIL.Image.MAX_IMAGE_PIXELS`,
            twice) holds beside it.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, or of another type.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _decode(source, "the given PIL image", max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        if not content:
            raise ImageError("an image must have content, but 0 bytes were given")
        return _decode(io.BytesIO(content), f"the given {len(content)} bytes", max_pixels)
    if isinstance(source, str) and source.startswith(("http://", "https://", "data:")):
        raise ImageError(
            f"an image must be a path or bytes, but got the address {source[:60]!r}, and nothing is fetched "
            "unasked: download it first"
        )
    if isinstance(source, str | os.PathLike):
        try:
            file = Path(source).open("rb")  # noqa: SIM115 - opened here, closed below: other errors, other words
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"cannot open image {os.fspath(source)!r}: {reason}") from error
        with file:
            return _decode(file, os.fspath(source), max_pixels)
    raise ImageError(
        "an image must be a path, bytes, PIL image or uint8 array [H, W, 3], "
        f"but got {type(source).__module__}.{type(source).__qualname__}"
    )


def write_image(image: np.ndarray, path: str | os.PathLike[str], quality: int = 95) -> None:
    """Write a picture whole or not at all; the suffix of `path` chooses the format.

    Args:
        image: uint8 [H, W] grey, [H, W, 3] RGB or [H, W, 4] RGBA.
        path: ends in .png, .jpg, .jpeg, .webp, .bmp, .tif or .tiff; an existing file is replaced.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        ImageError: `image` is not such an array, or has no pixels.
        OptionError: the quality is out of range.
        OutputError: the suffix is unknown, cannot hold this picture, or the file cannot be written.
    """
    path = Path(path)
    if not isinstance(image, np.ndarray):  # such as what `render` returns, of which .image is the picture
        raise ImageError(f"a picture to write must be a uint8 array, but got {type(image).__name__}")
    layouts = {2: (0,), 3: (3, 4)}
    if (
        image.dtype != np.uint8
        or (image.shape[2] if image.ndim == 3 else 0) not in layouts.get(image.ndim, ())
        or image.size == 0
    ):
        raise ImageError(
            "a picture to write must be uint8 [H, W], [H, W, 3] or [H, W, 4] with pixels, "
            f"but got {image.dtype} {list(image.shape)}"
        )
    format_ = _WRITTEN.get(path.suffix.lower())
    if format_ is None:
        raise OutputError(
            f"cannot tell an image format from {path.name!r}: it must end in {', '.join(sorted(_WRITTEN))}"
        )
    if image.ndim == 3 and image.shape[2] == 4 and format_ in {"JPEG", "BMP"}:
        raise OutputError(f"{path.name}: {format_} cannot hold transparency: write .png or .webp")
    if not isinstance(quality, int) or not 1 <= quality <= 100:  # Pillow takes 0 for its default
        raise OptionError(f"quality must be a whole number from 1 to 100, but got {quality!r}")
    options: dict[str, int] = {}
    if format_ in {"JPEG", "WEBP"}:
        options["quality"] = quality
    elif format_ == "PNG":
        options["compress_level"] = 3  # a third of the time of Pillow's 6, and about a tenth more bytes
    try:
        with whole(path) as temporary:
            Image.fromarray(np.ascontiguousarray(image)).save(temporary, format=format_, **options)
    except ValueError as error:  # a name that cannot be, a picture that the format cannot hold
        raise OutputError(f"cannot write {str(path)!r}: {error}") from error


def _from_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
    ):
        raise ImageError(
            f"an image array must be uint8 [H, W, 3], but got {array.dtype} {list(array.shape)}"
            + ("; scale it to 0-255 and cast it first" if array.dtype.kind == "f" else "")
        )
    _check_size(array.shape[1], array.shape[0], "the given array", max_pixels)
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    return _from_pil(Image.fromarray(np.ascontiguousarray(array)), "the given array", max_pixels)


def _decode(source: io.IOBase | Image.Image, name: str, max_pixels: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, for which our own bound is checked, and of odd metadata.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            if isinstance(source, Image.Image):
                return _from_pil(source, name, max_pixels)
            with _open(source) as image:
                return _from_pil(image, name, max_pixels)
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image that can be read (JPEG, PNG, WebP, TIFF, GIF, ...)"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: at most {max_pixels:,} pixels are read ({error})") from error
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError(f"{name} is damaged or truncated: {error}") from error


def _open(stream: io.IOBase) -> Image.Image:
    Image.preinit()
    try:
        return Image.open(stream, formats=_COMMON)  # type: ignore[arg-type]
    except UnidentifiedImageError:
        Image.init()  # loads every plugin, for a few milliseconds: only now
        return Image.open(stream, formats=[name for name in _RARE if name in Image.OPEN])  # type: ignore[arg-type]


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> np.ndarray:
    _check_size(image.width, image.height, name, max_pixels)
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(np.asarray(image), image.mode, name)
    try:
        if image.has_transparency_data:
            if image.mode == "La":  # alpha already multiplied in, which Pillow undoes only for grey
                image = image.convert("LA")
            rgba = image.convert("RGBA")
            canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            image = Image.alpha_composite(canvas, rgba)
        return np.array(image.convert("RGB"))
    except ValueError as error:  # "conversion from LAB to RGB not supported"
        raise ImageError(
            f"{name} has colour mode {image.mode}, which cannot be read: save it as RGB"
        ) from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DAMAGE:
        return 1  # as every browser does: the pixels are fine, and only their EXIF block is not


def _from_deep(values: np.ndarray, mode: str, name: str) -> np.ndarray:
    """uint8 [H, W, 3] from one channel of 16 or 32 bits or floats."""
    values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise ImageError(f"{name}: pixels must be finite, but some are NaN or infinite")
    # 16-bit PNG and TIFF fill 0..65535; float pictures are 0..1 by convention, 0..255 if they exceed it.
    top = 65535.0 if mode != "F" else (1.0 if high <= 1.0 else 255.0)
    grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise ImageError(f"{name} must have pixels, but is {width}x{height}")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width}x{height} = {width * height:,} pixels, but at most {max_pixels:,} are read"
        )
