"""Scenes made of plain boxes, whose every property is known; small stores."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ivm.data.records import Entry, Record
from ivm.data.relations import picture_relations, size_words
from ivm.data.scene import Scene, Thing
from ivm.data.shards import write_shards
from ivm.data.words import affordances_of, nouns_for
from ivm.types import Sample

COLOURS = ("red", "green", "blue", "yellow")
NAMES = ("mug", "mug", "ball", "ball", "ball", "apple", "pear", "hammer", "plate", "block", "block")


def build(seed: int, view: str = "photo", side: int = 128) -> Scene:
    """A scene of 1 to 8 boxes that do not overlap; tabletop views also have depth, materials and patterns."""
    rng = np.random.default_rng(seed)
    masks: list[np.ndarray] = []
    taken = np.zeros((side, side), bool)
    for _ in range(int(rng.integers(1, 9)) * 3):
        w, h = (int(v) for v in rng.integers(8, 34, 2))
        x, y = int(rng.integers(side - w)), int(rng.integers(side - h))
        if taken[max(0, y - 2) : y + h + 2, max(0, x - 2) : x + w + 2].any() or len(masks) == 8:
            continue
        mask = np.zeros((side, side), bool)
        mask[y : y + h, x : x + w] = True
        taken |= mask
        masks.append(mask)
    names = [NAMES[int(rng.integers(len(NAMES)))] for _ in masks]
    sizes = size_words(names, [int(mask.sum()) for mask in masks])
    solid = view != "photo"
    things = tuple(
        Thing(
            name,
            mask,
            colour=COLOURS[int(rng.integers(4))] if rng.random() < 0.9 else None,
            size=size,
            synonyms=nouns_for(name),
            affordances=affordances_of(name),
            depth=float(rng.uniform(0.5, 2)) if solid else None,
            material=("wood", "metal", "plastic")[int(rng.integers(3))]
            if solid and rng.random() < 0.7
            else None,
            pattern="striped" if solid and rng.random() < 0.3 else None,
            text="TEA" if solid and rng.random() < 0.2 else None,
        )
        for name, mask, size in zip(names, masks, sizes, strict=True)
    )
    relations = list(picture_relations(things, (side, side)))
    if solid and len(things) > 2:  # as if the first, and sometimes the third, lay on the second
        below = (0, 2) if seed % 3 == 0 else (0,)
        relations = [r for r in relations if 1 not in (r[0], r[2]) or {r[0], r[2]}.isdisjoint(below)]
        relations += [(i, "on", 1) for i in below]
    return Scene(np.full((side, side, 3), 128, np.uint8), things, tuple(relations), view)


@pytest.fixture
def box_scene():
    """box_scene(seed, view="photo") -> Scene."""
    return build


@pytest.fixture
def make_store(tmp_path):
    """make_store([sample, ...], name="store", **settings) -> folder of a finished store."""

    def make(samples, name="store", **settings):
        entries = [Entry("made", k, lambda one=one: [Record(one)]) for k, one in enumerate(samples, start=1)]
        write_shards(entries, tmp_path / name, {"name": name}, strict=True, **settings)
        return tmp_path / name

    return make


@pytest.fixture
def episode():
    """episode(number, frames=4) -> samples of one image_id and one task; a square that moves is relevant."""

    def make(number, frames=4):
        made = []
        for k in range(frames):
            image = np.full((64, 64, 3), 60 + 20 * number, np.uint8)
            image[:, 40:] = 200
            mask = np.zeros((64, 64), bool)
            mask[8:20, 12 * k : 12 * k + 12] = True
            image[mask] = (220, 30, 30)
            where = f"robot/episode-{number}"
            made.append(
                Sample(f"{number}-{k}", image, ("pick it up",), mask, "robot", human=False, image_id=where)
            )
        return made

    return make


@pytest.fixture
def scenery():
    """scenery(seed, height=48, width=64) -> uint8 [H, W, 3]; another picture for another seed."""

    def make(seed, height=48, width=64):
        coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make
