from __future__ import annotations

import numpy as np
import pytest

from ivm.data.grammar import instructions_for
from ivm.data.materials import nouns_looked_for
from ivm.data.packs import data_folder, read_pack
from ivm.data.photo_scenes import named_thing, nouns_sought, photo_scene, region_masks


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


def test_what_was_not_looked_for_in_a_photo_is_not_in_its_vocabulary(mixed_pack):
    pack = read_pack(mixed_pack)
    nouns = nouns_looked_for(pack)
    for photo in pack.photos:
        scene = photo_scene(photo, nouns)
        assert scene.vocabulary == nouns_sought(photo, nouns)
        assert {"dog", "zebra"} <= scene.vocabulary
        assert ("brick wall" in scene.vocabulary) == (not photo.unsought)
    bare = pack.photos[-1]
    assert "wall" not in nouns_sought(bare, nouns | {"wall"})  # the wall there may be of brick
    assert photo_scene(bare, None).vocabulary is None


@pytest.mark.skipif(data_folder() is None, reason="the packs of IVM_DATA are not here")
def test_scenery_is_never_called_absent_from_a_photo_of_things():
    pack = read_pack(data_folder() / "coco")
    nouns = nouns_looked_for(pack)
    for photo in [photo for photo in pack.photos if photo.unsought][:12]:
        scene = photo_scene(photo, nouns, 64)
        absent = instructions_for(scene, np.random.default_rng(0), ("absent",), 12, noise=0.0)
        words = set(" ".join(one.text.lower().strip("?!.") for one in absent).split())
        assert len(absent) == 12
        assert not words & {"sky", "grass", "tree", "wall", "floor", "building", "road", "food"}


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
