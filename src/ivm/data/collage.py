"""Collages: cut-outs and things cut from masked photos, pasted on photos.

Every collage is a function of (seed, index): the same on any machine and any number of processes.
Method (ours, in the manner of "Cut, Paste and Learn", Dwibedi et al., ICCV 2017): scale, place, match light
and sharpness to the ground, blend by soft alpha, and let the order of pasting decide the masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from ivm.data.cutouts import Cutout
from ivm.data.materials import Cut, Materials
from ivm.data.packs import Region
from ivm.data.photo_scenes import named_thing, nouns_sought
from ivm.data.relations import picture_relations, size_words
from ivm.data.scene import Scene, Thing
from ivm.data.words import everyday, nouns_for
from ivm.errors import DataError, OptionError

__all__ = ["collage_scene"]

_MARGIN = 1.2  # grounds are so much larger than the picture that is cut from them
_BLOCK, _GROUNDS = 256, 64  # so many collages in a row share so many grounds
_VISIBLE = 0.5  # share of a pasted thing that later ones leave visible
_SHARP = 9.0  # mean absolute Laplacian of a sharp photo of 256 pixels, in grey levels
_TAG = 0x636F6C  # keeps these random numbers apart from those of other users of the same seed

# These keep their own colour; everything else may be painted any colour.
_NATURAL = frozenset({"animal", "food", "plant", "tree", "person", "drink", "building"})
_OWN_COLOUR = frozenset({"smiley", "smiley cat", "globe", "sun", "moon", "fire", "rainbow"})


@dataclass
class _Sheet:
    """A collage in the making.

    Attributes:
        image: uint8 [S, S, 3].
        grounds: what is left of each mask of the ground, uint8 [S, S] of 0 and 1.
        names, masks, whole: of each pasted thing: its name, what is left of its mask, its pixels when pasted.
        occlusions: (front, back) pairs of pasted things.
        sharpness: of the ground, as a share of a sharp photo's, at most 1.
    """

    image: np.ndarray
    grounds: list[np.ndarray]
    sharpness: float
    names: list[str] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    occlusions: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """What is to be pasted: RGBA patch, longest side in pixels, centre in shares of the picture or None."""

    name: str
    patch: np.ndarray
    side: int
    spot: tuple[float, float] | None


def collage_scene(materials: Materials, seed: int, index: int, size: int = 256) -> Scene:
    """The collage `index` of `seed`: a square picture with one to a dozen pasted things.

    Args:
        materials: from `ivm.data.materials.read_materials`.
        seed: at least 0.
        index: at least 0.
        size: side in pixels, 64 to 1024.

    Returns:
        A scene of view "collage". Things of the ground that its annotators named come first, then the pasted
        ones in the order of pasting. Its vocabulary is None on a procedural ground.

    Raises:
        OptionError: seed, index or size is out of range.
        DataError: there is nothing to paste, or a file of the materials is damaged.
    """
    if seed < 0 or index < 0:
        raise OptionError(f"seed and index must be at least 0, but got {seed} and {index}")
    if not 64 <= size <= 1024:
        raise OptionError(f"the size of a collage must be 64 to 1024 pixels, but got {size}")
    if not materials.cutouts and not materials.cuts:
        raise DataError("collages need something to paste: name a folder of cut-outs or of masked photos")
    rng = np.random.default_rng([_TAG, seed, index])
    regions: tuple[Region, ...] = ()
    known: frozenset[str] | None = None
    if materials.photos and rng.random() < 0.85:
        # A block of collages shares some grounds, so that decoding does not cost more than pasting.
        block = np.random.default_rng([_TAG, seed, index // _BLOCK, int(rng.integers(_GROUNDS))])
        photo = materials.photos[int(block.integers(len(materials.photos)))]
        image, masks = _crop(*materials.ground(photo, round(_MARGIN * size)), size, rng)
        regions, known = photo.regions, nouns_sought(photo, materials.vocabularies[photo.pack])
    else:
        image, masks = _pattern(size, rng), []
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sharpness = cv2.mean(np.abs(cv2.Laplacian(grey, cv2.CV_16S)))[0]
    sheet = _Sheet(image, masks, min(1.0, sharpness / _SHARP))
    for piece in _plan(materials, known, size, rng):
        _paste(sheet, piece, rng)
    return _scene(sheet, regions, materials, known, {"seed": seed, "index": index, "size": size})


def _scene(
    sheet: _Sheet,
    regions: Sequence[Region],
    materials: Materials,
    known: frozenset[str] | None,
    provenance: dict[str, Any],
) -> Scene:
    masks = [*sheet.grounds, *sheet.masks]
    names = [region.name for region in regions] + sheet.names
    single = [region.instance for region in regions] + [True] * len(sheet.names)
    # Sizes are compared among single things only: a name of its own keeps the others out.
    sizes = size_words(
        [name if one else f"{name} {i}" for i, (name, one) in enumerate(zip(names, single, strict=True))],
        [cv2.countNonZero(mask) for mask in masks],
    )
    things: list[Thing] = []
    first = 0
    for i, (name, mask, size, one) in enumerate(zip(names, masks, sizes, single, strict=True)):
        if i == len(regions):
            first = len(things)
        if cv2.countNonZero(mask):  # things of the ground may be covered; pasted ones never are
            things.append(named_thing(name, mask, sheet.image, size, one))
    occlusions = [(front + first, back + first) for front, back in sheet.occlusions]
    relations = picture_relations(things, sheet.image.shape[:2], occlusions)
    vocabulary = None if known is None else known | materials.unseen_unlabelled
    return Scene(sheet.image, tuple(things), relations, "collage", vocabulary, provenance)


def _crop(
    image: np.ndarray, masks: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A random square of a photo and its masks, sometimes mirrored, `size` pixels wide."""
    height, width = image.shape[:2]
    x, y = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
    step = -1 if rng.random() < 0.5 else 1
    image = np.ascontiguousarray(image[y : y + size, x : x + size][:, ::step])
    return image, list(np.ascontiguousarray(masks[:, y : y + size, x : x + size][:, :, ::step]))


