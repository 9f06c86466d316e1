from __future__ import annotations

import numpy as np

from ivm.data.scene import Thing
from ivm.data.tabletop.arranging import Item
from ivm.data.tabletop.setting import look_at
from ivm.data.tabletop.spatial import spatial_relations
from ivm.data.tabletop.stage import Camera

SIDE = 100


def camera(position) -> Camera:
    return Camera(np.array(position, float), look_at(np.array(position, float), np.zeros(3)), 60.0)


def item(x: float, y: float, z: float = 0.04, support: int = -1, inside: bool = False) -> Item:
    grey = np.full(3, 0.5)
    return Item(
        "ball", 0, np.array([x, y, z]), np.eye(3), "grey", grey, grey, "plastic", -1, support, inside,
        np.array([x, y, z]), 0.04,
    )  # fmt: skip


def seen(items: list[Item], view: Camera) -> list[Thing]:
    """Things as boxes of 8 pixels where the camera sees the items, and the table as the last."""
    things = []
    for one in items:
        local = (one.centre - view.position) @ view.rotation
        focal = SIDE / 2 / np.tan(np.deg2rad(view.fovy / 2))
        x, y = int(SIDE / 2 + focal * local[0] / -local[2]), int(SIDE / 2 - focal * local[1] / -local[2])
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y - 4 : y + 4, x - 4 : x + 4] = True
        things.append(Thing("ball", mask))
    things.append(Thing("table", np.ones((SIDE, SIDE), bool), is_thing=False))
    return things


def relations(items: list[Item], view: Camera) -> set:
    return set(spatial_relations(items, seen(items, view), range(len(items)), view, len(items)))


def test_left_and_right_are_the_viewers_own() -> None:
    items = [item(-0.2, 0), item(0.2, 0)]
    front, back = relations(items, camera([0, -1, 0.5])), relations(items, camera([0, 1, 0.5]))
    assert (0, "left of", 1) in front
    assert (1, "right of", 0) in front
    assert (1, "left of", 0) in back
    assert not {r for r in front if r[1] in ("behind", "in front of")}


def test_behind_is_further_from_the_camera_and_unknown_from_above() -> None:
    items = [item(0, -0.2), item(0, 0.2)]
    side, top = relations(items, camera([0, -1, 0.5])), relations(items, camera([0, -0.01, 1]))
    assert (1, "behind", 0) in side
    assert (0, "in front of", 1) in side
    assert (1, "behind", 0) in relations(items, camera([0.2, -1, 0.5]))
    assert not {r for r in top if r[1] in ("behind", "in front of")}
    assert (1, "above", 0) in top
    assert (0, "below", 1) in top


def test_on_and_in_come_from_what_carries() -> None:
    items = [item(0, 0), item(0, 0, 0.12, support=0), item(0.3, 0), item(0.3, 0, 0.1, 2, inside=True)]
    found = relations(items, camera([0, -1, 0.5]))
    assert {(0, "on", 4), (1, "on", 0), (2, "on", 4), (3, "in", 2)} == {
        r for r in found if r[1] in ("on", "in")
    }
    assert not {r for r in found if {r[0], r[2]} == {2, 3}} - {(3, "in", 2)}  # a pile is not beside itself


def test_nearest_needs_a_clear_winner() -> None:
    clear = relations([item(0, 0), item(0.1, 0), item(0.4, 0)], camera([0, -1, 0.5]))
    assert (1, "nearest", 0) in clear
    assert (0, "near", 1) in clear
    assert (1, "near", 0) in clear
    assert (2, "near", 1) not in clear
    tie = relations([item(0, 0), item(0.2, 0), item(-0.2, 0)], camera([0, -1, 0.5]))
    assert not {r for r in tie if r[1] == "nearest" and r[2] == 0}


def test_hidden_things_have_no_relations() -> None:
    items = [item(0, 0), item(0.2, 0)]
    view = camera([0, -1, 0.5])
    things = seen(items, view)
    assert spatial_relations(items, [things[1], things[2]], [1], view, 1) == ((0, "on", 1),)
    assert spatial_relations(items, [], [], view, None) == ()
