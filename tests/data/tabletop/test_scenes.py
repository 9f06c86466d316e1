from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ivm.data.colours import COLOURS, colour_of
from ivm.data.scene import Scene
from ivm.data.tabletop import Studio, TabletopSpec, tabletop_scene, tabletop_scenes
from ivm.data.tabletop.catalogue import KINDS
from ivm.errors import OptionError

SPEC = TabletopSpec(size=96, shadows=False, block=3, min_pixels=80)


def digest(scene: Scene) -> str:
    data = [scene.image.tobytes(), *(thing.mask.tobytes() for thing in scene.things)]
    words = json.dumps([[t.name, t.colour, t.size, t.text, t.depth] for t in scene.things])
    relations = json.dumps([list(map(str, r)) for r in scene.relations])
    return hashlib.sha256(b"".join(data) + words.encode() + relations.encode()).hexdigest()


def test_a_scene_depends_on_seed_and_index_alone(opengl) -> None:
    ordered = [digest(scene) for scene in tabletop_scenes(5, 0, 7, SPEC)]
    with Studio(SPEC, 5) as studio:
        backwards = [digest(studio.scene(i)) for i in reversed(range(7))]
    assert ordered == backwards[::-1]
    assert digest(tabletop_scene(4, 5, SPEC)) == ordered[4]
    assert [digest(s) for s in tabletop_scenes(5, 3, 2, SPEC)] == ordered[3:5]
    assert len(set(ordered)) == 7
    assert digest(tabletop_scene(4, 6, SPEC)) != ordered[4]


def test_another_process_makes_the_same(opengl) -> None:
    program = (
        "import sys, json, hashlib; sys.path.insert(0, sys.argv[1]); from test_scenes import SPEC, digest;"
        "from ivm.data.tabletop import tabletop_scene; print(digest(tabletop_scene(4, 5, SPEC)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == digest(tabletop_scene(4, 5, SPEC))


def test_provenance_makes_the_scene_again(opengl) -> None:
    scene = tabletop_scene(2, 1, SPEC)
    made = json.loads(json.dumps(scene.provenance))
    again = tabletop_scene(made["index"], made["seed"], TabletopSpec.from_json(made["spec"]))
    assert digest(again) == digest(scene)


def test_scenes_are_well_formed(scenes) -> None:
    for scene in scenes:
        assert scene.image.shape == (256, 256, 3)
        total = np.sum([thing.mask for thing in scene.things], axis=0)
        assert total.max() == 1, "masks must not overlap"
        assert any(thing.is_thing for thing in scene.things)
        for thing in scene.things:
            assert thing.area >= 60
            if not thing.is_thing:
                continue
            kind = KINDS[thing.name]
            assert thing.colour is None or thing.colour in kind.colours
            assert thing.synonyms == kind.synonyms
            assert (thing.text is not None) == ("readable" in thing.affordances)
            assert thing.depth is not None
            assert 0.1 < thing.depth < 3
        named = {thing.name for thing in scene.things if thing.is_thing}
        assert named <= set(KINDS)
        assert scene.vocabulary is not None
    assert {scene.view for scene in scenes} == {"side", "top", "wrist"}
    assert any(thing.name == "gripper" for scene in scenes for thing in scene.things)


def test_scenes_are_varied(scenes) -> None:
    assert len({thing.name for scene in scenes for thing in scene.things if thing.is_thing}) > 40
    assert len({thing.colour for scene in scenes for thing in scene.things}) > 13
    words = {relation for scene in scenes for _, relation, _ in scene.relations}
    assert words == {
        "on", "in", "left of", "right of", "above", "below", "behind", "in front of", "near", "nearest"
    }  # fmt: skip
    assert {thing.size for scene in scenes for thing in scene.things} == {None, "small", "large"}
    assert any(thing.pattern for scene in scenes for thing in scene.things)
    means = np.array([scene.image.mean() for scene in scenes])
    assert means.std() > 12


def test_colours_are_true_in_the_picture(scenes) -> None:
    """A plain thing's pixels bear its colour word, or a neighbouring one where light and shade decide."""
    neighbours = {
        "white": {"grey"}, "grey": {"black", "white", "brown"}, "black": {"grey", "blue", "brown", "purple"},
        "brown": {"red", "black", "orange", "grey", "yellow"}, "orange": {"brown", "yellow", "red"},
        "yellow": {"orange", "brown", "green"}, "pink": {"purple", "red"},
        "purple": {"pink", "blue", "black"}, "red": {"brown", "pink"}, "green": {"grey", "blue"},
        "blue": {"purple", "black", "grey"},
    }  # fmt: skip
    right = close = total = 0
    for scene, thing in ((s, t) for s in scenes for t in s.things):
        if thing.colour in COLOURS and thing.pattern is None and thing.text is None and thing.area > 150:
            found = colour_of(scene.image, thing.mask, share=0.3)
            total += 1
            right += found == thing.colour
            close += found == thing.colour or found in neighbours[thing.colour]
    assert total > 100
    assert right / total > 0.7
    assert close / total > 0.92


def test_masks_follow_the_picture(scenes) -> None:
    """Edges of the picture lie on borders of masks far more often than elsewhere."""
    on_border, elsewhere = [], []
    for scene in scenes:
        labels = np.zeros((256, 256), int)
        for k, thing in enumerate(scene.things, start=1):
            labels[thing.mask] = k
        border = labels[:, 1:] != labels[:, :-1]
        step = np.abs(np.diff(scene.image.astype(int), axis=1)).sum(axis=2)
        on_border.append(np.median(step[border]))
        elsewhere.append(np.median(step[~border]))
    assert np.median(on_border) > 25 > 8 > np.median(elsewhere)


def test_pairs_can_be_held_out(opengl) -> None:
    spec = TabletopSpec(
        size=96, shadows=False, shapes=("ball", "mug"), exclude_pairs=(("ball", "red"),), patterns=0.0
    )
    with Studio(spec, 0) as studio:
        pairs = {(t.name, t.colour) for i in range(25) for t in studio.scene(i).things}
    assert ("ball", "red") not in pairs
    assert ("mug", "red") in pairs
    assert ("ball", "blue") in pairs


def test_larger_pictures_show_the_same_scene(opengl) -> None:
    small, large = (tabletop_scene(1, 0, TabletopSpec(size=n, shadows=False, robot=0.0)) for n in (128, 256))
    assert large.image.shape == (256, 256, 3)
    shrunk = large.image.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small.image).mean() < 6
    assert {(t.name, t.colour) for t in small.things} & {(t.name, t.colour) for t in large.things}


