"""The boundary for pictures: whatever the caller has becomes uint8 [H, W, 3] RGB, once, here.

Orientation (EXIF), alpha, palettes, 16-bit and CMYK are settled on the way in; size is checked before a
pixel is decoded. Nothing behind this module sees any other layout.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TypeAlias, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ivm.errors import ImageError, OutputError

__all__ = ["MAX_PIXELS", "ImageLike", "read_image", "write_image"]

MAX_PIXELS = 120_000_000
"""Pictures with more pixels are refused before decoding (a 12-megapixel photo has 12 million)."""

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", bytes, Image.Image, np.ndarray]


def read_image(source: ImageLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture as uint8 [H, W, 3] RGB.

    EXIF orientation is applied; alpha is laid over white; palettes, CMYK and grey become RGB; 16-bit and
    float pictures are scaled to 8 bits by their own type's range; of an animation the first frame is taken.

    Args:
        source: path, encoded bytes, PIL image, or array: uint8 [H, W, 3] RGB (returned as it is, without a
            copy), uint8 [H, W] grey or uint8 [H, W, 4] RGBA. The caller's image is never changed.
        max_pixels: refuse larger pictures, in pixels.

    Raises:
        ImageError: the source is missing, unreadable, truncated, empty, too large, or of another type.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pil(source, "the given PIL image", max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        name, stream = f"the given {len(source)} bytes", io.BytesIO(source)
        return _decode(stream, name, max_pixels)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return _decode(file, str(path), max_pixels)
        except OSError as error:
            raise ImageError(f"cannot open image {path}: {error.strerror or error}") from error
        except ValueError as error:  # a NUL in the path; ImageError is a ValueError too and passes
            if isinstance(error, ImageError):
                raise
            raise ImageError(f"cannot open image {str(path)!r}: {error}") from error
    raise ImageError(
        "an image must be a path, bytes, PIL image or uint8 array [H, W, 3], "
        f"but got {type(source).__module__}.{type(source).__qualname__}"
    )


def write_image(image: np.ndarray, path: str | os.PathLike[str], quality: int = 95) -> None:
    """Write uint8 [H, W], [H, W, 3] or [H, W, 4] whole or not at all; the suffix chooses the format.

    Raises:
        OutputError: the suffix is unknown, cannot hold this picture, or the file cannot be written.
    """
    path = Path(path)
    format_ = Image.registered_extensions().get(path.suffix.lower())
    if format_ is None or format_ not in Image.SAVE:
        raise OutputError(f"cannot tell an image format from {path.name!r}: expected .png, .jpg, .webp or the like")
    if image.ndim == 3 and image.shape[2] == 4 and format_ in {"JPEG", "BMP", "PPM"}:
        raise OutputError(f"{path.name}: {format_} cannot hold transparency: write .png or .webp")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            options = {"quality": quality} if format_ in {"JPEG", "WEBP"} else {}
            Image.fromarray(np.ascontiguousarray(image)).save(file, format=format_, **options)
        temporary.replace(path)
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot write {path}: {reason}") from error


def _from_array(array: np.ndarray, max_pixels: int) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"an image array must be uint8 [H, W, 3], but got {array.dtype} {list(array.shape)}"
            + ("; scale it to 0-255 and cast it first" if array.dtype.kind == "f" else "")
        )
    _check_size(array.shape[1], array.shape[0], "the given array", max_pixels)
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    return _from_pil(Image.fromarray(array), "the given array", max_pixels)


def _decode(stream: io.IOBase, name: str, max_pixels: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is checked below
            with Image.open(stream) as image:  # type: ignore[arg-type]
                return _from_pil(image, name, max_pixels)
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not an image that can be read (PNG, JPEG, WebP, ...)") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: at most {max_pixels:,} pixels are read ({error})") from error
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow's decoders raise on bad bytes
        raise ImageError(f"{name} is damaged or truncated: {error}") from error


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> np.ndarray:
    _check_size(image.width, image.height, name, max_pixels)
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N", "F"):
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ImageError(f"{name}: pixels must be finite, but some are NaN or infinite")
        # 16-bit PNG and TIFF fill 0..65535; float pictures are 0..1 by convention, 0..255 if they exceed it.
        top = 65535.0 if image.mode != "F" else (1.0 if values.max() <= 1.0 else 255.0)
        grey = np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(canvas, rgba)
    return np.array(image.convert("RGB"))


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise ImageError(f"{name} must have pixels, but is {width}x{height}")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width}x{height} = {width * height:,} pixels, but at most {max_pixels:,} are read"
        )
