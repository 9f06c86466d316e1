"""Photos with masks in COCO-format folders: `annotations.json` beside `images/`.

One reader for training pictures and for evaluation, so that both mean the same by a name and a split.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ivm.data.readers.files import below, runs_of
from ivm.data.records import get
from ivm.errors import DataError, ImageError
from ivm.images import read_image

__all__ = [
    "SPLITS",
    "Pack",
    "Photo",
    "Region",
    "clean_name",
    "data_folder",
    "read_pack",
    "split_of",
]

SPLITS = ("train", "val", "test")

# COCO's panoptic names are made for machines; these are what people say.
_SPOKEN = {
    "wall-brick": "brick wall",
    "wall-stone": "stone wall",
    "wall-tile": "tiled wall",
    "wall-wood": "wooden wall",
    "floor-wood": "wooden floor",
    "window-blind": "window blind",
    "playingfield": "playing field",
    "tv": "television",
    "tvmonitor": "television",
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "intimate": "underwear",
    "mouse": "computer mouse",
}


@dataclass(frozen=True)
class Region:
    """One annotated mask of a photo.

    Attributes:
        name: spoken name, such as "brick wall".
        rle: COCO compressed run-length encoding, counts as bytes.
        instance: True if the mask is one object; False if it covers all of its class in the photo.
        annotation_id: the id in annotations.json; without one, the annotation's place there, from 0.
    """

    name: str
    rle: dict[str, Any]
    instance: bool
    annotation_id: int

    def mask(self) -> np.ndarray:
        """bool [H, W].

        Raises:
            DataError: the run-length encoding cannot be decoded.
        """
        from pycocotools import mask as coco_mask

        try:
            # The decoder leaves what the runs do not reach as the memory was.
            if _pixels(self.rle["counts"]) != self.rle["size"][0] * self.rle["size"][1]:
                raise ValueError("its run lengths must add up to its pixels")
            mask = coco_mask.decode(self.rle)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(
                f"annotation {self.annotation_id}: the mask cannot be decoded: {error}"
            ) from error
        return mask.astype(bool)


@dataclass(frozen=True)
class Photo:
    """One photo of a pack with its regions; pixels are read on demand.

    `unsought`: names of the pack that were not looked for in this photo (`read_pack`), sorted: such things
    may be there without a region.
    """

    pack: str
    file_name: str
    path: Path
    width: int
    height: int
    regions: tuple[Region, ...]
    unsought: tuple[str, ...] = ()

    @property
    def image_id(self) -> str:
        """Unique over all packs; splits and intervals go by it."""
        return f"{self.pack}/{self.file_name}"

    def image(self) -> np.ndarray:
        """uint8 [H, W, 3].

        Raises:
            DataError: the file is missing, damaged, or not of the annotated size.
        """
        try:
            image = read_image(self.path)
        except ImageError as error:
            raise DataError(f"pack {self.pack}: {error}") from error
        if image.shape[:2] != (self.height, self.width):
            raise DataError(
                f"{self.path}: annotations.json says {self.width}x{self.height}, "
                f"but the file is {image.shape[1]}x{image.shape[0]}"
            )
        return image


@dataclass(frozen=True)
class Pack:
    """A folder of photos.

    Attributes:
        name: the folder's name.
        names: every spoken name that its annotators looked for, sorted; a name without a region in a photo
            is absent from that photo, unless the photo has it in `unsought`.
        photos: in the order of annotations.json.
    """

    name: str
    names: tuple[str, ...]
    photos: tuple[Photo, ...]

    def split(self, split: str) -> Iterator[Photo]:
        """The photos of "train", "val" or "test"."""
        return (photo for photo in self.photos if split_of(photo.pack, photo.file_name) == split)


def clean_name(raw: str) -> str:
    """The spoken form of a category's name: "sky-other-merged" -> "sky"."""
    name = raw.strip().lower()
    if name in _SPOKEN:
        return _SPOKEN[name]
    for suffix in ("-merged", "-other", "-stuff"):
        name = name.removesuffix(suffix)
    return name.replace("_", " ").replace("-", " ") if name != "t-shirt" else name