def _pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """A ground without a photo: plain, a ramp, checks, stripes or blotches in two colours; some grain."""
    one, two = rng.integers(30, 236, (2, 3)).astype(np.float32)
    if rng.random() < 0.6:
        two = one + rng.uniform(-50, 50, 3).astype(np.float32)
    x = np.arange(size, dtype=np.float32)[None] / size
    y = x.T
    angle = float(rng.uniform(0, np.pi))
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    kind = rng.integers(5)
    if kind == 0:
        mix = np.zeros_like(along)
    elif kind == 1:
        mix = (along - along.min()) / np.ptp(along)
    elif kind == 2:
        cells = rng.integers(3, 9)
        mix = ((np.floor(x * cells) + np.floor(y * cells)) % 2).astype(np.float32)
    elif kind == 3:
        mix = (np.sin(along * np.float32(rng.uniform(15, 60))) > 0).astype(np.float32)
    else:
        coarse = rng.random((int(rng.integers(3, 24)),) * 2).astype(np.float32)
        mix = np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))
    grain = rng.standard_normal((size // 2, size // 2), np.float32) * np.float32(rng.uniform(0, 8))
    canvas = one + (two - one) * mix[:, :, None] + np.asarray(cv2.resize(grain, (size, size)))[:, :, None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _plan(
    materials: Materials, known: frozenset[str] | None, size: int, rng: np.random.Generator
) -> list[_Piece]:
    """What is pasted, in order."""
    tables: list[tuple[dict[str, Any], list[str]]] = [
        (table, list(table)) for table in (materials.cutouts, materials.cuts) if table
    ]

    def choose() -> tuple[str, tuple[Cutout | Cut, ...]]:
        name = ""
        for _ in range(40):
            table, names = tables[0] if len(tables) == 1 or rng.random() < 0.7 else tables[1]
            name = names[int(rng.integers(len(names)))]
            if known is None or name in known or not everyday(name):
                break
        return name, table[name]

    groups: list[tuple[str, tuple[Cutout | Cut, ...], int]] = []
    draw = rng.random()
    if draw < 0.6:  # several of one name, so that colour, size, position or order must decide
        groups.append((*choose(), int(rng.integers(2, 6))))
    if draw < 0.15:
        groups.append((*choose(), int(rng.integers(2, 4))))
    for _ in range(int(rng.integers(1, 5)) if groups else int(rng.integers(2, 7))):
        groups.append((*choose(), 1))

    count = sum(number for _, _, number in groups)
    in_row = rng.random() < 0.25
    base = size * float(rng.uniform(0.16, 0.36)) * (min(1.0, 4.2 / count) if in_row else 1.0)
    pieces: list[tuple[str, np.ndarray, int]] = []
    for name, items, number in groups:
        same_file, two_sizes, ratio = rng.random() < 0.5, rng.random() < 0.5, float(rng.uniform(1.5, 2.0))
        pick = int(rng.integers(len(items)))
        painted = _may_be_painted(name) and rng.random() < (0.75 if number > 1 else 0.3)
        for _ in range(number):
            item = items[pick if same_file else int(rng.integers(len(items)))]
            patch = materials.patch(item)
            if painted:
                patch = _painted(patch, rng)
            if number == 1:
                side = base * float(np.exp(rng.normal(0, 0.3)))
            else:
                side = (
                    base * (ratio if two_sizes and rng.random() < 0.5 else 1.0) * float(rng.uniform(0.9, 1.1))
                )
            pieces.append((name, patch, int(np.clip(side, 0.1 * size, 0.6 * size))))
    order = rng.permutation(count)
    spots: list[tuple[float, float] | None] = [None] * count
    if in_row:
        level, lean = rng.uniform(0.3, 0.75), rng.uniform(-0.15, 0.15)
        for k in range(count):
            x, y = (k + 0.5) / count, level + lean * (k / count - 0.5)
            spots[k] = (x + float(rng.normal(0, 0.02)), y + float(rng.normal(0, 0.03)))
    return [_Piece(*pieces[int(k)], spot) for k, spot in zip(order, spots, strict=True)]


def _may_be_painted(name: str) -> bool:
    return name not in _OWN_COLOUR and not {name, *nouns_for(name)} & _NATURAL


def _painted(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same thing in another colour: hue turned; sometimes drained of colour, then darker or lighter.

    Of premultiplied colours: hue and saturation are those of the plain ones, value is scaled by alpha.
    """
    hsv = np.asarray(cv2.cvtColor(np.ascontiguousarray(patch[:, :, :3]), cv2.COLOR_RGB2HSV))
    kind = rng.random()
    if kind < 0.75:
        hsv[:, :, 0] = (hsv[:, :, 0].astype(np.int16) + int(rng.integers(15, 165))) % 180
    else:
        hsv[:, :, 1] = hsv[:, :, 1] // 8
        value = hsv[:, :, 2].astype(np.float32)
        alpha = patch[:, :, 3] * np.float32(1 / 255)
        hsv[:, :, 2] = (value * 0.35 if kind < 0.88 else 150 * alpha + value * 0.41).astype(np.uint8)
    return np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), patch[:, :, 3]])


def _paste(sheet: _Sheet, piece: _Piece, rng: np.random.Generator) -> None:
    """Paste one thing in place if there is room for it; masks below lose what it covers."""
    size = sheet.image.shape[0]
    layer = _prepared(piece.patch, piece.side, rng)
    h, w = layer.shape[:2]
    solid = (layer[:, :, 3] > 127).view(np.uint8)
    for attempt in range(8):
        if piece.spot is not None:
            dx, dy = rng.normal(0, 0.01 + 0.02 * attempt, 2)
            x, y = int((piece.spot[0] + dx) * size - w / 2), int((piece.spot[1] + dy) * size - h / 2)
        else:
            x, y = (int(rng.integers(-side // 8, size - side + side // 8 + 1)) for side in (w, h))
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, size), min(y + h, size)
        if x1 - x0 < 0.7 * w or y1 - y0 < 0.7 * h:
            continue
        part = solid[y0 - y : y1 - y, x0 - x : x1 - x]
        covered = []
        for k, mask in enumerate(sheet.masks):
            lost = cv2.countNonZero(cv2.bitwise_and(mask[y0:y1, x0:x1], part))
            if lost:
                covered.append((k, lost))
                if cv2.countNonZero(mask) - lost < _VISIBLE * sheet.whole[k]:
                    break
        else:
            break
    else:
        return
    under = sheet.image[y0:y1, x0:x1].astype(np.float32)
    layer = _matched(layer[y0 - y : y1 - y, x0 - x : x1 - x], under, sheet.sharpness, rng)
    under *= 1 - layer[:, :, 3:] * np.float32(1 / 255)
    under += layer[:, :, :3]
    sheet.image[y0:y1, x0:x1] = np.clip(under, 0, 255)
    clear = 1 - part
    for mask in sheet.grounds:
        mask[y0:y1, x0:x1] &= clear
    for k, lost in covered:
        sheet.masks[k][y0:y1, x0:x1] &= clear
        if lost >= 0.03 * sheet.whole[k]:
            sheet.occlusions.append((len(sheet.masks), k))
    visible = np.zeros((size, size), np.uint8)
    visible[y0:y1, x0:x1] = part
    sheet.names.append(piece.name)
    sheet.masks.append(visible)
    sheet.whole.append(cv2.countNonZero(part))


def _prepared(patch: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Scaled, sometimes mirrored and turned: uint8 [h, w, 4], premultiplied."""
    scale = side / max(patch.shape[:2])
    w, h = max(4, round(patch.shape[1] * scale)), max(4, round(patch.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    layer = np.asarray(cv2.resize(patch, (w, h), interpolation=way))
    if rng.random() < 0.5:
        layer = np.asarray(cv2.flip(layer, 1))
    if rng.random() < 0.35:
        turn = cv2.getRotationMatrix2D((w / 2, h / 2), float(rng.uniform(-25, 25)), 1.0)
        cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
        wide, high = int(h * sin + w * cos), int(h * cos + w * sin)
        turn[:, 2] += ((wide - w) / 2, (high - h) / 2)
        layer = np.asarray(cv2.warpAffine(layer, turn, (wide, high), flags=cv2.INTER_LINEAR))
    return layer


def _matched(layer: np.ndarray, under: np.ndarray, sharpness: float, rng: np.random.Generator) -> np.ndarray:
    """float32 `layer` with light, cast and sharpness moved some of the way to those of the ground below."""
    *mean_, share = cv2.mean(layer)
    mean = np.array(mean_) / max(share / 255, 1e-3)
    middle, spread = cv2.meanStdDev(under)
    ground = middle[:, 0]
    strength = float(rng.uniform(0, 0.4))
    light = float(np.clip(1 + strength * (ground.mean() / max(mean.mean(), 20.0) - 1), 0.65, 1.35))
    cast = 1 + 0.5 * strength * (ground / max(float(ground.mean()), 20.0) - 1)
    gain = light * np.clip(cast, 0.8, 1.25)
    contrast = float(np.clip(1 + strength * (float(spread.mean()) / 60.0 - 1), 0.75, 1.15))
    change = np.diag(np.append(gain * contrast, 1.0))
    change[:3, 3] = mean * gain * (1 - contrast) / 255
    layer = np.asarray(cv2.transform(layer.astype(np.float32), change))
    sigma = float((1 - sharpness) * rng.uniform(0.3, 1.1))  # a softer ground wants softer things on it
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), sigma)) if sigma > 0.25 else layer
