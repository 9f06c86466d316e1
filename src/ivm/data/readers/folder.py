"""A folder of images with a CSV table: the form for data of your own. The format is ours.

    image,instruction,mask,source,human,uuid,kind
    a.jpg,the red cup,a_mask.png,mine,yes,a-1,colour
    b.jpg,what time is it?,,,,,

Only the first two columns are needed. Several rows may name one image; several instructions of one mask are
separated by "|". A mask file is grey: of 0 and one other value it is a mask, else a heatmap by its type's
range.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ivm.data.readers.files import below, check_size, find_file, grey_pixels, load_image, photo_id, short_name
from ivm.data.records import Entry, Record
from ivm.errors import DataError
from ivm.types import Sample

__all__ = ["read_csv"]

_COLUMNS = ("image", "instruction", "mask", "source", "human", "uuid", "kind")
_YES, _NO = ("", "1", "yes", "true", "human"), ("0", "no", "false", "machine")


def read_csv(root: Path, table: str = "") -> Iterator[Entry]:
    """One entry a row.

    Args:
        root: folder into which the table's paths lead.
        table: the CSV file (UTF-8), below `root`; without it, the only *.csv there.

    Raises:
        DataError: the table is missing, or lacks a column, or has one that is not known.
    """
    path = find_file(root, (table,) if table else ("*.csv",), "a table")
    name = short_name(path, root)
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    with file:
        rows = csv.DictReader(file)
        try:
            columns = [column.strip() for column in rows.fieldnames or ()]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is not CSV in UTF-8: {error}") from error
        unknown = [column for column in columns if column not in _COLUMNS]
        if unknown or not {"image", "instruction"} <= set(columns):
            raise DataError(
                f"{path} must have the columns image and instruction, and may have "
                f"{', '.join(_COLUMNS[2:])}, but has {', '.join(columns) or 'none'}"
            )
        rows.fieldnames = columns
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except (UnicodeDecodeError, csv.Error) as error:
                yield Entry.bad(name, rows.line_num, f"the row cannot be read: {error}")
                return  # there is no telling where the next row begins
            yield Entry(name, rows.line_num, partial(_load, row, root, rows.line_num))


def _load(row: dict[str | None, str | None], root: Path, line: int) -> Iterator[Record]:
    if None in row or None in row.values():
        raise DataError("the row must have as many cells as the table has columns")
    cell = {key: (value or "").strip() for key, value in row.items()}
    image, file = load_image(below(root, cell["image"]), root)
    texts = tuple(part for part in cell["instruction"].split("|") if part.strip())
    if not texts:
        raise DataError("the row must have an instruction, but its cell is empty")
    heatmap = None
    if cell.get("mask"):
        heatmap = _as_heatmap(grey_pixels(below(root, cell["mask"]), root))
        check_size(heatmap, image, f"the mask {cell['mask']}")
    human = cell.get("human", "").lower()
    if human not in _YES + _NO:
        raise DataError(f"human must be yes or no, but is {human!r}")
    source = cell.get("source") or root.resolve().name
    sample = Sample(
        cell.get("uuid") or f"{source}-{line}",
        image,
        texts,
        heatmap,
        source,
        human=human in _YES,
        image_id=photo_id(source, Path(cell["image"]).with_suffix("").as_posix().replace("/", "-") + ".x"),
        kind=cell.get("kind", ""),
        provenance={"image": cell["image"], "mask": cell.get("mask", ""), "line": line},
    )
    yield Record(sample, file)


def _as_heatmap(values: np.ndarray) -> np.ndarray:
    found = np.unique(values[values > 0])
    if found.size <= 1:
        return values > 0
    return values.astype(np.float32) / np.float32(255 if values.dtype == np.uint8 else 65535)
