"""What readers share: files below a root, pictures, and masks from polygons, run lengths and boxes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ivm.data.records import get
from ivm.errors import DataError, ImageError, OptionError
from ivm.images import IMAGE_SUFFIXES, MAX_PIXELS, read_image

__all__ = [
    "below",
    "boxes_mask",
    "check_size",
    "declared_size",
    "find_file",
    "fingerprint",
    "grey_pixels",
    "load_image",
    "mixed_photo_id",
    "photo_id",
    "polygons_mask",
    "runs_of",
    "segmentation_mask",
    "short_name",
]

# Data sets that annotate the photos of another one, under its file names.
_PHOTOS_OF = {
    "gqa": "vg",
    "visual-genome": "vg",
    "phrasecut": "vg",
    "textvqa": "openimages",
    "open-images": "openimages",
}
_TABLES = frozenset(".csv .json .jsonl .p .tsv .txt .xml".split())  # read whole for a fingerprint
_LARGE = IMAGE_SUFFIXES | frozenset(".avi .mkv .mov .mp4 .parquet .webm".split())  # name and size must do
_FAR = 100_000  # pixels: COCO's code takes memory by a polygon's length, and ends the process without it
_COCO_NUMBER = re.compile(r"(?:^|_)(\d{12})$")


def below(root: Path, name: str) -> Path:
    """`root / name`, where `name` comes from an annotation file and must not lead out of `root`.

    Raises:
        DataError: it leads out, or no file can have this name.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"a file must lie in {root.name}, but its name is {name!r}")
    try:
        if any(len(part.encode()) > 255 for part in path.parts):
            raise DataError(f"no file has so long a name: {name[:40]!r}...")
    except UnicodeEncodeError as error:  # half a surrogate pair, as JSON may hold
        raise DataError(f"no file has the name {name!r}: it is no valid text") from error
    return root / path


def find_file(root: Path, names: Iterable[str], what: str) -> Path:
    """The first of `names` that exists below `root`; a name may hold wildcards, and then must match one file.

    Raises:
        DataError: none exists, or one matches several files; the message tells what was looked for.
    """
    tried = []
    for name in names:
        tried.append(name)
        found = sorted(root.glob(name)) if any(c in name for c in "*?[") else [root / name]
        found = [path for path in found if path.exists()]
        if len(found) > 1:
            listed = ", ".join(path.name for path in found[:5])
            raise DataError(f"{root} has several files for {what} ({listed}): name the one you mean")
        if found:
            return found[0]
    raise DataError(f"{root} must hold {what}, but has none of: {', '.join(tried)}")


def fingerprint(
    root: Path, leave_out: Path | None = None, kinds: frozenset[str] = _TABLES | _LARGE
) -> dict[str, Any]:
    """What tells the content of a source from another's, or from its own after a change, in plain JSON.

    Of tables and annotation files the bytes count, of pictures, films and Parquet name and size. Hidden
    files, stores of ours and files of other kinds do not count.

    Args:
        root: folder of the source.
        leave_out: folder below it that does not count, such as what is being made of it.
        kinds: endings of the names that count, in lower case.

    Raises:
        OptionError: `leave_out` is the source itself: nothing would count.
    """
    if leave_out is not None and leave_out.resolve() == root.resolve():
        raise OptionError(f"output must be another folder than the source, but both are {root}")
    digest, files, size = hashlib.sha256(), 0, 0
    entered = set()
    for folder, folders, names in os.walk(root, followlinks=True):  # photos are often linked from elsewhere
        place = Path(folder).resolve()
        if place in entered or "shard-000000.tar" in names or (leave_out and place == leave_out.resolve()):
            folders.clear()
            continue
        entered.add(place)
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            suffix = path.suffix.lower()
            if name.startswith(".") or suffix not in kinds:
                continue
            length, content = 0, ""
            try:
                length = path.stat().st_size
                if suffix in _TABLES:
                    with path.open("rb") as file:
                        content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                content = "unreadable"  # told by the reader, if it needs the file
            digest.update(f"{short_name(path, root)}\0{length}\0{content}\n".encode(errors="surrogateescape"))
            files, size = files + 1, size + length
    return {"files": files, "bytes": size, "sha256": digest.hexdigest()}


