from __future__ import annotations

import re

import numpy as np
import pytest

from ivm.data.drafts import Asking
from ivm.data.naming import category, every, group_but, group_colour, group_not, group_relation, refer, two
from ivm.data.reading import Reading
from ivm.data.scene import Scene, Thing

COLOURS = "(red|green|blue|yellow)"


def drafts(box_scene, make, count=150, view="photo"):
    """(scene, draft) wherever the maker makes one."""
    for seed in range(count):
        scene = box_scene(seed, view)
        draft = make(Asking(Reading(scene), np.random.default_rng(seed), ()))
        if draft:
            yield scene, draft


def test_category_names_every_thing_of_the_noun(box_scene):
    for scene, draft in drafts(box_scene, category):
        names = {scene.things[i].name for i in draft.targets}
        if len(names) == 1:  # no wider noun
            name = names.pop()
            assert draft.targets == tuple(i for i, t in enumerate(scene.things) if t.name == name)


def test_every_is_said_of_several(box_scene):
    found = list(drafts(box_scene, every))
    assert len(found) > 30
    assert all(len(draft.targets) >= 2 for _, draft in found)
    assert all(re.search(r"\b(all|every|each)\b", draft.text) for _, draft in found)


def test_group_of_a_colour(box_scene):
    found = list(drafts(box_scene, group_colour))
    assert found
    for scene, draft in found:
        colour = re.search(COLOURS, draft.text)[1]
        assert {scene.things[i].colour for i in draft.targets} == {colour}
        assert len(draft.targets) >= 2


def test_all_but_one_leaves_out_the_one_named(box_scene):
    found = list(drafts(box_scene, group_but))
    assert found
    for scene, draft in found:
        assert re.search(r"all the \w+ (but|except|except for|apart from) the .*\bone\b", draft.text), (
            draft.text
        )
        colour = re.search(rf"the {COLOURS} one", draft.text)
        if colour:
            assert colour[1] not in {scene.things[i].colour for i in draft.targets}


def test_those_that_are_not(box_scene):
    found = list(drafts(box_scene, group_not, 300))
    assert found
    for scene, draft in found:
        colour = re.search(COLOURS, draft.text)[1]
        assert colour not in {scene.things[i].colour for i in draft.targets}
        assert re.search(r"are not|aren't", draft.text)


def test_group_by_relation_has_all_that_stand_so(box_scene):
    found = list(drafts(box_scene, group_relation("left of"), 300))
    assert found
    for scene, draft in found:
        marks = [
            o
            for o in range(len(scene.things))
            if all((i, "left of", o) in scene.relations for i in draft.targets)
        ]
        assert marks, draft.text
        assert len(draft.targets) >= 2


def test_everything_left_of_a_thing_is_not_what_remains_of_it(box_scene):
    texts = [draft.text for _, draft in drafts(box_scene, group_relation("left of"), 400)]
    bare = [text for text in texts if "everything" in text or "whatever" in text]
    assert any("everything to the left of" in text for text in bare)
    assert not [text for text in bare if re.search("(?<!to the )left of", text)]


def test_two_things_are_two(box_scene):
    found = list(drafts(box_scene, two))
    assert found
    assert all(len(set(draft.targets)) == 2 and " and " in draft.text for _, draft in found)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_class_in_several_parts_is_plural(parts):
    mask = np.zeros((60, 60), bool)
    mask[5:20, 5:20] = True
    if parts == 2:
        mask[30:45, 30:45] = True
    scene = Scene(np.zeros((60, 60, 3), np.uint8), (Thing("dog", mask, instance=False),))
    texts = [category(Asking(Reading(scene), np.random.default_rng(s), ())).text for s in range(20)]
    assert all(("dogs" in text) == (parts == 2) for text in texts)


def test_a_reference_targets_no_landmark(box_scene):
    for scene, draft in drafts(box_scene, refer("beside")):
        assert len(draft.targets) == 1
        assert any(i == draft.targets[0] for i, _, _ in scene.relations)
