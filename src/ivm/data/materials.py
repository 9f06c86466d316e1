"""What collages are made of: photos as grounds, cut-outs with alpha, and things cut from masked photos."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from ivm.data.cutouts import Cutout, read_cutouts
from ivm.data.packs import Pack, Photo, Region, read_pack, split_of
from ivm.data.photo_scenes import region_masks
from ivm.data.words import everyday, is_plural, is_stuff, nouns_for, synonyms_of
from ivm.errors import DataError

__all__ = ["Cut", "Materials", "nouns_looked_for", "read_materials"]

_PATCH = 128  # longest side of a stored cut-out, pixels
_PATCH_BYTES, _GROUND_BYTES = 208 * 2**20, 96 * 2**20  # of decoded pictures that are kept
_MAX_CUTS = 2000  # things cut from photos: few enough to stay decoded


class _Cache:
    """Decoded pictures, the least recently used dropped first; bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.entries: OrderedDict[Any, tuple[int, Any]] = OrderedDict()

    def get(self, key: Any, make: Callable[[], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        if key in self.entries:
            self.entries.move_to_end(key)
            return self.entries[key][1]
        value = make()
        self.entries[key] = (sum(array.nbytes for array in value), value)
        self.used += self.entries[key][0]
        while self.used > self.limit and len(self.entries) > 1:
            self.used -= self.entries.popitem(last=False)[1][0]
        return value


@dataclass(frozen=True)
class Cut:
    """A thing to be cut from a photo, called `name`."""

    photo: Photo
    region: Region
    name: str


@dataclass
class Materials:
    """What collages are made of; keeps decoded pictures, at most 304 MiB of them.

    Attributes:
        photos: grounds.
        vocabularies: pack name -> nouns that its annotators looked for (`nouns_looked_for`).
        cutouts: spoken name -> cut-outs with alpha.
        cuts: spoken name -> things of photos.
    """

    photos: tuple[Photo, ...]
    vocabularies: dict[str, frozenset[str]]
    cutouts: dict[str, tuple[Cutout, ...]]
    cuts: dict[str, tuple[Cut, ...]]
    _patches: _Cache = field(default_factory=lambda: _Cache(_PATCH_BYTES), repr=False)
    _grounds: _Cache = field(default_factory=lambda: _Cache(_GROUND_BYTES), repr=False)

    def ground(self, photo: Photo, size: int) -> tuple[np.ndarray, np.ndarray]:
        """A photo with its shorter side `size`, uint8 [H, W, 3], and its masks, uint8 [K, H, W], 0 or 1."""

        def make() -> tuple[np.ndarray, np.ndarray]:
            image = photo.image()
            scale = size / min(image.shape[:2])
            shape = (max(size, round(image.shape[0] * scale)), max(size, round(image.shape[1] * scale)))
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, shape[::-1], interpolation=way))
            flat = np.array(region_masks(photo, shape), np.uint8).reshape(
                len(photo.regions), shape[0] * shape[1]
            )
            return image, np.packbits(flat, axis=1)  # masks take an eighth so

        image, packed = self._grounds.get((photo.image_id, size), make)
        height, width = image.shape[:2]
        return image, np.unpackbits(packed, axis=1, count=height * width).reshape(-1, height, width)

    def patch(self, item: Cutout | Cut) -> np.ndarray:
        """uint8 [H, W, 4], colours premultiplied by alpha, longest side at most 128 pixels."""
        if isinstance(item, Cutout):
            return self._patches.get(item.path, lambda: (_premultiplied(item.rgba(_PATCH)),))[0]
        key = (item.photo.image_id, item.region.annotation_id)
        return self._patches.get(key, lambda: (_premultiplied(_cut_out(item)),))[0]

    @cached_property
    def unseen_unlabelled(self) -> frozenset[str]:
        """Nouns of what can be pasted, of which photos hardly ever hold an unlabelled one."""
        rare = (name for name in self.names() if not everyday(name))
        nouns = {noun for name in rare for noun in (name, *nouns_for(name))}
        return frozenset(noun for noun in nouns if not everyday(noun))

    def names(self) -> tuple[str, ...]:
        """Every name that can be pasted, sorted."""
        return tuple(sorted(self.cutouts.keys() | self.cuts.keys()))

    def __getstate__(self) -> dict[str, Any]:  # a worker process starts with an empty cache
        return {**self.__dict__, "_patches": _Cache(_PATCH_BYTES), "_grounds": _Cache(_GROUND_BYTES)}