def load_image(path: Path, root: Path) -> tuple[np.ndarray, bytes]:
    """(uint8 [H, W, 3], the file's bytes); the message of an error names the path below `root`.

    Raises:
        DataError: the file is missing or damaged.
    """
    name = short_name(path, root)
    try:
        content = path.read_bytes()
        return read_image(content), content
    except FileNotFoundError as error:
        raise DataError(f"the image {name} is missing") from error
    except OSError as error:
        raise DataError(f"the image {name} cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        reason = re.sub(r"^the given \d+ bytes ", "", str(error))
        raise DataError(f"the image {name} {reason}") from error


def short_name(path: Path, root: Path) -> str:
    """The path below `root`, so that shards do not depend on where a source is mounted."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def photo_id(source: str, name: str) -> str:
    """The `image_id` of a picture: the same for the same photo in whatever data set it comes.

    "COCO_train2014_000000000009.jpg" and "train2017/000000000009.jpg" are both "coco/000000000009"; GQA and
    PhraseCut have photos of Visual Genome, TextVQA of Open Images.
    """
    source = source.removeprefix("ivm-mix/")
    stem = Path(name).stem
    number = _COCO_NUMBER.search(stem)
    return f"coco/{number[1]}" if number else f"{_PHOTOS_OF.get(source, source)}/{stem}"


def mixed_photo_id(source: str, name: str) -> str:
    """The same in a mixture of data sets, whose names begin with a data set's folder.

    "gqa/images/24.jpg" and "vg/VG_100K/24.jpg" are both "vg/24". Of other folders all are kept: two of them
    may number their pictures alike.
    """
    folders = Path(name).parts[:-1]
    if folders and folders[0] in {*_PHOTOS_OF, *_PHOTOS_OF.values(), "flickr30k"}:
        return photo_id(folders[0], name)
    if _COCO_NUMBER.search(Path(name).stem):
        return photo_id(source, name)
    return f"{source}/{Path(name).with_suffix('').as_posix()}"


def grey_pixels(path: Path, root: Path) -> np.ndarray:
    """uint8 or uint16 [H, W] of a mask's file, as it lies.

    Raises:
        DataError: the file is missing, damaged, too large or has no pixels of 8 or 16 bits.
    """
    name = short_name(path, root)
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"the mask {name} is too large: {image.width}x{image.height}")
            if image.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
                values = np.array(image.convert("L"))
            else:
                values = np.array(image)
    except FileNotFoundError as error:
        raise DataError(f"the mask {name} is missing") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the mask {name} is damaged: {error}") from error
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.ndim != 2 or values.dtype not in (np.uint8, np.uint16, np.int32):
        raise DataError(f"the mask {name} must be grey, but is {values.dtype} {list(values.shape)}")
    if values.dtype == np.int32:  # Pillow's name for some 16-bit PNG
        values = values.clip(0, 65535).astype(np.uint16)
    return values


def check_size(mask_HW: np.ndarray, image: np.ndarray, what: str) -> None:
    """Raise DataError unless the mask has the image's size."""
    if mask_HW.shape != image.shape[:2]:
        raise DataError(
            f"{what} must be {image.shape[1]}x{image.shape[0]} like its image, "
            f"but is {mask_HW.shape[1]}x{mask_HW.shape[0]}"
        )


def declared_size(image: Any) -> tuple[int, int]:
    """(height, width) that an annotation file gives of an image, within what may be decoded.

    Raises:
        DataError: one is no whole number, is not positive, or there are too many pixels.
    """
    height, width = get(image, "height", int), get(image, "width", int)
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(f"an image must have 1 to {MAX_PIXELS:,} pixels, but is said to be {width}x{height}")
    return height, width


def segmentation_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """bool [H, W] from a COCO segmentation: polygons, run lengths, or compressed run lengths.

    Raises:
        DataError: it is malformed, not finite, or of another size.
    """
    from pycocotools import mask as coco_mask

    try:
        if isinstance(segmentation, list):
            parts = [[float(value) for value in part] for part in segmentation]
            if not parts or any(len(part) < 6 or len(part) % 2 for part in parts):
                raise DataError("a polygon must have three or more points")
            if not all(np.isfinite(part).all() for part in parts):
                raise DataError("a polygon must have finite points, but has NaN or infinity")
            if max(abs(value) for part in parts for value in part) > _FAR:
                raise DataError(f"a polygon must lie at its {width}x{height} image, but goes far beyond it")
            runs = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
        else:
            if list(segmentation["size"]) != [height, width]:
                raise DataError(
                    f"a mask must be {[height, width]} like its image, but is {segmentation['size']}"
                )
            counts = segmentation["counts"]
            if isinstance(counts, list):
                if sum(counts) != height * width or min(counts, default=0) < 0:
                    raise DataError("the run lengths of a mask must add up to its pixels")
                runs = coco_mask.frPyObjects(segmentation, height, width)
            else:
                raw = counts.encode("ascii") if isinstance(counts, str) else counts
                runs = {"size": [height, width], "counts": raw}
                # The decoder writes as many pixels as the runs say: check them before it does.
                if not raw or int(np.sum(runs_of(raw))) != height * width:
                    raise DataError("the run lengths of a mask must add up to its pixels")
        return coco_mask.decode(runs).astype(bool)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"the mask cannot be decoded: {error!r}") from error


