"""Open Images: boxes and instance masks; one sample a photo and class, its target all of that class.

Publisher's description: https://storage.googleapis.com/openimages/web/download_v7.html (boxes with ImageID,
LabelName, XMin, XMax, YMin, YMax in [0, 1]; masks with MaskPath, ImageID, LabelName, BoxID, ...;
class descriptions: LabelName, DisplayName).
Not verified: whether a header stands above the class descriptions (either is read), and whether masks have
their photo's size (another size of the same shape is scaled).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np

from ivm.data.readers.files import below, boxes_mask, find_file, grey_pixels, load_image, photo_id, short_name
from ivm.data.records import Entry, Record
from ivm.errors import DataError, InputError
from ivm.types import Sample

__all__ = ["read_open_images"]

_BOXES = ("XMin", "YMin", "XMax", "YMax")
_ASPECT = 0.02  # sides may differ by rounding, not by shape


def read_open_images(
    root: Path, annotations: str = "", classes: str = "", images: str = "", masks: str = ""
) -> Iterator[Entry]:
    """One entry a photo.

    The rows of the whole table are held in memory, about 0.5 kB each: use one split at a time.

    Args:
        root: folder of the tables and the photos.
        annotations: table of boxes (*annotations-bbox.csv) or of masks (*object-segmentation.csv), below
            `root`; without it, the only one there. Its columns tell which it is.
        classes: table of names; without it, the only *class-descriptions*.csv.
        images: folder of the photos; without it, images/ or `root`.
        masks: folder of the mask files, which may lie in folders by their first sign; without it, masks/.

    Raises:
        DataError: a table is missing, is no CSV in UTF-8, or lacks a column.
    """
    usual = ("*annotations-bbox.csv", "*object-segmentation.csv")
    path = find_file(root, (annotations,) if annotations else usual, "annotations")
    names = _names(find_file(root, (classes,) if classes else ("*class-descriptions*.csv",), "class names"))
    folder = below(root, images) if images else find_file(root, ("images", "."), "photos")
    home = below(root, masks) if masks else root / "masks"
    groups: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    for line, row in _rows(path):
        groups[row["ImageID"]].append((line, row))
    for image, rows in groups.items():
        load = partial(_load, image, rows, names, folder, home, root)
        yield Entry(short_name(path, root), rows[0][0], load)


@contextmanager
def _table(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not CSV in UTF-8: {error}") from error


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with _table(path) as file:
        rows = csv.DictReader(file)
        columns = set(rows.fieldnames or ())
        if not {"ImageID", "LabelName"} <= columns or not ({"MaskPath"} <= columns or set(_BOXES) <= columns):
            raise DataError(
                f"{path} must have the columns ImageID, LabelName and either MaskPath or "
                f"{', '.join(_BOXES)}, but has {', '.join(sorted(columns)) or 'none'}"
            )
        for row in rows:
            yield rows.line_num, {key: value or "" for key, value in row.items() if key is not None}


def _names(path: Path) -> dict[str, str]:
    with _table(path) as file:
        return {row[0]: row[1].lower() for row in csv.reader(file) if len(row) >= 2}


def _load(
    image: str,
    rows: list[tuple[int, dict[str, str]]],
    names: Mapping[str, str],
    folder: Path,
    home: Path,
    root: Path,
) -> Iterator[Record | DataError]:
    pixels, file = load_image(below(folder, f"{image}.jpg"), root)
    height, width = pixels.shape[:2]
    by_class: dict[str, np.ndarray] = {}
    damaged: set[str] = set()
    for line, row in rows:
        label = row["LabelName"]
        try:
            if label not in names:
                raise DataError(f"the class {label!r} has no name")
            if "MaskPath" in row:
                mask = _mask(row["MaskPath"], home, root, height, width)
            else:
                x0, y0, x1, y1 = (float(row[key]) for key in _BOXES)
                mask = boxes_mask([(x0 * width, y0 * height, x1 * width, y1 * height)], height, width)
        except (DataError, ValueError) as error:
            damaged.add(label)
            yield DataError(f"line {line}: {error}")
            continue
        by_class[label] = by_class[label] | mask if label in by_class else mask
    for label, mask in by_class.items():
        if label in damaged:
            yield DataError(f"{names[label]!r} is left out: one of its rows is wrong")
            continue
        try:
            sample = Sample(
                f"open-images-{image}-{label.strip('/').replace('/', '_')}",
                pixels,
                (names[label],),
                mask,
                "open-images",
                image_id=photo_id("open-images", image + ".jpg"),
                kind="category",
                targets=(names[label],),
                provenance={"image": image, "shape": "mask" if "MaskPath" in rows[0][1] else "box"},
            )
        except InputError as error:
            yield DataError(str(error))
        else:
            yield Record(sample, file)


def _mask(name: str, home: Path, root: Path, height: int, width: int) -> np.ndarray:
    paths = [below(home, name), below(home, f"{name[:1]}/{name}"), below(home, f"{name[:1].upper()}/{name}")]
    values = grey_pixels(next((path for path in paths if path.exists()), paths[0]), root)
    if values.shape != (height, width):
        if abs(values.shape[1] / values.shape[0] / (width / height) - 1) > _ASPECT:
            raise DataError(
                f"the mask {name} is {values.shape[1]}x{values.shape[0]}, but its image {width}x{height}"
            )
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(values > 0)
