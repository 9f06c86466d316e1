"""How the things of a tabletop scene stand to each other, from their places and the camera's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ivm.data.scene import Relation, Thing
from ivm.data.tabletop.arranging import Item
from ivm.data.tabletop.stage import Camera

__all__ = ["NEAR", "spatial_relations"]

NEAR = 0.05
"""Metres between the outsides of two things that stand near each other."""

_CLEARLY = 1.25  # how much further the second nearest thing must be


def spatial_relations(
    items: Sequence[Item], things: Sequence[Thing], shown: Sequence[int], camera: Camera, table: int | None
) -> tuple[Relation, ...]:
    """Every relation among the nameable things.

    "on" and "in" come from the contacts; "near" and "nearest" from distances in space; "behind" and
    "in front of" from the distance to the camera along the table, given only where the camera looks along
    it; "left of", "right of", "above" and "below" from the picture.

    Args:
        items: all items of the arrangement.
        things: the nameable ones first, in the order of `shown`.
        shown: index in `items` of each of these.
        camera: from where they are seen; its picture is upright.
        table: index of the table among `things`, or None.
    """
    index = {item: thing for thing, item in enumerate(shown)}
    found: list[Relation] = []
    for thing, item in enumerate(shown):
        support = items[item].support
        if support in index:
            found.append((thing, "in" if items[item].inside else "on", index[support]))
        elif support < 0 and table is not None:
            found.append((thing, "on", table))
    count = len(shown)
    if count < 2:
        return tuple(found)
    piles = [_pile(items, item) for item in shown]
    centres = np.array([items[item].centre for item in shown])
    radii = np.array([items[item].extent for item in shown])
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    looking = -camera.rotation[:, 2]
    flat = looking[:2] / max(float(np.linalg.norm(looking[:2])), 1e-9)
    along_table = abs(looking[2]) < 0.88  # steeper, and nothing is behind anything
    depth, side = centres[:, :2] @ flat, centres[:, :2] @ np.array([flat[1], -flat[0]])
    x = np.array([things[i].centre[0] for i in range(count)])
    y = np.array([things[i].centre[1] for i in range(count)])
    boxes = np.array([things[i].box for i in range(count)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    for a in range(count):
        for b in range(count):
            if a == b or piles[a] == piles[b]:
                continue
            dx, dy = x[b] - x[a], y[b] - y[a]
            if dx > 0.35 * (width[a] + width[b]) and dx > abs(dy):
                found += [(a, "left of", b), (b, "right of", a)]
            if along_table:
                ahead = depth[a] - depth[b]
                if ahead > 0.7 * (radii[a] + radii[b]) and ahead > 1.2 * abs(side[a] - side[b]):
                    found += [(a, "behind", b), (b, "in front of", a)]
            elif dy > 0.35 * (height[a] + height[b]) and dy > abs(dx):
                found += [(a, "above", b), (b, "below", a)]
            if distance[a, b] - radii[a] - radii[b] < NEAR:
                found.append((a, "near", b))
        others = [b for b in range(count) if piles[b] != piles[a]]
        if len(others) >= 2:
            order = sorted(others, key=lambda b: distance[a, b])
            if distance[a, order[1]] > _CLEARLY * distance[a, order[0]]:
                found.append((order[0], "nearest", a))
    return tuple(found)


def _pile(items: Sequence[Item], item: int) -> int:
    """The lowest item of the pile that an item belongs to."""
    while items[item].support >= 0:
        item = items[item].support
    return item
