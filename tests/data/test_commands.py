from __future__ import annotations

import re

import numpy as np
import pytest

from ivm.data.commands import PICK, act, clear, collect, pair, pour, push_to_side, something, two_steps
from ivm.data.drafts import Asking
from ivm.data.reading import Reading
from ivm.data.scene import Scene, Thing
from ivm.data.words import affordances_of, nouns_for


def drafts(box_scene, make, number=200, view="side"):
    for seed in range(number):
        scene = box_scene(seed, view)
        draft = make(Asking(Reading(scene), np.random.default_rng(seed), ()))
        if draft:
            yield scene, draft


def can(scene, i):
    return scene.things[i].affordances


def test_only_what_can_be_grasped_is_picked(box_scene):
    found = list(drafts(box_scene, act(PICK, "category", "colour")))
    assert found
    for scene, draft in found:
        assert draft.mood == "command"
        assert "graspable" in can(scene, draft.targets[0])


def test_a_landmark_is_a_target_of_a_command(box_scene):
    found = list(drafts(box_scene, act(PICK, "beside")))
    assert found
    assert all(len(draft.targets) == 2 for _, draft in found)


@pytest.mark.parametrize("needs", ["surface", "container", "stackable"])
def test_the_second_thing_can_take_the_first(box_scene, needs):
    found = list(drafts(box_scene, pair("put {x} there: {y}", needs=needs, already="on"), 400))
    assert found
    for scene, draft in found:
        one, two = draft.targets
        assert needs in can(scene, two)
        assert (one, "on", two) not in scene.relations
        if needs == "stackable":
            assert needs in can(scene, one)
        else:
            assert scene.things[two].area >= 0.8 * scene.things[one].area


def test_pouring_goes_from_what_pours_into_what_holds(box_scene):
    found = list(drafts(box_scene, pour, 300))
    assert found
    for scene, draft in found:
        one, two = draft.targets
        assert "pourable" in can(scene, one)
        assert "container" in can(scene, two)


def test_collecting_takes_all_of_a_name(box_scene):
    found = list(drafts(box_scene, collect, 300))
    assert found
    for scene, draft in found:
        *taken, goal = draft.targets
        assert len(taken) >= 2
        assert can(scene, goal) & {"container", "surface"}
        assert not {(i, "on", goal) for i in taken} & set(scene.relations)
        assert not {(goal, "on", i) for i in taken} & set(scene.relations)
        assert re.match(r"(put|place|gather|collect|sort) (all |every |the )", draft.text), draft.text
        assert not re.match("(gather|collect) .*", draft.text) or " them " in draft.text  # not "on the plate"


def test_what_is_there_already_is_not_collected():
    """Two apples, a bowl and a book; one apple lies in the bowl."""

    def thing(name, x, side):
        mask = np.zeros((100, 100), bool)
        mask[40 : 40 + side, x : x + side] = True
        return Thing(name, mask, synonyms=nouns_for(name), affordances=affordances_of(name))

    things = (thing("apple", 2, 12), thing("apple", 18, 12), thing("bowl", 36, 26), thing("book", 68, 26))
    image = np.zeros((100, 100, 3), np.uint8)
    for relations, goals in (((), {2, 3}), (((0, "in", 2),), {3}), (((0, "in", 2), (3, "on", 1)), set())):
        reading = Reading(Scene(image, things, relations, "side"))
        made = [collect(Asking(reading, np.random.default_rng(seed), ())) for seed in range(60)]
        made = [draft for draft in made if draft and "apple" in draft.text]
        assert {draft.targets for draft in made} == {(0, 1, goal) for goal in goals}


def test_clearing_takes_what_lies_there(box_scene):
    found = list(drafts(box_scene, clear, 300))
    assert found
    for scene, draft in found:
        *taken, mark = draft.targets
        assert taken == [s for s, word, o in scene.relations if (word, o) == ("on", mark)]


def test_something_to_eat_is_all_that_is_edible(box_scene):
    for scene, draft in drafts(box_scene, something("edible", "I am hungry", "show me the food")):
        assert draft.targets == tuple(i for i in range(len(scene.things)) if "edible" in can(scene, i))
        assert draft.mood == ("name" if draft.text.startswith("I ") else "command")


def test_pushing_and_two_steps(box_scene):
    assert all(len(draft.targets) == 1 for _, draft in drafts(box_scene, push_to_side))
    found = list(drafts(box_scene, two_steps))
    assert found
    assert all(len(set(draft.targets)) == 2 for _, draft in found)
