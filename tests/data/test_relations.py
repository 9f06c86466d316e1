from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ivm.data.relations import picture_relations, size_words
from ivm.data.scene import Thing

REVERSE = {"left of": "right of", "above": "below", "near": "near", "behind": "in front of"}


def thing(x0, y0, x1, y1, **options):
    mask = np.zeros((100, 100), bool)
    mask[y0:y1, x0:x1] = True
    return Thing("block", mask, **options)


def test_left_above_near_and_nearest():
    things = [thing(5, 40, 15, 50), thing(20, 40, 30, 50), thing(80, 42, 90, 52), thing(21, 80, 31, 90)]
    found = set(picture_relations(things, (100, 100)))
    assert {
        (0, "left of", 1),
        (1, "right of", 0),
        (0, "left of", 2),
        (1, "above", 3),
        (3, "below", 1),
    } <= found
    assert {(0, "near", 1), (1, "near", 0), (0, "nearest", 1), (1, "nearest", 0)} <= found
    assert not any(word == "near" and 2 in (a, b) for a, word, b in found)


def test_nothing_is_said_in_the_margin():
    diagonal = picture_relations([thing(10, 10, 20, 20), thing(40, 40, 50, 50)], (100, 100))
    assert {word for _, word, _ in diagonal} <= {"nearest"}
    close = picture_relations([thing(10, 10, 50, 20), thing(12, 11, 54, 21)], (100, 100))
    assert {word for _, word, _ in close} <= {"nearest", "near"}


def test_classes_and_scenery_take_no_part():
    things = [
        thing(5, 40, 15, 50),
        thing(60, 40, 70, 50, instance=False),
        thing(80, 40, 90, 50, is_thing=False),
    ]
    assert picture_relations(things, (100, 100)) == ()


def test_what_is_hidden_is_behind():
    things = [thing(10, 10, 40, 40), thing(30, 10, 60, 40)]
    found = picture_relations(things, (100, 100), [(1, 0)])
    assert (1, "in front of", 0) in found
    assert (0, "behind", 1) in found
    assert not {"left of", "right of"} & {word for _, word, _ in found}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(3, 19)), min_size=2, max_size=7)
)
def test_relations_agree_with_their_reverse(boxes):
    things = [thing(x, y, x + side, y + side) for x, y, side in boxes]
    found = set(picture_relations(things, (100, 100)))
    for a, word, b in found:
        assert a != b
        if word in REVERSE:
            assert (b, REVERSE[word], a) in found
    for b in range(len(things)):
        assert sum(word == "nearest" and o == b for _, word, o in found) <= 1


def test_sizes_need_one_clear_step():
    assert size_words(["cup", "cup", "ball"], [100, 300, 50]) == ["small", "large", None]
    assert size_words(["cup", "cup"], [100, 120]) == [None, None]
    assert size_words(["cup"] * 3, [100, 250, 600]) == [None] * 3  # three sizes: neither small nor large
    assert size_words(["cup"] * 4, [100, 110, 400, 420]) == ["small", "small", "large", "large"]
