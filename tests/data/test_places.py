from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from ivm.data.drafts import Asking
from ivm.data.grammar import instructions_for
from ivm.data.places import PARTS, group_place, part, what_is_where
from ivm.data.reading import Reading


def drafts(box_scene, make, number=200, view="side"):
    for seed in range(number):
        scene = box_scene(seed, view)
        draft = make(Asking(Reading(scene), np.random.default_rng(seed), ()))
        if draft:
            yield scene, draft


def lies(thing, scene, text):
    """Whether a thing's centre is in the half, quarter or middle that a text names."""
    x, y = (place / side for place, side in zip(thing.centre, reversed(scene.image.shape[:2]), strict=True))
    words = {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5}
    middle = ("middle" not in text and "centre" not in text) or (0.37 < x < 0.63 and 0.37 < y < 0.63)
    return middle and all(true for word, true in words.items() if word in text)


def test_the_parts_of_a_picture_lie_where_they_are_said_to():
    for (column, row), (x0, y0, x1, y1) in PARTS.items():
        assert ((x0 + x1) / 2 < 0.5) == (column == "left")
        assert ((x0 + x1) / 2 > 0.5) == (column == "right")
        assert ((y0 + y1) / 2 < 0.5) == (row == "top")
        assert ((y0 + y1) / 2 > 0.5) == (row == "bottom")


def test_a_part_is_an_area_and_names_no_thing(box_scene):
    seen = set()
    for _, draft in drafts(box_scene, part):
        assert draft.targets == ()
        column, row = next(place for place, box in PARTS.items() if box == draft.area)
        seen.add((column, row))
        assert column in draft.text or column == "middle"
        assert ("upper" in draft.text or "top" in draft.text) == (row == "top")
        assert ("lower" in draft.text or "bottom" in draft.text) == (row == "bottom")
        assert "side" not in draft.text or column in ("left", "right")
        assert not re.search("happening in the .* side", draft.text)
    assert seen == set(PARTS)


def test_the_mask_of_a_part_is_its_area_and_it_is_asked_with_its_contrast(box_scene):
    halves = 0
    for seed in range(40):
        scene = box_scene(seed)
        one, *rest = instructions_for(
            scene, np.random.default_rng(seed), ("part",), 2, contrast=1.0, noise=0.0
        )
        assert one.targets == ()
        assert one.target_names == ("part of the picture",)
        if "left half" in one.text:
            halves += 1
            assert one.mask[:, :64].all()
            assert not one.mask[:, 64:].any()
        assert rest
        assert (rest[0].mask != one.mask).any()
    assert halves


def test_everything_in_a_place_is_all_that_lies_there_and_nothing_else(box_scene):
    for make in (group_place, what_is_where):
        found = list(drafts(box_scene, make))
        assert len(found) > 60
        for scene, draft in found:
            assert all(lies(scene.things[i], scene, draft.text) for i in draft.targets)
            if make is what_is_where or "everything" in draft.text.replace("everything but", ""):
                rest = set(range(len(scene.things))) - set(draft.targets)
                assert not any(lies(scene.things[i], scene, draft.text) for i in rest)


def test_what_is_where_is_not_asked_where_not_all_is_known(box_scene):
    for seed in range(60):
        scene = replace(box_scene(seed), vocabulary=frozenset({"mug", "ball", "block"}))
        ask = Asking(Reading(scene), np.random.default_rng(seed), ())
        assert what_is_where(ask) is None
        draft = group_place(ask)
        assert draft is None or len({scene.things[i].name for i in draft.targets}) == 1
