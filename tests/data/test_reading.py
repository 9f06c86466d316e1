from __future__ import annotations

import numpy as np
import pytest

from ivm.data.reading import Reading
from ivm.data.scene import Scene, Thing


def thing(name, x0, y0, x1, y1, **options):
    mask = np.zeros((100, 100), bool)
    mask[y0:y1, x0:x1] = True
    return Thing(name, mask, **options)


def read(*things, relations=(), view="photo", vocabulary=None):
    return Reading(Scene(np.zeros((100, 100, 3), np.uint8), things, relations, view, vocabulary))


def test_nouns_in_three_values():
    r = read(
        thing("mug", 0, 0, 9, 9, synonyms=("cup",)),
        thing("bird", 20, 0, 29, 9),
        thing("tomato", 40, 0, 49, 9),
    )
    assert r.noun("cup").tolist() == [1, 0, 0]
    assert r.noun("duck").tolist() == [0, 0.5, 0]  # the bird may be one
    assert r.noun("fruit").tolist() == [0, 0, 0.5]
    assert r.noun("object").tolist() == [1, 1, 1]


def test_what_was_not_looked_for_is_never_certain():
    r = read(thing("dog", 0, 0, 9, 9, synonyms=("animal",)), vocabulary=frozenset({"dog"}))
    assert r.noun("dog").tolist() == [1]
    assert r.noun("lamp").tolist() == [0.5]
    assert r.noun("object").tolist() == [0.5]
    assert r.nouns_of(0) == ["dog"]


def test_colours_next_to_each_other_are_left_open():
    r = read(
        *(
            thing("ball", k * 10, 0, k * 10 + 9, 9, colour=c)
            for k, c in enumerate(("red", "orange", "blue", None))
        )
    )
    assert r.colour("red").tolist() == [1, 0.5, 0, 0.5]


def test_left_of_has_a_margin():
    things = [thing("a", 10, 40, 20, 50), thing("b", 60, 40, 70, 50), thing("c", 62, 80, 72, 90)]
    r = read(*things, relations=((0, "left of", 1), (1, "right of", 0)))
    assert r.related("left of", 1).tolist() == [1, 0, 0]
    assert r.related("left of", 2).tolist() == [0.5, 0.5, 0]  # further left, but nobody said so
    assert r.related("right of", 0)[1] == 1


def test_on_is_certain_on_a_tabletop_only():
    things = [thing("a", 10, 40, 20, 50), thing("b", 60, 40, 70, 50)]
    assert read(*things, view="side").related("on", 1).tolist() == [0, 0]
    assert read(*things).related("on", 1).tolist() == [0.5, 0]


def test_on_or_in_and_what_lies_on_that_is_left_open():
    """A ball in a tray may be said to be on it; one in a bowl on the tray is on the tray, and is not."""
    things = [
        thing(name, 10 * k, 40, 10 * k + 9, 50) for k, name in enumerate(("tray", "bowl", "ball", "cup"))
    ]
    r = read(*things, view="side", relations=((1, "on", 0), (2, "in", 1)))
    assert r.related("on", 0).tolist() == [0, 1, 0.5, 0]
    assert r.related("in", 0).tolist() == [0, 0.5, 0.5, 0]
    assert r.related("on", 1).tolist() == [0, 0, 0.5, 0]
    assert r.related("in", 1).tolist() == [0, 0, 1, 0]


def test_everything_is_said_of_a_tabletop_where_no_thing_was_passed_over():
    ball = thing("ball", 0, 0, 9, 9)
    for vocabulary, complete in ((None, True), ({"ball", "object"}, True), ({"ball"}, False)):
        r = read(ball, view="side", vocabulary=vocabulary and frozenset(vocabulary))
        assert r.complete == complete
        assert r.noun("object").tolist() == [1 if complete else 0.5]


def test_extremes_need_a_clear_step():
    r = read(thing("a", 0, 0, 9, 9), thing("a", 40, 0, 49, 9), thing("a", 42, 50, 51, 59))
    everything = np.ones(3)
    assert r.extreme(everything, -r.centres[:, 0], 0.07).tolist() == [1, 0, 0]
    assert r.extreme(everything, r.centres[:, 0], 0.07).tolist() == [0.5] * 3
    assert r.extreme(np.array([1, 0.5, 1]), -r.centres[:, 0], 0.07).tolist() == [0.5] * 3
    assert (
        r.extreme(np.array([1.0, 0, 0]), -r.centres[:, 0], 0.07).tolist() == [0.5] * 3
    )  # of one: no extreme


def test_biggest_goes_by_area_in_photos_and_by_size_on_tabletops():
    things = [thing("a", 0, 0, 30, 30, size="small"), thing("a", 50, 50, 60, 60, size="large")]
    assert read(*things).biggest(np.ones(2), 1).tolist() == [1, 0]
    assert read(*things, view="side").biggest(np.ones(2), 1).tolist() == [0, 1]  # nearer is not bigger


def test_closest_needs_every_depth():
    near, far = thing("a", 0, 0, 9, 9, depth=0.5), thing("a", 20, 0, 29, 9, depth=1.0)
    assert read(near, far).closest(np.ones(2), 1).tolist() == [1, 0]
    assert read(near, thing("a", 20, 0, 29, 9)).closest(np.ones(2), 1).tolist() == [0.5, 0.5]


def test_nearest_and_between():
    things = [
        thing("a", 0, 45, 10, 55),
        thing("b", 45, 45, 55, 55),
        thing("c", 90, 45, 100, 55),
        thing("b", 45, 90, 55, 100),
    ]
    r = read(*things)
    assert r.between(0, 2).tolist() == [0, 1, 0, 0.5]
    assert r.nearest(r.noun("b"), 0).tolist() == [0, 1, 0, 0]


def test_parts_of_the_picture():
    r = read(thing("a", 0, 0, 10, 10), thing("a", 45, 45, 55, 55), thing("a", 40, 0, 44, 9))
    assert r.within("left", "top").tolist() == [1, 0.5, 0.5]
    assert r.within("middle", "middle").tolist() == [0, 1, 0]


def test_settle_wants_certainty_and_something_to_see():
    r = read(thing("a", 0, 0, 20, 20), thing("a", 50, 50, 52, 52))
    assert r.settle(np.array([1.0, 0.0])) == (0,)
    assert r.settle(np.array([1.0, 0.5])) is None
    assert r.settle(np.array([1.0, 1.0])) is None  # four pixels are too few to be asked for
    assert r.settle(np.zeros(2)) == ()


@pytest.mark.parametrize(
    "call", [lambda r: r.within("left", ""), lambda r: r.between(0, 1), lambda r: r.related("near", 0)]
)
def test_where_a_class_is_cannot_be_told(call):
    r = read(thing("a", 0, 0, 9, 9), thing("b", 20, 0, 29, 9), thing("people", 40, 0, 49, 9, instance=False))
    assert call(r)[2] == 0.5
