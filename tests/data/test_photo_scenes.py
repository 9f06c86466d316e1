from __future__ import annotations

import numpy as np

from ivm.data.packs import read_pack
from ivm.data.photo_scenes import named_thing, photo_scene, region_masks


def test_a_photo_becomes_a_scene(pack_folder):
    pack = read_pack(pack_folder)
    photo = pack.photos[0]
    scene = photo_scene(photo, frozenset(pack.names))
    assert [thing.name for thing in scene.things] == ["cup", "cup", "dog"]
    assert [thing.colour for thing in scene.things] == ["red", "blue", "green"]
    assert [thing.size for thing in scene.things] == ["large", "small", None]
    assert (0, "left of", 1) in scene.relations
    assert scene.view == "photo"
    assert scene.provenance["photo"] == photo.image_id
    assert "animal" in scene.things[2].synonyms


def test_it_shrinks_with_its_masks(pack_folder):
    photo = read_pack(pack_folder).photos[0]
    full, small = photo_scene(photo, None), photo_scene(photo, None, shortest=32)
    assert small.image.shape == (32, 48, 3)
    for a, b in zip(full.things, small.things, strict=True):
        assert abs(a.area / 4 - b.area) <= 0.2 * b.area
    assert [mask.shape for mask in region_masks(photo, (32, 48))] == [(32, 48)] * 3


def test_people_are_not_told_by_colour():
    image = np.full((20, 20, 3), (200, 30, 35), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[4:16, 5:17] = True
    assert named_thing("ball", mask, image).colour == "red"
    assert named_thing("person", mask, image).colour is None
    assert named_thing("construction worker", mask, image).colour is None
    assert named_thing("ball", mask, image).box == (5, 4, 17, 16)
    assert named_thing("ball", mask, image).area == 144


def test_scenery_is_no_single_thing():
    image, mask = np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), bool)
    sky = named_thing("sky", mask, image)
    assert not sky.is_thing
    assert not sky.instance
    assert not named_thing("dog", mask, image, instance=False).instance
