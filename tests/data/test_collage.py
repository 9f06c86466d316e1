from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ivm.data.collage import collage_scene
from ivm.data.materials import read_materials
from ivm.errors import DataError, OptionError

RGB = {"apple": (210, 30, 35), "guitar": (40, 70, 200), "pear": (60, 170, 60)}


@pytest.fixture
def materials(tmp_path, pack_folder):
    folder = tmp_path / "cut"
    folder.mkdir()
    for name, rgb in RGB.items():
        for k in range(3):
            pixels = np.zeros((60, 60, 4), np.uint8)
            pixels[5:55, 10 + k : 50] = (*rgb, 255)
            Image.fromarray(pixels).save(folder / f"{name}{k}.png")
    names = {f"{name}{k}": name for name in RGB for k in range(3)}
    (folder / "names.json").write_text(str(names).replace("'", '"'))
    return read_materials([pack_folder], [folder], None)


def same(a, b):
    return (
        np.array_equal(a.image, b.image)
        and a.relations == b.relations
        and [(t.name, t.colour, t.size) for t in a.things] == [(t.name, t.colour, t.size) for t in b.things]
        and all(np.array_equal(x.mask, y.mask) for x, y in zip(a.things, b.things, strict=True))
    )


def in_other_process(job):
    materials, indices = job
    return [collage_scene(materials, 5, index, 96) for index in indices]


def test_a_collage_is_a_function_of_seed_and_index(materials):
    forward = [collage_scene(materials, 5, index, 96) for index in range(6)]
    backward = [collage_scene(materials, 5, index, 96) for index in reversed(range(6))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        others = pool.submit(in_other_process, (materials, range(6))).result()
    assert all(same(a, b) for a, b in zip(forward, others, strict=True))
    assert not same(forward[0], forward[1])
    assert not same(forward[0], collage_scene(materials, 6, 0, 96))


def test_masks_are_what_is_seen(materials):
    for index in range(30):
        scene = collage_scene(materials, 1, index, 96)
        assert scene.image.shape == (96, 96, 3)
        pasted = [thing for thing in scene.things if thing.name in RGB]
        assert pasted
        total = np.sum([thing.mask for thing in pasted], axis=0)
        assert total.max() <= 1  # whoever was pasted later took the pixel from the one below
        for thing in scene.things:
            if thing.name not in RGB:  # of the ground: nothing that a cut-out covers
                assert not (thing.mask & (total > 0)).any()


def test_colours_are_read_off_the_pixels(materials):
    seen = {"apple": set(), "pear": set(), "guitar": set()}
    for index in range(60):
        for thing in collage_scene(materials, 2, index, 128).things:
            if thing.name in seen and thing.area > 100:
                seen[thing.name].add(thing.colour)
    assert "red" in seen["apple"]
    assert "green" not in seen["apple"]  # fruit is never painted
    assert "blue" in seen["guitar"]
    assert len(seen["guitar"] - {None}) >= 4  # things made by people are


def test_vocabulary_tells_what_was_looked_for(materials):
    photo = next(
        s for s in (collage_scene(materials, 3, k, 96) for k in range(40)) if s.vocabulary is not None
    )
    plain = next(s for s in (collage_scene(materials, 3, k, 96) for k in range(80)) if s.vocabulary is None)
    assert {"cup", "dog", "zebra", "guitar", "apple"} <= photo.vocabulary
    assert {thing.name for thing in plain.things} <= set(RGB) | {"cup", "dog"}


def test_a_ground_without_annotated_scenery_may_hold_any(materials, mixed_pack):
    mixed = read_materials([mixed_pack], [], None)
    for photos, sought in ((mixed.photos[:5], True), (mixed.photos[5:], False)):
        part = replace(mixed, photos=photos, cutouts=materials.cutouts)
        known = [s.vocabulary for s in (collage_scene(part, 3, k, 64) for k in range(20)) if s.vocabulary]
        assert known
        assert all(("brick wall" in nouns) == sought and "dog" in nouns for nouns in known)


def test_occlusion_is_a_relation(materials):
    found = 0
    for index in range(80):
        scene = collage_scene(materials, 4, index, 96)
        for front, word, back in scene.relations:
            if word == "in front of":
                assert (back, "behind", front) in scene.relations
                assert front > back  # pasted later
                found += 1
    assert found


def test_repeated_names_give_sizes_to_compare(materials):
    words = {thing.size for index in range(60) for thing in collage_scene(materials, 7, index, 96).things}
    assert {"small", "large", None} <= words


@pytest.mark.parametrize(("seed", "index", "size"), [(-1, 0, 96), (0, -1, 96), (0, 0, 20), (0, 0, 5000)])
def test_numbers_out_of_range_are_told(materials, seed, index, size):
    with pytest.raises(OptionError, match="must be"):
        collage_scene(materials, seed, index, size)


def test_nothing_to_paste_is_told():
    with pytest.raises(DataError, match="something to paste"):
        collage_scene(read_materials(), 0, 0)
