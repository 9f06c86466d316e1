"""COCO: instances and panoptic segmentations; one sample a photo and category, its target all of that name.

Publisher's description: https://cocodataset.org/#format-data (object detection, panoptic segmentation); files
from https://cocodataset.org/#download.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ivm.data.packs import clean_name
from ivm.data.readers.files import (
    below,
    declared_size,
    find_file,
    load_image,
    photo_id,
    segmentation_mask,
    short_name,
)
from ivm.data.records import Entry, Record, get, read_json
from ivm.errors import DataError, InputError
from ivm.types import Sample

__all__ = ["read_coco", "read_coco_panoptic"]


def read_coco(root: Path, annotations: str = "", images: str = "", source: str = "coco") -> Iterator[Entry]:
    """One entry a photo, one sample a category that is in it.

    Args:
        root: folder of the annotations and the photos.
        annotations: instances file, below `root`; without it, annotations.json or the only
            annotations/instances_*.json.
        images: folder of the photos; without it, images/, or the split in the annotations' name (train2017/).
        source: name of the data set in the samples.

    Raises:
        DataError: the file is missing or is no COCO instances file.
    """
    file, content, folder = _open(root, annotations, images, "instances_*.json")
    names, groups = _categories(content, file), defaultdict(list)
    listed = short_name(file, root)
    known = {_key(image, "id") for image in _list(content, "images", file)} - {None}
    for annotation in _list(content, "annotations", file):
        key = _key(annotation, "image_id")
        if key in known:
            groups[key].append(annotation)
        else:
            told = annotation.get("id") if isinstance(annotation, dict) else annotation
            image = annotation.get("image_id") if isinstance(annotation, dict) else None
            yield Entry.bad(listed, f"annotation {told}", f"refers to an unknown image {image}")
    for image in content["images"]:
        load = partial(_load_instances, image, groups.get(_key(image, "id"), []), names, folder, root, source)
        yield Entry(listed, f"image {image.get('id') if isinstance(image, dict) else image}", load)


def read_coco_panoptic(
    root: Path, annotations: str = "", images: str = "", segments: str = "", source: str = "coco"
) -> Iterator[Entry]:
    """One entry a photo, one sample a category of thing or stuff.

    Args:
        root: folder of the annotations and the photos.
        annotations: panoptic file, below `root`; without it, the only annotations/panoptic_*.json.
        images: folder of the photos; without it, the split in the annotations' name (train2017/).
        segments: folder of the PNG files; without it, the annotations' own name without .json.
        source: name of the data set in the samples.

    Raises:
        DataError: the file is missing or is no COCO panoptic file.
    """
    file, content, folder = _open(root, annotations, images, "panoptic_*.json")
    home = below(root, segments) if segments else file.with_suffix("")
    names, listed = _categories(content, file), short_name(file, root)
    photos = {_key(image, "id"): image for image in _list(content, "images", file)}
    photos.pop(None, None)
    for annotation in _list(content, "annotations", file):
        key = _key(annotation, "image_id")
        load = partial(_load_segments, annotation, photos.get(key), names, folder, home, root, source)
        yield Entry(listed, f"image {key}", load)


def _key(record: Any, name: str) -> int | str | None:
    """`record[name]` if it can identify a picture, else None."""
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, int | str) else None


def _open(root: Path, annotations: str, images: str, pattern: str) -> tuple[Path, dict[str, Any], Path]:
    choices = (annotations,) if annotations else ("annotations.json", f"annotations/{pattern}", pattern)
    file = find_file(root, choices, "annotations")
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file} must be an object with images, annotations and categories")
    split = file.stem.rpartition("_")[2]
    folder = below(root, images) if images else find_file(root, ("images", split), "photos")
    return file, content, folder


def _list(content: Mapping[str, Any], key: str, file: Path) -> list[Any]:
    try:
        return get(content, key, list)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _categories(content: Mapping[str, Any], file: Path) -> dict[int, str]:
    try:
        return {
            get(category, "id", int): clean_name(get(category, "name", str))
            for category in _list(content, "categories", file)
        }
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _load_instances(
    image: Any,
    annotations: list[dict[str, Any]],
    names: Mapping[int, str],
    folder: Path,
    root: Path,
    source: str,
) -> Iterator[Record | DataError]:
    height, width = declared_size(image)
    masks: dict[str, list[np.ndarray]] = defaultdict(list)
    ids: dict[str, list[Any]] = defaultdict(list)
    damaged: set[str] = set()
    for annotation in annotations:
        name = ""
        try:
            category = get(annotation, "category_id", int)
            if category not in names:
                raise DataError(f"refers to an unknown category {category}")
            name = names[category]
            mask = segmentation_mask(get(annotation, "segmentation", (list, dict)), height, width)
        except DataError as error:
            damaged.add(name)  # without it, "the dogs" would be some of the dogs
            yield DataError(f"annotation {annotation.get('id')}: {error}")
            continue
        masks[name].append(mask)
        ids[name].append(annotation.get("id"))
    yield from _records(image, masks, ids, damaged, folder, root, source)


def _records(
    image: Any,
    masks: Mapping[str, list[np.ndarray]],
    ids: Mapping[str, list[Any]],
    damaged: set[str],
    folder: Path,
    root: Path,
    source: str,
) -> Iterator[Record | DataError]:
    if not masks:
        return
    file_name = get(image, "file_name", str)
    height, width = declared_size(image)
    pixels, file = load_image(below(folder, file_name), root)
    if pixels.shape[:2] != (height, width):
        raise DataError(
            f"the annotations say {width}x{height}, but {file_name} is {pixels.shape[1]}x{pixels.shape[0]}"
        )
    for name in sorted(masks):
        if name in damaged:
            yield DataError(f"{name!r} is left out: one of its masks is wrong")
            continue
        try:
            sample = Sample(
                f"{source}-{image['id']}-{name.replace(' ', '_')}",
                pixels,
                (name,),
                np.logical_or.reduce(masks[name]),
                source,
                image_id=photo_id(source, file_name),
                kind="category",
                targets=(name,),
                provenance={"image": file_name, "annotations": ids[name]},
            )
        except InputError as error:
            yield DataError(str(error))
        else:
            yield Record(sample, file)


def _load_segments(
    annotation: Any,
    image: Any,
    names: Mapping[int, str],
    folder: Path,
    home: Path,
    root: Path,
    source: str,
) -> Iterator[Record | DataError]:
    if image is None:
        raise DataError("refers to an unknown image")
    height, width = declared_size(image)
    path = below(home, get(annotation, "file_name", str))
    try:
        with Image.open(path) as png:
            if png.size != (width, height):
                raise DataError(f"the segments are {png.width}x{png.height}, but the image {width}x{height}")
            rgb = np.array(png.convert("RGB"), np.int32)
    except FileNotFoundError as error:
        raise DataError(f"the segments {short_name(path, root)} are missing") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the segments {short_name(path, root)} are damaged: {error}") from error
    numbers = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 65536 * rgb[:, :, 2]
    masks: dict[str, list[np.ndarray]] = defaultdict(list)
    ids: dict[str, list[Any]] = defaultdict(list)
    damaged: set[str] = set()
    for segment in get(annotation, "segments_info", list):
        number, category = get(segment, "id", int), get(segment, "category_id", int)
        name = names.get(category, "")
        mask = numbers == number
        if not name or not mask.any():
            damaged.add(name)
            reason = "has no pixels in the PNG" if name else f"refers to an unknown category {category}"
            yield DataError(f"segment {number} {reason}")
            continue
        masks[name].append(mask)
        ids[name].append(number)
    yield from _records(image, masks, ids, damaged, folder, root, source)