def split_of(pack: str, file_name: str) -> str:
    """ "test" (15 %), "val" (3 %) or "train" for a photo; the same on every machine and for ever."""
    bucket = int.from_bytes(hashlib.sha256(f"{pack}/{file_name}".encode()).digest()[:4], "big") % 100
    return "test" if bucket < 15 else "val" if bucket < 18 else "train"


def data_folder() -> Path | None:
    """The folder of packs that the environment variable IVM_DATA names; None if it is unset or absent."""
    value = os.environ.get("IVM_DATA")
    return Path(value) if value and Path(value).is_dir() else None


def read_pack(folder: str | os.PathLike[str]) -> Pack:
    """Read a COCO-format folder: `annotations.json` (compressed RLE or polygons) and `images/`.

    Things with `isthing` 1 in a pack that has several regions of one class in a photo are instances; in a
    pack with one region a class, regions are classes.

    A pack may mix panoptic photos, all of whose scenery (`isthing` 0) is annotated, with photos of which only
    the things are: a photo without any scenery is taken for one of these, and scenery for unsought in it.

    Raises:
        DataError: annotations.json is missing, malformed, or refers to an unknown image or category; the
            message names the annotation.
    """
    folder = Path(folder)
    file = folder / "annotations.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{folder} must hold annotations.json and images/: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}") from error
    try:
        names = {category["id"]: clean_name(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        annotations = content["annotations"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{file} must have images, annotations and categories: missing {error}") from error

    by_image: dict[Any, list[Region]] = {}
    pairs: set[tuple[Any, str]] = set()
    things: set[str] = set()
    scenery: set[str] = set()
    has_instances = False
    for place, annotation in enumerate(annotations):
        number = annotation.get("id", place) if isinstance(annotation, dict) else annotation
        try:
            image, name = images[annotation["image_id"]], names[annotation["category_id"]]
            rle = _to_rle(annotation["segmentation"], image["height"], image["width"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(f"{file}: annotation {number} is malformed: {error!r}") from error
        if list(rle["size"]) != [image["height"], image["width"]]:
            raise DataError(
                f"{file}: annotation {number} has a mask of {rle['size']}, "
                f"but its image is {[image['height'], image['width']]}"
            )
        is_thing = bool(annotation.get("isthing", 1))
        (things if is_thing else scenery).add(name)
        instance = is_thing and not annotation.get("iscrowd", 0)
        pair = (annotation["image_id"], name)
        has_instances = has_instances or (instance and pair in pairs)
        pairs.add(pair)
        by_image.setdefault(annotation["image_id"], []).append(Region(name, rle, instance, number))

    scenery -= things
    photos = []
    for key, image in images.items():
        regions = tuple(
            region
            if has_instances or not region.instance
            else Region(region.name, region.rle, False, region.annotation_id)
            for region in by_image.get(key, ())
        )
        unsought = () if any(region.name in scenery for region in regions) else tuple(sorted(scenery))
        try:
            name, width, height = (get(image, key, kind) for key, kind in _OF_IMAGES)
            path = below(folder / "images", name)
        except DataError as error:
            raise DataError(f"{file}: image {key}: {error}") from error
        photos.append(Photo(folder.name, name, path, width, height, regions, unsought))
    return Pack(folder.name, tuple(sorted(set(names.values()))), tuple(photos))


_OF_IMAGES = (("file_name", str), ("width", int), ("height", int))


@lru_cache(maxsize=2**16)  # masks are decoded again and again
def _pixels(counts: bytes) -> int:
    """How many pixels the runs of a compressed encoding cover."""
    return sum(runs_of(counts))


def _to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):  # polygons
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    counts = segmentation["counts"]
    if isinstance(counts, list):  # uncompressed
        return coco_mask.frPyObjects(segmentation, height, width)
    return {
        "size": segmentation["size"],
        "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
    }
