"""Masked photos as scenes, and things named from their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ivm.data.colours import colour_of
from ivm.data.packs import Photo, Region
from ivm.data.relations import picture_relations, size_words
from ivm.data.scene import Scene, Thing
from ivm.data.words import affordances_of, is_stuff, nouns_for

__all__ = ["labelled_scene", "named_thing", "nouns_sought", "photo_scene", "region_masks"]

_UNCOLOURED = frozenset({"person", "skin", "smiley"})


def region_masks(photo: Photo, shape: tuple[int, int]) -> list[np.ndarray]:
    """The masks of a photo's regions as uint8 [H, W] of 0 and 1, at the size `shape` (H, W)."""
    masks = [region.mask().astype(np.uint8) for region in photo.regions]
    if (photo.height, photo.width) == shape:
        return masks
    return [
        np.asarray(cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)) for mask in masks
    ]


def nouns_sought(photo: Photo, nouns: frozenset[str]) -> frozenset[str]:
    """Of the nouns that a pack's annotators looked for, those that they looked for in this photo.

    What was not looked for takes its more general nouns with it: "wall" goes with "brick wall".

    Args:
        photo: of the pack.
        nouns: from `ivm.data.materials.nouns_looked_for`.
    """
    return nouns - {noun for name in photo.unsought for noun in (name, *nouns_for(name))}


def photo_scene(photo: Photo, vocabulary: frozenset[str] | None, shortest: int | None = None) -> Scene:
    """A masked photo as a scene.

    Args:
        photo: of a pack.
        vocabulary: the nouns that the annotators of its pack looked for (`Materials.vocabularies`); those
            unsought in this photo are left out here.
        shortest: shrink until the shorter side has this many pixels; None keeps the size.

    Raises:
        DataError: the file or a mask is damaged.
    """
    image = photo.image()
    if shortest and shortest < min(image.shape[:2]):
        scale = shortest / min(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    masks = region_masks(photo, image.shape[:2])
    vocabulary = None if vocabulary is None else nouns_sought(photo, vocabulary)
    return labelled_scene(image, photo.regions, masks, vocabulary, {"photo": photo.image_id})


def labelled_scene(
    image: np.ndarray,
    regions: Sequence[Region],
    masks: Sequence[np.ndarray],
    vocabulary: frozenset[str] | None,
    provenance: Mapping[str, Any] | None = None,
) -> Scene:
    """A picture with labelled regions as a scene: of a whole photo or a crop of it.

    Args:
        image: uint8 [H, W, 3].
        regions: what the masks are of.
        masks: uint8 [H, W] of 0 and 1, one a region; empty ones are left out.
        vocabulary: the nouns that were looked for, as in `Scene`.
        provenance: as in `Scene`.
    """
    kept = [(region, mask) for region, mask in zip(regions, masks, strict=True) if mask.any()]
    sizes = size_words(
        [region.name if region.instance else f"{region.name} {i}" for i, (region, _) in enumerate(kept)],
        [int(np.count_nonzero(mask)) for _, mask in kept],
    )
    things = tuple(
        named_thing(region.name, mask, image, size, region.instance)
        for (region, mask), size in zip(kept, sizes, strict=True)
    )
    relations = picture_relations(things, image.shape[:2])
    return Scene(image, things, relations, "photo", vocabulary, provenance or {})


def named_thing(
    name: str, mask_HW: np.ndarray, image: np.ndarray, size: str | None = None, instance: bool = True
) -> Thing:
    """A thing with what its name and its pixels tell: synonyms, affordances, colour.

    Args:
        name: spoken name.
        mask_HW: uint8 [H, W] of 0 and 1, or bool; not empty.
        image: uint8 [H, W, 3].
        size: "small", "large" or None.
        instance: whether the mask is one thing.
    """
    flat = mask_HW.view(np.uint8)
    x, y, w, h = cv2.boundingRect(flat)
    mask = flat.view(bool)
    stuff = is_stuff(name)
    colour = None
    if name not in _UNCOLOURED and "person" not in nouns_for(name):  # people are not told apart by colour
        colour = colour_of(image[y : y + h, x : x + w], mask[y : y + h, x : x + w], most=160)
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
    thing.__dict__["box"] = (x, y, x + w, y + h)  # cached properties: known already, and slow to find again
    thing.__dict__["area"] = int(cv2.countNonZero(flat))
    return thing
