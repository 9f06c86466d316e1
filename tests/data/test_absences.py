from __future__ import annotations

import re

import numpy as np
import pytest

from ivm.data import absences
from ivm.data.drafts import Asking
from ivm.data.reading import Reading
from ivm.data.scene import Scene, Thing

MAKERS = absences.__all__


def drafts(
    box_scene,
    make,
    number=120,
    view="side",
    others=("mug", "giraffe", "fork", "jeans", "ball", "fruit", "cup"),
):
    for seed in range(number):
        scene = box_scene(seed, view)
        draft = make(Asking(Reading(scene), np.random.default_rng(seed), others))
        if draft:
            yield scene, draft


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_is_a_target(box_scene, name):
    found = list(drafts(box_scene, getattr(absences, name)))
    assert len(found) > 10
    assert all(draft.targets == () for _, draft in found)


NOUNS = {"mug": {"mug"}, "cup": {"mug"}, "ball": {"ball"}, "fruit": {"apple", "pear"}}
COLOURED = re.compile(r"\b(red|green|blue|yellow|orange|purple|pink|brown|black|white|grey|beige) (\w+)")


@pytest.mark.parametrize(
    "name",
    [name for name in MAKERS if name.split("_")[1] not in ("colour", "quality", "relation", "ordinal")],
)
def test_no_thing_bears_the_noun_or_none_in_that_colour(box_scene, name):
    plain = 0
    for scene, draft in drafts(box_scene, getattr(absences, name)):
        coloured = COLOURED.search(draft.text)
        if coloured:
            named = coloured[2].rstrip("s") if coloured[2] not in NOUNS else coloured[2]
            same = [t for t in scene.things if t.name in NOUNS.get(named, {named})]
            assert coloured[1] not in {thing.colour for thing in same}
            continue
        asked = next(
            noun for noun in ("giraffe", "jeans", "fruit", "fork", "ball", "mug", "cup") if noun in draft.text
        )
        assert not NOUNS.get(asked, set()) & {thing.name for thing in scene.things}
        plain += 1
    assert plain > 10


def test_a_colour_of_an_absent_thing_is_not_asked_for_by_colour(box_scene):
    """ "what colour is the green cup?" tells what it asks."""
    for _, draft in drafts(box_scene, absences.absent_question, number=300):
        assert not ("colour" in draft.text and COLOURED.search(draft.text)), draft.text


def test_a_colour_that_none_has(box_scene):
    for scene, draft in drafts(box_scene, absences.absent_colour):
        found = re.search(r"\b(\w+) (mug|ball|apple|pear|hammer|plate|block)\b", draft.text)
        if found:
            same = [thing.colour for thing in scene.things if thing.name == found[2]]
            assert same  # the thing is there
            assert found[1] not in same
            assert None not in same  # its colour might be this one


def test_a_relation_in_which_none_stands(box_scene):
    for scene, draft in drafts(box_scene, absences.absent_relation):
        if re.search(r"\b(on|in)\b", draft.text):
            continue
        assert not re.search(r"nearest|between", draft.text)
        assert len(scene.things) > 1


def test_one_more_than_there_are(box_scene):
    ranks = {"third": 3, "fourth": 4, "fifth": 5}
    for scene, draft in drafts(box_scene, absences.absent_ordinal):
        found = re.search(r"(third|fourth|fifth) (mug|ball|block) from", draft.text)
        if found:
            assert sum(thing.name == found[2] for thing in scene.things) == ranks[found[1]] - 1


def test_what_nobody_looked_for_is_not_called_absent():
    mask = np.ones((40, 40), bool)
    scene = Scene(
        np.zeros((40, 40, 3), np.uint8), (Thing("dog", mask),), vocabulary=frozenset({"dog", "cat"})
    )
    for seed in range(40):
        draft = absences.absent_category(
            Asking(Reading(scene), np.random.default_rng(seed), ("lamp", "cat", "dog"))
        )
        assert draft is None or "cat" in draft.text


def test_what_is_in_a_thing_is_not_said_to_be_absent_on_it():
    masks = np.zeros((3, 40, 120), bool)
    for k in range(3):
        masks[k, 10:30, 40 * k + 5 : 40 * k + 35] = True
    things = (Thing("ball", masks[0]), Thing("pan", masks[1]), Thing("cup", masks[2]))
    scene = Scene(np.zeros((40, 120, 3), np.uint8), things, ((0, "in", 1),), "side")
    found = [
        absences.absent_relation(Asking(Reading(scene), np.random.default_rng(k), ())) for k in range(400)
    ]
    texts = {draft.text for draft in found if draft}
    assert any("cup on the pan" in text for text in texts)
    assert not any(f"ball {word} the pan" in text for text in texts for word in ("on", "on top of", "in"))
