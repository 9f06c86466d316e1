from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ivm.data.scene import Scene, Thing
from ivm.errors import InputError

IMAGE = np.zeros((20, 30, 3), np.uint8)


def mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    found = np.zeros((20, 30), bool)
    found[y0:y1, x0:x1] = True
    return found


def test_geometry_is_read_off_the_mask() -> None:
    thing = Thing("mug", mask(3, 5, 9, 15), affordances={"container"})
    assert thing.box == (3, 5, 9, 15)
    assert thing.area == 60
    assert thing.centre == (5.5, 9.5)
    assert thing.affordances == frozenset({"container"})


@given(arrays.arrays(bool, (7, 9)).filter(np.any))
def test_box_and_centre_of_any_mask(found: np.ndarray) -> None:
    thing = Thing("blob", found)
    rows, columns = np.nonzero(found)
    assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert thing.centre == pytest.approx((columns.mean(), rows.mean()))
    assert thing.area == len(rows)


@given(st.booleans())
def test_a_mask_that_is_a_view_works_too(flip: bool) -> None:
    whole = np.zeros((40, 60), bool)
    whole[4:8, 6:20] = True
    view = whole[::-1] if flip else whole[2:, 3:]
    rows, columns = np.nonzero(view)
    assert Thing("blob", view).box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_related_lists_the_objects_of_a_relation() -> None:
    things = [
        Thing("mug", mask(0, 0, 5, 5)),
        Thing("plate", mask(5, 5, 9, 9)),
        Thing("table", mask(9, 9, 20, 20)),
    ]
    scene = Scene(IMAGE, things, [(0, "on", 1), (1, "on", 2), (0, "left of", 2)], "side")
    assert scene.related(0, "on") == (1,)
    assert scene.related(0, "left of") == (2,)
    assert scene.related(2, "on") == ()
    assert isinstance(scene.things, tuple)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", mask(0, 0, 1, 1)), "name"),
        (("mug", np.zeros((20, 30), bool)), "at least one pixel"),
        (("mug", np.ones((20, 30), np.uint8)), "boolean"),
        (("mug", np.ones(20, bool)), "boolean"),
    ],
)
def test_things_must_be_well_formed(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Thing(*arguments)


def test_unknown_affordances_are_refused() -> None:
    with pytest.raises(InputError, match="edible"):
        Thing("mug", mask(0, 0, 1, 1), affordances={"drinkable"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((20, 30), np.uint8)}, "image"),
        ({"view": "above"}, "view"),
        ({"things": [Thing("mug", np.ones((5, 5), bool))]}, "like its image"),
        ({"relations": [(0, "under", 1)]}, "under"),
        ({"relations": [(0, "on", 2)]}, "join two"),
        ({"relations": [(0, "on", 0)]}, "join two"),
    ],
)
def test_scenes_must_be_well_formed(changes: dict, message: str) -> None:
    good = {"image": IMAGE, "things": [Thing("mug", mask(0, 0, 5, 5)), Thing("cup", mask(5, 5, 9, 9))]}
    Scene(**good)
    with pytest.raises(InputError, match=message):
        Scene(**(good | changes))