def read_materials(
    photos: Sequence[str | os.PathLike[str]] = (),
    cutouts: Sequence[str | os.PathLike[str]] = (),
    split: str | None = "train",
) -> Materials:
    """Read folders of masked photos (grounds, and things to cut) and of cut-outs.

    Args:
        photos: folders for `ivm.data.packs.read_pack`; without any, grounds are procedural patterns.
        cutouts: folders for `ivm.data.cutouts.read_cutouts`.
        split: "train", "val" or "test", by file name; None for everything.

    Raises:
        DataError: a folder is missing or malformed, or two of photos have one name, which pictures go by.
    """
    homes: dict[str, Path] = {}
    for home in map(Path, photos):
        if homes.setdefault(home.name, home.resolve()) != home.resolve():
            raise DataError(f"folders of photos must have different names, but two are called {home.name!r}")
    packs = [read_pack(folder) for folder in photos]
    grounds = tuple(
        photo
        for pack in packs
        for photo in pack.photos
        if split is None or split_of(photo.pack, photo.file_name) == split
    )
    by_name: dict[str, list[Cutout]] = {}
    for folder in cutouts:
        for cutout in read_cutouts(folder, split):
            by_name.setdefault(cutout.name, []).append(cutout)
    cuts: dict[str, list[Cut]] = {}
    worthy = [
        (photo, region) for photo in grounds for region in photo.regions if _worth_cutting(photo, region)
    ]
    for photo, region in worthy[:: max(1, -(-len(worthy) // _MAX_CUTS))]:  # evenly spread
        cuts.setdefault(region.name, []).append(Cut(photo, region, region.name))
    return Materials(
        grounds,
        {pack.name: nouns_looked_for(pack) for pack in packs},
        {name: tuple(items) for name, items in sorted(by_name.items())},
        {name: tuple(items) for name, items in sorted(cuts.items())},
    )


def nouns_looked_for(pack: Pack) -> frozenset[str]:
    """Nouns of which no photo of the pack holds an unlabelled thing: names, synonyms, well-covered groups.

    Some may be unsought in a photo: `ivm.data.photo_scenes.nouns_sought` gives those that hold for it.
    """
    nouns = set(pack.names)
    groups: dict[str, int] = {}
    for name in pack.names:
        nouns.update(synonyms_of(name))
        for noun in nouns_for(name):
            groups[noun] = groups.get(noun, 0) + 1
    return frozenset(nouns | {noun for noun, count in groups.items() if count >= 4})


def _worth_cutting(photo: Photo, region: Region) -> bool:
    if is_stuff(region.name) or is_plural(region.name):
        return False
    x, y, w, h = coco_mask.toBbox(region.rle)
    share = float(coco_mask.area(region.rle)) / (photo.width * photo.height)
    whole = x > 2 and y > 2 and x + w < photo.width - 2 and y + h < photo.height - 2
    return bool(whole and 0.015 < share < 0.5 and min(w, h) >= 28)


def _premultiplied(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[:, :, 3:].astype(np.uint16)
    colours = (rgba[:, :, :3] * alpha + 127) // 255
    return np.ascontiguousarray(np.dstack([colours.astype(np.uint8), rgba[:, :, 3]]))


def _cut_out(item: Cut) -> np.ndarray:
    """uint8 [H, W, 4]: the largest connected part of a region, its edge drawn in by a pixel and made soft."""
    mask = item.region.mask().astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    part = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h = (int(v) for v in stats[part, : cv2.CC_STAT_AREA])
    image = item.photo.image()[y : y + h, x : x + w]
    solid = (labels[y : y + h, x : x + w] == part).astype(np.uint8)
    # The outermost ring of a mask by hand is mixed with what was behind the thing.
    solid = np.asarray(cv2.erode(np.pad(solid, 1), np.ones((3, 3), np.uint8)))[1:-1, 1:-1]
    alpha = cv2.GaussianBlur(solid * 255, (3, 3), 0)
    rgba = np.dstack([image, alpha])
    scale = _PATCH / max(h, w)
    if scale < 1:
        size = (max(4, round(w * scale)), max(4, round(h * scale)))
        rgba = np.asarray(cv2.resize(rgba, size, interpolation=cv2.INTER_AREA))
    return np.ascontiguousarray(rgba)
