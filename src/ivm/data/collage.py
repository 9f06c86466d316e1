"""Collages: cut-outs and things cut from masked photos, pasted on photos; and masked photos as scenes.

Every collage is a function of (seed, index): the same on any machine and any number of processes.
Method (ours, in the manner of "Cut, Paste and Learn", Dwibedi et al., ICCV 2017): scale, place, match light
and sharpness to the ground, blend by soft alpha, keep the order of pasting for the masks.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ivm.data.colours import colour_of
from ivm.data.cutouts import Cutout, read_cutouts
from ivm.data.packs import Pack, Photo, Region, read_pack, split_of
from ivm.data.relations import picture_relations, size_words
from ivm.data.scene import Scene, Thing
from ivm.data.words import SYNONYMS, affordances_of, is_plural, is_stuff, nouns_for
from ivm.errors import DataError, OptionError

__all__ = ["Materials", "collage_scene", "photo_scene", "read_materials"]

_PATCH = 128  # longest side of a stored cut-out, pixels
_CACHE_BYTES = 320 * 2**20
_MAX_INSTANCES = 2000
_VISIBLE = 0.45  # share of a pasted thing that later ones leave visible
_TAG = 0x636F6C  # keeps these random numbers apart from those of other users of the same seed

# Common in photos, and often there without a label: not pasted on photos whose annotators did not look for them.
_EVERYDAY = frozenset(
    """person man woman boy girl child baby tree house building window door mountain cloud sun moon car truck chair couch sofa
    table bed rock shoe shoes boot boots sandal hat cap shirt t-shirt jeans dress coat shorts socks gloves scarf
    eyeglasses sunglasses handbag purse backpack bag book books bottle flower plant leaf wheel light lamp clock watch
    cup glass bowl plate picture frame mirror television computer laptop keyboard cell phone blouse skirt necktie tie
    ring sign flag fence ladder bench basket box ball food animal vehicle piece of clothing fir tree palm tree shell
    potted plant picture frame cup of coffee package suitcase bucket stack of banknotes square triangle circle
    sheet of paper grass speaker lantern wood feather wave fire""".replace("\n", " ").split(" ")
) | {
    "picture frame",
    "cell phone",
    "piece of clothing",
    "potted plant",
    "palm tree",
    "fir tree",
    "sheet of paper",
}
# These keep their own colour; everything else may be painted any colour.
_UNCOLOURED = frozenset({"person", "skin", "smiley"})
_NATURAL = frozenset({"animal", "food", "fruit", "vegetable", "plant", "flower", "tree", "person", "drink"})


class _Cache:
    """Decoded pictures, the least recently used dropped first; bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.entries: OrderedDict[Any, tuple[int, Any]] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        if key in self.entries:
            self.entries.move_to_end(key)
            return self.entries[key][1]
        value = make()
        self.entries[key] = (size(value), value)
        self.used += self.entries[key][0]
        while self.used > self.limit and len(self.entries) > 1:
            self.used -= self.entries.popitem(last=False)[1][0]
        return value


@dataclass(frozen=True)
class _Cut:
    """A thing to be cut from a photo."""

    photo: Photo
    region: Region
    name: str


@dataclass
class Materials:
    """What collages are made of; holds a bounded cache of decoded pictures (at most `_CACHE_BYTES`).

    Attributes:
        photos: grounds.
        vocabularies: pack name -> nouns its annotators looked for.
        cutouts: spoken name -> cut-outs with alpha.
        cuts: spoken name -> things of photos.
    """

    photos: tuple[Photo, ...]
    vocabularies: dict[str, frozenset[str]]
    cutouts: dict[str, tuple[Cutout, ...]]
    cuts: dict[str, tuple[_Cut, ...]]
    _cache: _Cache = field(default_factory=lambda: _Cache(_CACHE_BYTES), repr=False)

    def __getstate__(self) -> dict[str, Any]:  # a worker process starts with an empty cache
        return {**self.__dict__, "_cache": _Cache(_CACHE_BYTES)}


