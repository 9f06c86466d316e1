from __future__ import annotations

import numpy as np
import pytest

from ivm.data.drafts import REFER, Asking, candidates, frame, single, some_noun
from ivm.data.expressions import Phrase
from ivm.data.reading import Reading


def asking(scene, seed=0, others=()):
    return Asking(Reading(scene), np.random.default_rng(seed), others)


def test_candidates_can_be_seen_and_grasped(box_scene):
    for seed in range(20):
        ask = asking(box_scene(seed), seed)
        found = candidates(ask, graspable=True)
        assert len(set(found)) == len(found)
        assert all("graspable" in ask.r.things[i].affordances for i in found)
        assert set(candidates(ask)) == set(ask.r.askable)


def test_things_that_share_a_name_come_first_mostly(box_scene):
    scene = next(s for s in map(box_scene, range(90)) if [t.name for t in s.things].count("ball") == 2)
    first = [scene.things[candidates(asking(scene, seed))[0]].name for seed in range(60)]
    shared = {t.name for t in scene.things if [o.name for o in scene.things].count(t.name) > 1}
    assert sum(name in shared for name in first) > 40


def test_single_avoids_what_it_is_told(box_scene):
    for seed in range(20):
        ask = asking(box_scene(seed), seed)
        one = single(ask, ("category", "colour"))
        if one:
            two = single(ask, ("category", "colour"), avoid=one.targets)
            assert two is None or two.targets != one.targets


def test_a_noun_comes_with_all_its_things(box_scene):
    for seed in range(20):
        ask = asking(box_scene(seed), seed)
        found = some_noun(ask, 2)
        if found:
            noun, targets = found
            assert targets == tuple(i for i in range(ask.r.count) if ask.r.noun(noun)[i] == 1)
            assert len(targets) >= 2


def test_frames_agree_in_number(box_scene):
    scene = box_scene(1)
    texts = {
        frame(asking(scene, s), REFER, Phrase("the jeans", "jeans", (0,), (), True)).text for s in range(300)
    }
    assert "where are the jeans?" in texts
    assert not any(" is the jeans" in text for text in texts)
    assert {"the jeans", "jeans"} <= texts
    groups = {
        frame(asking(scene, s), REFER, Phrase("all the cups", "cup", (0,), (), True)).text for s in range(300)
    }
    assert not any("everything but all" in text for text in groups)
    assert "where are all the cups?" in groups


@pytest.mark.parametrize("text", ["everything on the left", "whatever is on the left"])
def test_a_sweeping_phrase_gets_no_frame_that_sweeps_too(box_scene, text):
    scene, phrase = box_scene(1), Phrase(text, "object", (0,), (), False)
    texts = {frame(asking(scene, seed), REFER, phrase).text for seed in range(300)}
    assert {text, f"find {text}", f"tell me about {text}"} <= texts
    assert not [said for said in texts if said.startswith(("mask", "keep", "where", "do you see", "which"))]