def test_all_that_shows_is_known_unless_a_thing_shows_too_little_to_be_named(opengl, monkeypatch) -> None:
    spec = TabletopSpec(size=96, shadows=False, robot=0.0, stacked=0.0, views=("side",), objects=(2, 4))
    whole = [scene.vocabulary for scene in tabletop_scenes(3, 0, 8, spec)]
    assert sum("object" in nouns for nouns in whole) > 5
    monkeypatch.setattr("ivm.data.tabletop.scenes._MIN_SHARE", 9.0)  # not even all of a thing is enough
    assert not any("object" in scene.vocabulary for scene in tabletop_scenes(3, 0, 8, spec))


def test_robots_come_as_often_as_asked(opengl) -> None:
    for share in (0.0, 1.0):
        spec = TabletopSpec(size=96, shadows=False, robot=share, views=("side",), shapes=("ball", "cup"))
        names = [{t.name for t in scene.things} for scene in tabletop_scenes(0, 0, 8, spec)]
        assert np.mean([bool(n & {"robot arm", "gripper"}) for n in names]) == pytest.approx(share, abs=0.3)
        if share == 0.0:
            assert not any(n & {"robot arm", "gripper"} for n in names)


def test_streams_are_endless_and_lazy(opengl) -> None:
    stream = tabletop_scenes(0, spec=SPEC)
    assert len(list(itertools.islice(stream, 4))) == 4
    stream.close()


@pytest.mark.parametrize(("seed", "start", "count"), [(-1, 0, 1), (0, -1, 1), (0, 0, -1), ("a", 0, 1)])
def test_wrong_numbers_are_refused(seed, start, count) -> None:
    with pytest.raises(OptionError):
        next(tabletop_scenes(seed, start, count, SPEC))


def test_a_negative_index_is_refused() -> None:
    with pytest.raises(OptionError, match="-3"), Studio(SPEC, 0) as studio:
        studio.scene(-3)
