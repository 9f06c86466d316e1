"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO: several sentences for one object, or for several, or for none.

Publisher's description: https://github.com/lichengunc/refer (refer.py) and, for gRefCOCO,
https://github.com/henghuiding/gRefCOCO (mdetr/scripts/fine-tuning/grefexp_coco_format.py). Photos are COCO's
train2014. A pickle is read without running anything in it. Not verified: the JSON form of refs(...).p, taken
to have the same fields.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

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
from ivm.errors import DataError, OptionError
from ivm.types import Sample

__all__ = ["load_plain_pickle", "read_refer"]

_ALLOWED = {(module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset")}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return {"set": set, "frozenset": frozenset}[name]
        raise DataError(
            f"it holds an object of the class {module}.{name}, and only lists, dicts, sets, texts and "
            "numbers are read from a pickle: get the file from its publisher"
        )


def load_plain_pickle(file: BinaryIO) -> Any:
    """The content of a pickle of containers, texts, numbers and None; anything else is refused, never run.

    Raises:
        DataError: it names a class, or is damaged.
    """
    try:
        # Python 2 wrote the published files; its texts are bytes.
        return _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise DataError(f"it is no pickle, or a damaged one: {error!r}") from error


def read_refer(
    root: Path, refs: str = "", instances: str = "instances.json", images: str = "", split: str = ""
) -> Iterator[Entry]:
    """One entry a reference, with all its sentences.

    Args:
        root: folder of one data set: refcoco/, refcoco+/, refcocog/ or grefcoco/; its name is the source.
        refs: refs(unc).p, refs(umd).p, grefs(unc).json, ..., below `root`; without it, the only one there.
        instances: COCO instances file, below `root`.
        images: folder of COCO's train2014 photos; without it, images/, train2014/, or those beside `root` as
            refer has them (../images/mscoco/images/train2014).
        split: "train", "val", "testA", "testB" or "test"; without it, all.

    Raises:
        DataError: a file is missing or malformed; the pickle names a class.
        OptionError: no reference is of the split.
    """
    path = find_file(root, (refs,) if refs else ("refs(*).p", "refs(*).json", "grefs(*).json"), "references")
    file = find_file(root, (instances,), "COCO's instances")
    usual = ("images", "train2014", "../images/mscoco/images/train2014", "../train2014")
    folder = Path(images) if images else find_file(root, usual, "COCO's train2014 photos")
    content, source = read_json(file), root.resolve().name
    try:
        photos = {get(image, "id", int): image for image in get(content, "images", list)}
        masks = {get(one, "id", int): one for one in get(content, "annotations", list)}
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    listed = short_name(path, root)
    references = _references(path)
    splits = sorted({str(ref.get("split")) for ref in references if isinstance(ref, dict)})
    if split and split not in splits:
        raise OptionError(f"split must be one of {', '.join(splits) or '(none)'}, but got {split!r}")
    for number, ref in enumerate(references):
        if split and isinstance(ref, dict) and ref.get("split") != split:
            continue
        label = f"ref {ref.get('ref_id', number)}" if isinstance(ref, dict) else f"item {number}"
        yield Entry(listed, label, partial(_load, ref, photos, masks, folder, source))


def _references(path: Path) -> list[Any]:
    if path.suffix == ".json":
        content = read_json(path)
    else:
        try:
            with path.open("rb") as file:
                content = load_plain_pickle(file)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of references, but holds {type(content).__name__}")
    return content


def _load(
    ref: Any, photos: Mapping[int, Any], masks: Mapping[int, Any], folder: Path, source: str
) -> Iterator[Record]:
    ref_id, image_id = get(ref, "ref_id", int), get(ref, "image_id", int)
    texts = [get(one, "sent", str) for one in get(ref, "sentences", list)]
    if image_id not in photos:
        raise DataError(f"refers to an unknown image {image_id}")
    photo = photos[image_id]
    height, width = declared_size(photo)
    given = get(ref, "ann_id", (int, list))
    ids = [one for one in (given if isinstance(given, list) else [given]) if one != -1]  # -1: no target
    mask = np.zeros((height, width), bool)
    for number in ids:
        if number not in masks:
            raise DataError(f"refers to an unknown annotation {number}")
        mask |= segmentation_mask(get(masks[number], "segmentation", (list, dict)), height, width)
    file_name = get(photo, "file_name", str)
    image, file = load_image(below(folder, file_name), folder)
    if image.shape[:2] != (height, width):
        raise DataError(f"{file_name} must be {width}x{height}, but is {image.shape[1]}x{image.shape[0]}")
    sample = Sample(
        f"{source}-{ref_id}",
        image,
        tuple(dict.fromkeys(texts)),
        mask,
        source,
        image_id=photo_id("coco", file_name),
        kind="absent" if not ids else "expression",
        provenance={"image": file_name, "annotations": ids, "split": get(ref, "split", str, "")},
    )
    yield Record(sample, file)