def runs_of(counts: bytes) -> list[int]:
    """The run lengths in COCO's compressed form: six bits a character, differences from the third run on."""
    runs: list[int] = []
    position = 0
    while position < len(counts):
        value = shift = 0
        more = True
        while more:
            char = counts[position] - 48
            value |= (char & 0x1F) << (5 * shift)
            more = bool(char & 0x20)
            position, shift = position + 1, shift + 1
            if not more and char & 0x10:
                value |= -1 << (5 * shift)
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            raise ValueError("a run is negative")
        runs.append(value)
    return runs


def polygons_mask(polygons: Sequence[Sequence[Sequence[float]]], height: int, width: int) -> np.ndarray:
    """bool [H, W]: the union of filled polygons, each a list of [x, y]; the outline belongs to it.

    Raises:
        DataError: a polygon is malformed or not finite.
    """
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:
        try:
            points = np.array(polygon, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"a polygon must be a list of [x, y]: {error}") from error
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise DataError(f"a polygon must be a list of finite [x, y], but has shape {list(points.shape)}")
        whole = np.clip(points, -32768, 32767).astype(np.int32)
        cv2.polylines(mask, [whole], isClosed=True, color=1, thickness=1)
        cv2.fillPoly(mask, [whole], 1)
    return mask.astype(bool)


def boxes_mask(boxes: Iterable[Sequence[float]], height: int, width: int) -> np.ndarray:
    """bool [H, W]: the union of boxes (x0, y0, x1, y1), right and bottom exclusive, rounded outwards.

    Raises:
        DataError: a box is not finite, is empty, or lies outside the image.
    """
    mask = np.zeros((height, width), bool)
    for box in boxes:
        values = np.array(box, np.float64)
        if values.shape != (4,) or not np.isfinite(values).all():
            raise DataError(f"a box must be four finite numbers, but is {list(box)}")
        x0, y0 = (max(0, int(np.floor(value))) for value in values[:2])
        x1, y1 = int(np.ceil(values[2])), int(np.ceil(values[3]))
        if x1 <= x0 or y1 <= y0 or x0 >= width or y0 >= height:
            raise DataError(
                f"a box must lie in its {width}x{height} image, but is {[float(v) for v in values]}"
            )
        mask[y0:y1, x0:x1] = True
    return mask
