"""Phrases and questions with polygons: PhraseCut and ReasonSeg.

Publisher's descriptions: https://github.com/ChenyunWu/PhraseCutDataset (README, "Annotation data
structure") and https://github.com/dvlab-research/LISA (README, and utils/data_processing.py for ReasonSeg).
PhraseCut has photos of Visual Genome. Polygons are filled by OpenCV, their outlines included, as
ReasonSeg's own code does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ivm.data.readers.files import below, find_file, load_image, photo_id, polygons_mask, short_name
from ivm.data.records import Entry, Record, get, read_json
from ivm.errors import DataError
from ivm.types import Sample

__all__ = ["read_phrasecut", "read_reasonseg"]


def read_phrasecut(root: Path, split: str = "", images: str = "images") -> Iterator[Entry]:
    """One entry a phrase; its target is every region that the phrase describes.

    Args:
        root: VGPhraseCut_v0/, with refer_{split}.json and images/.
        split: "train", "val", "test" or "miniv"; without it, the only one there.
        images: folder of the photos, below `root`.

    Raises:
        DataError: the file is missing or malformed.
    """
    path = find_file(root, (f"refer_{split or '*'}.json",), "phrases")
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of tasks, but holds {type(content).__name__}")
    folder = below(root, images)
    for number, task in enumerate(content):
        label = f"task {task.get('task_id', number)}" if isinstance(task, dict) else f"item {number}"
        yield Entry(short_name(path, root), label, partial(_load_phrase, task, folder, root, path.stem))


def _load_phrase(task: Any, folder: Path, root: Path, listed: str) -> Iterator[Record]:
    parts = get(task, "Polygons", list)
    if not all(isinstance(one, list) for one in parts):
        raise DataError("'Polygons' must hold lists of polygons")
    polygons = [polygon for one in parts for polygon in one]
    if not polygons:
        raise DataError("a phrase must have polygons, but has none")
    name = f"{get(task, 'image_id', int)}.jpg"
    image, file = load_image(folder / name, root)
    structure = get(task, "phrase_structure", dict, {})
    sample = Sample(
        f"phrasecut-{get(task, 'task_id', str)}",
        image,
        (get(task, "phrase", str),),
        polygons_mask(polygons, *image.shape[:2]),
        "phrasecut",
        image_id=photo_id("phrasecut", name),
        kind=f"phrase, {structure['type']}" if isinstance(structure.get("type"), str) else "phrase",
        targets=(structure["name"],) if isinstance(structure.get("name"), str) else (),
        provenance={"image": name, "file": listed, "regions": len(get(task, "Polygons", list))},
    )
    yield Record(sample, file)


def read_reasonseg(root: Path, split: str = "") -> Iterator[Entry]:
    """One entry a photo: {name}.jpg beside {name}.json with instructions and shapes.

    Shapes labelled "ignore" are for evaluation; here they are not relevant, and the share of the photo that
    they take is in the provenance as "ignored".

    Args:
        root: ReasonSeg/ with train/, val/ or test/, or one of these.
        split: folder below `root`; without it, `root` itself.

    Raises:
        DataError: there is no such folder, or no annotation in it.
    """
    folder = below(root, split) if split else root
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not paths:
        raise DataError(f"{folder} must hold {{name}}.json beside {{name}}.jpg, but has none: name the split")
    for path in paths:
        yield Entry(short_name(path, root), "its shapes", partial(_load_reason, path, root))


def _load_reason(path: Path, root: Path) -> Iterator[Record]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # some files are, says the publisher's code
    try:
        item = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the file is not JSON: {error}") from error
    image, file = load_image(path.with_suffix(".jpg"), root)
    given = get(item, "text", (list, str))
    texts = [given] if isinstance(given, str) else given
    if not texts or not all(isinstance(one, str) for one in texts):
        raise DataError(f"'text' must be a list of instructions, but is {str(given)[:60]!r}")
    shapes = []
    for shape in get(item, "shapes", list):
        label = get(shape, "label", str).lower()
        if label != "flag":  # left over from annotation, says the publisher's code
            mask = polygons_mask([get(shape, "points", list)], *image.shape[:2])
            shapes.append((int(mask.sum()), "ignore" in label, mask))
    shapes.sort(key=lambda one: -one[0])  # a smaller shape lies over a larger
    values = np.zeros(image.shape[:2], np.uint8)
    for _, ignored, mask in shapes:
        values[mask] = 2 if ignored else 1
    sample = Sample(
        f"reasonseg-{path.stem}",
        image,
        tuple(dict.fromkeys(texts)),
        values == 1,
        "reasonseg",
        image_id=photo_id("reasonseg", path.name),
        kind="reasoning" if get(item, "is_sentence", (bool, int), True) else "phrase",
        provenance={"image": path.stem + ".jpg", "ignored": float((values == 2).mean())},
    )
    yield Record(sample, file)