def read_materials(
    photos: Sequence[str | os.PathLike[str]] = (),
    cutouts: Sequence[str | os.PathLike[str]] = (),
    split: str | None = "train",
) -> Materials:
    """Read folders of masked photos (grounds and things to cut) and of cut-outs.

    Args:
        photos: folders for `ivm.data.packs.read_pack`; without any, grounds are procedural patterns.
        cutouts: folders for `ivm.data.cutouts.read_cutouts`.
        split: "train", "val" or "test", by file name; None for everything.

    Raises:
        DataError: a folder is missing or malformed, or there is nothing to paste.
    """
    packs = [read_pack(folder) for folder in photos]
    grounds = tuple(
        p for pack in packs for p in pack.photos if split is None or split_of(p.pack, p.file_name) == split
    )
    by_name: dict[str, list[Cutout]] = {}
    for folder in cutouts:
        for cutout in read_cutouts(folder, split):
            by_name.setdefault(cutout.name, []).append(cutout)
    cuts: dict[str, list[_Cut]] = {}
    candidates = [
        (photo, region) for photo in grounds for region in photo.regions if _worth_cutting(photo, region)
    ]
    # A bounded, evenly spread choice: every one of these stays decoded.
    for photo, region in candidates[:: max(1, -(-len(candidates) // _MAX_INSTANCES))]:
        cuts.setdefault(region.name, []).append(_Cut(photo, region, region.name))
    if not by_name and not cuts:
        raise DataError(
            "collages need something to paste: name at least one folder of cut-outs or of masked photos"
        )
    return Materials(
        grounds,
        {pack.name: _looked_for(pack) for pack in packs},
        {name: tuple(items) for name, items in sorted(by_name.items())},
        {name: tuple(items) for name, items in sorted(cuts.items())},
    )


def _looked_for(pack: Pack) -> frozenset[str]:
    """Nouns of which a photo of the pack holds no unlabelled thing: names, synonyms, and well-covered groups."""
    nouns = set(pack.names)
    groups: dict[str, int] = {}
    for name in pack.names:
        nouns.update(SYNONYMS.get(name, ()))
        for noun in nouns_for(name):
            groups[noun] = groups.get(noun, 0) + 1
    return frozenset(nouns | {noun for noun, count in groups.items() if count >= 4})


def _worth_cutting(photo: Photo, region: Region) -> bool:
    from pycocotools import mask as coco_mask

    if is_stuff(region.name) or is_plural(region.name):
        return False
    x, y, w, h = coco_mask.toBbox(region.rle)
    share = float(coco_mask.area(region.rle)) / (photo.width * photo.height)
    inside = x > 2 and y > 2 and x + w < photo.width - 2 and y + h < photo.height - 2
    return 0.015 < share < 0.5 and min(w, h) >= 28 and inside


def _masks(photo: Photo, shape: tuple[int, int]) -> list[np.ndarray]:
    masks = [region.mask().astype(np.uint8) for region in photo.regions]
    if (photo.height, photo.width) != shape:
        masks = [cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    return masks


def photo_scene(photo: Photo, vocabulary: frozenset[str] | None, shortest: int | None = None) -> Scene:
    """A masked photo as a scene.

    Args:
        photo: of a pack.
        vocabulary: the nouns its annotators looked for (`Materials.vocabularies`).
        shortest: shrink until the shorter side has this many pixels; None keeps the size.

    Raises:
        DataError: the file or a mask is damaged.
    """
    image = photo.image()
    if shortest and shortest < min(image.shape[:2]):
        scale = shortest / min(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    masks = [mask.astype(bool) for mask in _masks(photo, image.shape[:2])]
    things = _region_things(image, photo.regions, masks)
    relations = picture_relations(things, image.shape[:2])
    return Scene(image, things, relations, "photo", vocabulary, {"photo": photo.image_id})


def _region_things(
    image: np.ndarray, regions: Sequence[Region], masks: Sequence[np.ndarray]
) -> tuple[Thing, ...]:
    kept = [(region, mask) for region, mask in zip(regions, masks, strict=True) if mask.any()]
    sizes = size_words(
        [region.name if region.instance else f"{region.name} {i}" for i, (region, _) in enumerate(kept)],
        [int(np.count_nonzero(mask)) for _, mask in kept],
    )
    return tuple(
        _named(region.name, mask, image, size, region.instance)
        for (region, mask), size in zip(kept, sizes, strict=True)
    )


def _named(name: str, mask: np.ndarray, image: np.ndarray, size: str | None, instance: bool = True) -> Thing:
    bare = Thing(name, mask)
    x0, y0, x1, y1 = bare.box
    stuff = is_stuff(name)
    # People and skin are not told apart by colour.
    colour = None
    if name not in _UNCOLOURED and "person" not in nouns_for(name):
        colour = colour_of(image[y0:y1, x0:x1], mask[y0:y1, x0:x1], most=160)
    thing = Thing(
        name,
        mask,
        colour,
        size=size,
        synonyms=nouns_for(name),
        affordances=affordances_of(name) if instance else frozenset(),
        is_thing=not stuff,
        instance=instance and not stuff,
    )
    thing.__dict__["box"] = bare.box  # both are functions of the mask alone
    return thing


def collage_scene(materials: Materials, seed: int, index: int, size: int = 256) -> Scene:
    """The collage `index` of `seed`: a square picture with one to nine pasted things.

    Args:
        materials: from `read_materials`.
        seed: at least 0.
        index: at least 0.
        size: side in pixels, 64 to 1024.

    Returns:
        A scene of view "collage". Things of the ground that its annotators named come first, then the pasted
        ones in the order of pasting. Its vocabulary is None on a procedural ground.

    Raises:
        OptionError: seed, index or size is out of range.
        DataError: a file of the materials is damaged.
    """
    if seed < 0 or index < 0:
        raise OptionError(f"seed and index must be at least 0, but got {seed} and {index}")
    if not 64 <= size <= 1024:
        raise OptionError(f"the size of a collage must be 64 to 1024 pixels, but got {size}")
    rng = np.random.default_rng([_TAG, seed, index])
    if materials.photos and rng.random() < 0.85:
        photo = materials.photos[int(rng.integers(len(materials.photos)))]
        canvas, regions, masks = _ground(materials, photo, size, rng)
        known = materials.vocabularies[photo.pack]
    else:
        canvas, regions, masks, known = _pattern(size, rng), (), [], None
    sharpness = _sharpness(canvas)
    pasted: list[tuple[str, np.ndarray, int]] = []  # name, visible mask, full area
    occlusions: list[tuple[int, int]] = []
    for name, patch, side, spot in _plan(materials, known, size, rng):
        _paste(canvas, masks, pasted, occlusions, name, patch, side, spot, sharpness, rng)

    areas = [int(np.count_nonzero(mask)) for mask in masks] + [int(np.count_nonzero(m)) for _, m, _ in pasted]
    names = [r.name if r.instance else f"{r.name} {i}" for i, r in enumerate(regions)] + [
        n for n, _, _ in pasted
    ]
    sizes = size_words(names, areas)
    things: list[Thing] = []
    for region, mask, area, word in zip(regions, masks, areas, sizes, strict=False):
        if area:
            things.append(_named(region.name, mask.view(bool), canvas, word, region.instance))
    first = len(things)
    for (name, mask, _), word in zip(pasted, sizes[len(regions) :], strict=True):
        things.append(_named(name, mask.view(bool), canvas, word))
    occluded = [(front + first, back + first) for front, back in occlusions]
    relations = picture_relations(things, canvas.shape[:2], occluded)
    vocabulary = None
    if known is not None:
        rest = (materials.cutouts.keys() | materials.cuts.keys()) - _EVERYDAY
        vocabulary = (
            known | rest | {noun for name in rest for noun in nouns_for(name) if noun not in _EVERYDAY}
        )
    provenance = {"seed": seed, "index": index, "size": size}
    return Scene(canvas, tuple(things), relations, "collage", vocabulary, provenance)


def _ground(
    materials: Materials, photo: Photo, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[Region, ...], list[np.ndarray]]:
    """A square crop of a photo, its regions, and their masks as uint8 0/1."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        image = photo.image()
        scale = size / min(image.shape[:2])
        side = (max(size, round(image.shape[1] * scale)), max(size, round(image.shape[0] * scale)))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, side, interpolation=way)
        masks = _masks(photo, image.shape[:2])
        flat = np.array(masks, np.uint8).reshape(len(masks), image.shape[0] * image.shape[1])
        return image, np.packbits(flat, axis=1)

    image, packed = materials._cache.get(
        (photo.image_id, size), make, lambda value: value[0].nbytes + value[1].nbytes
    )
    height, width = image.shape[:2]
    crop = int(size * rng.uniform(0.75, 1.0))
    x, y = int(rng.integers(width - crop + 1)), int(rng.integers(height - crop + 1))
    flip = rng.random() < 0.5

    def cut(picture: np.ndarray, way: int) -> np.ndarray:
        part = cv2.resize(picture[y : y + crop, x : x + crop], (size, size), interpolation=way)
        return cv2.flip(part, 1) if flip else part

    masks = np.unpackbits(packed, axis=1, count=height * width).reshape(-1, height, width)
    return (
        cut(image, cv2.INTER_LINEAR).copy(),
        photo.regions,
        [cut(mask, cv2.INTER_NEAREST) for mask in masks],
    )


def _pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """A ground without any photo: plain, a ramp, checks, stripes or blotches in two colours, with some grain."""
    one, two = rng.integers(30, 236, (2, 3)).astype(np.float32)
    if rng.random() < 0.6:
        two = one + rng.uniform(-50, 50, 3).astype(np.float32)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    kind = rng.integers(5)
    if kind == 0:
        mix = np.zeros_like(x)
    elif kind == 1:
        mix = (along - along.min()) / np.ptp(along)
    elif kind == 2:
        cells = rng.integers(3, 9)
        mix = ((np.floor(x * cells) + np.floor(y * cells)) % 2).astype(np.float32)
    elif kind == 3:
        mix = (np.sin(along * rng.uniform(15, 60)) > 0).astype(np.float32)
    else:
        coarse = rng.random((int(rng.integers(3, 24)),) * 2).astype(np.float32)
        mix = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    canvas = one + (two - one) * mix[:, :, None]
    canvas += cv2.resize(
        rng.normal(0, rng.uniform(0, 8), (size // 2, size // 2, 3)).astype(np.float32), (size, size)
    )
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _plan(
    materials: Materials, known: frozenset[str] | None, size: int, rng: np.random.Generator
) -> list[tuple[str, np.ndarray, int, tuple[float, float] | None]]:
    """What is pasted, in order: name, RGBA patch, longest side in pixels, centre (as shares) or None for anywhere."""
    tables: list[dict[str, Any]] = [table for table in (materials.cutouts, materials.cuts) if table]

    def choose() -> tuple[str, tuple[Any, ...]]:
        for _ in range(40):
            table = tables[0] if len(tables) == 1 or rng.random() < 0.7 else tables[1]
            name = list(table)[int(rng.integers(len(table)))]
            if known is None or name in known or name not in _EVERYDAY:
                break
        return name, table[name]

    groups: list[tuple[str, tuple[Any, ...], int]] = []
    draw = rng.random()
    if draw < 0.6:  # several of one name, so that colour, size, position or order must decide
        name, items = choose()
        groups.append((name, items, int(rng.integers(2, 6))))
        if draw < 0.15:
            name, items = choose()
            groups.append((name, items, int(rng.integers(2, 4))))
    for _ in range(int(rng.integers(1, 5)) if groups else int(rng.integers(2, 7))):
        name, items = choose()
        groups.append((name, items, 1))

    count = sum(number for _, _, number in groups)
    row = rng.random() < 0.25
    spots: list[tuple[float, float] | None] = [None] * count
    if row:
        level, lean = rng.uniform(0.3, 0.75), rng.uniform(-0.15, 0.15)
        order = rng.permutation(count)
        spots = [
            ((k + 0.5) / count + rng.normal(0, 0.02), level + lean * (k / count - 0.5) + rng.normal(0, 0.03))
            for k in order
        ]
    base = size * float(rng.uniform(0.16, 0.36)) * (min(1.0, 3.2 / count) if row else 1.0)
    planned = []
    for name, items, number in groups:
        same_file = rng.random() < 0.5
        mixed = rng.random() < 0.5
        ratio = float(rng.uniform(1.5, 2.0))
        pick = int(rng.integers(len(items)))
        paint = _may_be_painted(name) and rng.random() < (0.75 if number > 1 else 0.3)
        for _ in range(number):
            item = items[pick if same_file else int(rng.integers(len(items)))]
            patch = _patch(materials, item)
            if paint:
                patch = _painted(patch, rng)
            side = base * (ratio if mixed and rng.random() < 0.5 else 1.0) * float(rng.uniform(0.9, 1.1))
            if number == 1:
                side = base * float(np.exp(rng.normal(0, 0.3)))
            planned.append((name, patch, int(np.clip(side, 0.1 * size, 0.6 * size))))
    if not row:
        planned = [planned[k] for k in rng.permutation(len(planned))]
    return [(*item, spot) for item, spot in zip(planned, spots, strict=True)]


def _may_be_painted(name: str) -> bool:
    nouns = {name, *nouns_for(name)}
    return not nouns & _NATURAL and name not in ("smiley", "smiley cat", "globe", "sun", "moon", "fire")


def _patch(materials: Materials, item: Cutout | _Cut) -> np.ndarray:
    if isinstance(item, Cutout):
        return materials._cache.get(item.path, lambda: item.rgba(_PATCH), lambda value: value.nbytes)
    key = (item.photo.image_id, item.region.annotation_id)
    return materials._cache.get(key, lambda: _cut_out(item), lambda value: value.nbytes)


def _cut_out(item: _Cut) -> np.ndarray:
    """uint8 [H, W, 4]: the largest connected part of a region, its edge drawn in by a pixel and made soft."""
    mask = item.region.mask().astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    part = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, w, h = (int(v) for v in stats[part, : cv2.CC_STAT_AREA])
    image = item.photo.image()[y : y + h, x : x + w]
    solid = (labels[y : y + h, x : x + w] == part).astype(np.uint8)
    solid = cv2.erode(np.pad(solid, 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    alpha = cv2.GaussianBlur(solid * 255, (3, 3), 0)
    rgba = np.dstack([image, alpha])
    scale = _PATCH / max(h, w)
    if scale < 1:
        rgba = cv2.resize(
            rgba, (max(4, round(w * scale)), max(4, round(h * scale))), interpolation=cv2.INTER_AREA
        )
    return np.ascontiguousarray(rgba)


def _painted(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same thing in another colour: hue turned; sometimes drained of colour, then darker or lighter."""
    hsv = cv2.cvtColor(np.ascontiguousarray(patch[:, :, :3]), cv2.COLOR_RGB2HSV)
    kind = rng.random()
    if kind < 0.75:
        hsv[:, :, 0] = (hsv[:, :, 0].astype(np.int16) + int(rng.integers(15, 165))) % 180
    else:
        hsv[:, :, 1] //= 8
        value = hsv[:, :, 2].astype(np.float32)
        value = value * 0.35 if kind < 0.88 else 150 + value * 0.41
        hsv[:, :, 2] = value.astype(np.uint8)
    return np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), patch[:, :, 3]])


def _sharpness(image: np.ndarray) -> float:
    """Mean absolute Laplacian of the grey picture, in grey levels."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_16S)).mean())


def _paste(
    canvas: np.ndarray,
    grounds: list[np.ndarray],
    pasted: list[tuple[str, np.ndarray, int]],
    occlusions: list[tuple[int, int]],
    name: str,
    patch: np.ndarray,
    side: int,
    spot: tuple[float, float] | None,
    sharpness: float,
    rng: np.random.Generator,
) -> None:
    """Paste one thing in place, if there is room for it; masks below lose what it covers."""
    size = canvas.shape[0]
    layer = _prepared(patch, side, rng)  # float32 [h, w, 4], colours premultiplied
    h, w = layer.shape[:2]
    solid = (layer[:, :, 3] > 0.5).astype(np.uint8)
    for attempt in range(8):
        if spot is not None:
            shift = rng.normal(0, 0.01 + 0.02 * attempt, 2)
            x, y = int((spot[0] + shift[0]) * size - w / 2), int((spot[1] + shift[1]) * size - h / 2)
        else:
            x, y = (
                int(rng.integers(-w // 8, size - w + w // 8 + 1)),
                int(rng.integers(-h // 8, size - h + h // 8 + 1)),
            )
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, size), min(y + h, size)
        if x1 - x0 < 0.7 * w or y1 - y0 < 0.7 * h:
            continue
        part = solid[y0 - y : y1 - y, x0 - x : x1 - x]
        covered = []
        for k, (_, mask, full) in enumerate(pasted):
            lost = int(np.count_nonzero(mask[y0:y1, x0:x1] & part))
            if lost:
                if np.count_nonzero(mask) - lost < _VISIBLE * full:
                    break
                covered.append((k, lost, full))
        else:
            break
    else:
        return
    layer = layer[y0 - y : y1 - y, x0 - x : x1 - x]
    under = canvas[y0:y1, x0:x1].astype(np.float32)
    layer = _matched(layer, under, sharpness, rng)
    alpha = layer[:, :, 3:]
    canvas[y0:y1, x0:x1] = np.clip(under * (1 - alpha) + layer[:, :, :3], 0, 255).astype(np.uint8)
    clear = 1 - part
    for mask in grounds:
        mask[y0:y1, x0:x1] &= clear
    for k, lost, full in covered:
        pasted[k][1][y0:y1, x0:x1] &= clear
        if lost >= 0.03 * full:
            occlusions.append((len(pasted), k))
    visible = np.zeros(canvas.shape[:2], np.uint8)
    visible[y0:y1, x0:x1] = part
    pasted.append((name, visible, int(np.count_nonzero(part))))


def _prepared(patch: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Scaled, sometimes mirrored and turned; float32 [h, w, 4] with premultiplied colours in [0, 255], alpha in [0, 1]."""
    layer = patch.astype(np.float32)
    layer[:, :, 3] /= 255.0
    layer[:, :, :3] *= layer[:, :, 3:]
    scale = side / max(patch.shape[:2])
    shape = (max(4, round(patch.shape[1] * scale)), max(4, round(patch.shape[0] * scale)))
    layer = cv2.resize(layer, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        layer = cv2.flip(layer, 1)
    if rng.random() < 0.35:
        angle = float(rng.uniform(-25, 25))
        w, h = shape
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
        cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
        wide, high = int(h * sin + w * cos), int(h * cos + w * sin)
        turn[:, 2] += ((wide - w) / 2, (high - h) / 2)
        layer = cv2.warpAffine(layer, turn, (wide, high), flags=cv2.INTER_LINEAR)
    return layer


def _matched(layer: np.ndarray, under: np.ndarray, sharpness: float, rng: np.random.Generator) -> np.ndarray:
    """`layer` with light, colour cast and sharpness moved part of the way to those of the ground under it."""
    alpha = layer[:, :, 3:]
    weight = float(alpha.sum()) or 1.0
    mean = layer[:, :, :3].sum(axis=(0, 1)) / weight
    ground = under.reshape(-1, 3).mean(axis=0)
    strength = float(rng.uniform(0, 0.4))
    light = float(np.clip(1 + strength * (ground.mean() / max(mean.mean(), 20.0) - 1), 0.65, 1.35))
    cast = 1 + 0.5 * strength * (ground / max(float(ground.mean()), 20.0) - 1)
    gain = (light * np.clip(cast, 0.8, 1.25)).astype(np.float32)
    contrast = float(np.clip(1 + strength * (under.std() / 60.0 - 1), 0.75, 1.15))
    offset = (mean * gain * (1 - contrast)).astype(np.float32)
    layer = np.concatenate([layer[:, :, :3] * (gain * contrast) + offset * alpha, alpha], axis=2)
    if sharpness < 9.0:  # a ground softer than a sharp photo wants softer things on it
        sigma = float((9.0 - sharpness) / 9.0 * rng.uniform(0.3, 1.1))
        if sigma > 0.25:
            layer = cv2.GaussianBlur(layer, (0, 0), sigma)
    return layer
