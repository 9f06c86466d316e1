from __future__ import annotations

import re

import numpy as np

from ivm.data.drafts import Asking
from ivm.data.questions import (
    ask_about,
    compare,
    compare_count,
    count,
    exists_category,
    exists_colour,
    exists_relation,
    exists_text,
    what_is,
)
from ivm.data.reading import Reading


def drafts(box_scene, make, number=150, view="photo"):
    for seed in range(number):
        scene = box_scene(seed, view)
        draft = make(Asking(Reading(scene), np.random.default_rng(seed), ()))
        if draft:
            yield scene, draft


def test_moods_follow_the_question_mark(box_scene):
    for make in (count(False), exists_category, ask_about("what colour {be} {x}?", "name the colour of {x}")):
        for _, draft in drafts(box_scene, make, 60):
            assert draft.mood == ("question" if draft.text.endswith("?") else "command")


def test_counting_needs_every_one(box_scene):
    found = list(drafts(box_scene, count(coloured=True)))
    assert found
    for scene, draft in found:
        colour = re.search(r"(red|green|blue|yellow)", draft.text)[1]
        names = {scene.things[i].name for i in draft.targets}
        assert {scene.things[i].colour for i in draft.targets} == {colour}
        same = [t for t in scene.things if t.name in names and t.colour == colour]
        assert len(draft.targets) >= len(same)


def test_existence_is_answered_yes_by_the_targets(box_scene):
    for make in (exists_category, exists_colour):
        found = list(drafts(box_scene, make))
        assert found
        assert all(draft.targets and draft.text.endswith("?") for _, draft in found)


def test_existence_in_a_relation_needs_both(box_scene):
    found = list(drafts(box_scene, exists_relation))
    assert found
    for scene, draft in found:
        *subjects, landmark = draft.targets
        words = {word for s, word, o in scene.relations if s in subjects and o == landmark}
        assert words, draft.text


def test_articles_and_numbers():
    ask = Asking(None, np.random.default_rng(0), ())
    texts = {exists_text(noun, "", ask) for noun in ("apple", "jeans", "grass", "cup") for _ in range(40)}
    assert {"is there an apple?", "are there any jeans?", "is there any grass?", "is there a cup?"} <= texts
    assert "can you see an orange cup?" in {exists_text("cup", "orange", ask) for _ in range(40)}


def test_what_is_there_takes_everything_that_is_there(box_scene):
    found = list(drafts(box_scene, what_is, 200, "side"))
    assert found
    for scene, draft in found:
        *answers, landmark = draft.targets
        assert any(
            {s for s, w, o in scene.relations if (w, o) == (word, landmark)} >= set(answers)
            for word in ("on", "left of", "right of", "above", "below")
        )
    texts = [draft.text for _, draft in found]
    assert any("to the left of" in text for text in texts)
    assert not [text for text in texts if re.search("(?<!to the )left of", text)]  # what remains of it?


def test_comparisons_have_two_sides(box_scene):
    found = list(drafts(box_scene, compare("which is bigger, {a} or {b}?")))
    assert found
    assert all(len(set(draft.targets)) == 2 for _, draft in found)
    nothing = list(drafts(box_scene, compare("which is closer, {a} or {b}?", attribute="depth")))
    assert not nothing  # photos have no depth
    assert list(drafts(box_scene, compare("which is closer, {a} or {b}?", attribute="depth"), view="side"))


def test_a_question_of_colour_does_not_tell_it(box_scene):
    found = list(drafts(box_scene, compare("do {a} and {b} have the same colour?", attribute="colour")))
    assert found
    assert not any(re.search(r"\b(red|green|blue|yellow)\b", draft.text) for _, draft in found)


def test_counts_are_compared_between_two_names(box_scene):
    found = list(drafts(box_scene, compare_count, 400))
    assert found
    for scene, draft in found:
        assert len({scene.things[i].name for i in draft.targets}) >= 2
