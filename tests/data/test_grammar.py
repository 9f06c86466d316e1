from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivm.data.grammar import instructions_for, name_instructions
from ivm.data.kinds import GROUPS, KINDS, SOUNDS_LIKE
from ivm.data.scene import Scene
from ivm.errors import OptionError

OTHERS = ("mug", "giraffe", "fork", "jeans", "ball", "apple", "plate", "guitar")


def make(scene, seed, **options):
    return instructions_for(scene, np.random.default_rng(seed), others=OTHERS, **options)


def test_there_are_at_least_forty_kinds_in_every_group():
    assert len(KINDS) >= 40
    assert {kind.group for kind in KINDS.values()} == set(GROUPS)
    assert sum(GROUPS.values()) == pytest.approx(1.0)
    assert all(kind.asks and kind.example for kind in KINDS.values())
    assert len({kind.example for kind in KINDS.values()}) == len(KINDS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), view=st.sampled_from(["photo", "side", "top"]))
def test_an_instruction_carries_its_targets(box_scene, seed, view):
    scene = box_scene(seed, view)
    found = make(scene, seed, count=6)
    assert len({item.text for item in found}) == len(found)
    for item in found:
        assert item.kind in KINDS
        assert (KINDS[item.kind].group == "absent") == (not item.mask.any())
        assert item.targets == tuple(sorted(set(item.targets)))
        if item.kind == "part":
            continue
        assert item.target_names == tuple(scene.things[i].name for i in item.targets)
        union = np.any([scene.things[i].mask for i in item.targets], axis=0) if item.targets else False
        assert (item.mask == union).all()
        assert item.mask.dtype == bool


def test_english_is_clean(box_scene):
    texts = []
    for seed in range(120):
        texts += [
            i.text for i in make(box_scene(seed, ("photo", "side")[seed % 2]), seed, count=6, noise=0.0)
        ]
    assert len(texts) > 600
    for text in texts:
        assert not re.search(r"  |[{}]|\bNone\b|\?\.|\.\.|\bthe the\b", text), text
        assert not re.search(r"\ba [aeio]\w", text.lower()), text
        assert not re.search(r"\ban [^aeiouh]", text.lower()), text
        assert not re.search(r"\b(is|has|does) the \w*(jeans|scissors)\b", text), text
        assert text == text.strip()
        assert text.count('"') % 2 == 0


def test_the_same_dice_say_the_same(box_scene):
    scene = box_scene(3)
    assert [i.text for i in make(scene, 5, count=8)] == [i.text for i in make(scene, 5, count=8)]
    assert [i.text for i in make(scene, 5, count=8)] != [i.text for i in make(scene, 6, count=8)]


def test_only_the_kinds_asked_for(box_scene):
    for seed in range(20):
        for item in make(box_scene(seed), seed, kinds=("colour", "count"), count=5):
            assert item.kind in ("colour", "count")


def test_every_kind_is_made_somewhere(box_scene):
    missing = set(KINDS) - {"inside", "depth"}  # boxes lie in nothing and hide nothing
    for seed in range(400):
        scene = box_scene(seed, "side")
        for kind in sorted(missing):
            missing -= {item.kind for item in make(scene, seed, kinds=(kind,))}
        if not missing:
            break
    assert not missing


def test_shares_of_groups_are_kept_roughly(box_scene):
    counts = dict.fromkeys(GROUPS, 0)
    for seed in range(150):
        for item in make(box_scene(seed, "side"), seed, count=4):
            counts[KINDS[item.kind].group] += 1
    total = sum(counts.values())
    for group, share in GROUPS.items():
        assert 0.35 * share < counts[group] / total < 2.2 * share, group


def test_a_contrast_is_of_the_same_kind_and_names_and_means_others(box_scene):
    def pairs(contrast):
        found = []
        for seed in range(60):
            mine = make(
                box_scene(seed, "side"), seed, kinds=("colour", "side", "pick"), count=4, contrast=contrast
            )
            assert len(mine) <= 4
            found += [
                (a, b)
                for a, b in itertools.pairwise(mine)
                if a.kind == b.kind and a.target_names == b.target_names and a.targets != b.targets
            ]
        return found

    without, often = pairs(0.0), pairs(1.0)
    assert len(often) > 2 * len(without) > 0
    assert any("left" in a.text and "right" in b.text for a, b in often)


def test_no_sound_tells_that_a_target_is_absent(box_scene):
    """Of the instructions that sound like a kind, some ask in vain and most do not."""
    assert set(SOUNDS_LIKE) == {name for name, kind in KINDS.items() if kind.group == "absent"}
    counts = Counter()
    for seed in range(500):
        counts.update(item.kind for item in make(box_scene(seed, "side"), seed, count=4))
    shares = {
        vain: counts[vain] / (counts[vain] + sum(counts[kind] for kind in like))
        for vain, like in SOUNDS_LIKE.items()
    }
    assert all(0.05 < share < 0.4 for share in shares.values()), shares


def test_weights_decide_which_kind_of_a_group_comes(box_scene, monkeypatch):
    scene = box_scene(3, "side")
    monkeypatch.setitem(KINDS, "every", replace(KINDS["every"], weight=1e6))
    kinds = [make(scene, seed, kinds=("category", "every"))[0].kind for seed in range(30)]
    assert set(kinds) == {"every"}


def test_an_empty_scene_has_nothing_to_ask_but_parts_of_it_and_what_is_absent():
    found = make(Scene(np.zeros((50, 50, 3), np.uint8), ()), 0, count=5)
    assert found
    assert all(KINDS[item.kind].group == "absent" or item.kind == "part" for item in found)


def test_an_unknown_kind_is_told(box_scene):
    with pytest.raises(OptionError, match="colr"):
        make(box_scene(0), 0, kinds=("colr",))


def table():
    """The table of kinds in the documentation, as `KINDS` has it."""
    lines = ["| group | kind | asks for | example |", "|---|---|---|---|"]
    for name, kind in KINDS.items():
        lines.append(f"| {kind.group} | {name} | {kind.asks} | {kind.example} |")
    return "\n".join(lines)


def test_the_page_lists_the_kinds_as_they_are():
    page = Path(__file__).parents[2] / "docs" / "synthesis.md"
    assert table() in page.read_text(encoding="utf-8"), f"put this table into {page.name}:\n{table()}"


def test_every_name_is_asked_for_once_with_all_that_bear_it(box_scene):
    cups = box_scene(3, "photo")
    asked = name_instructions(cups, np.random.default_rng(0), polite=0.0, noise=0.0)
    assert [one.kind for one in asked] == ["category"] * len({thing.name for thing in cups.things})
    for one in asked:
        named = set(one.target_names)
        assert {i for i, thing in enumerate(cups.things) if thing.name in named} <= set(one.targets)
        union = np.logical_or.reduce([cups.things[i].mask for i in one.targets])
        assert (one.mask == union).all()
    again = name_instructions(cups, np.random.default_rng(0), polite=0.0, noise=0.0)
    assert [one.text for one in again] == [one.text for one in asked]
