"""How things stand to each other in a picture, read off their masks: for collages and photos.

Only what is plain to see is stated; between "left of" and "not left of" there is a margin where nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ivm.data.scene import Relation, Thing

__all__ = ["NEAR_GAP", "picture_relations", "size_words"]

NEAR_GAP = 0.08
"""Two things are near if the gap between their boxes is at most this share of the picture's longer side."""

_CLEAR = 0.05  # centres differ by this share of the picture before left, right, above or below is stated
_NEAREST = 0.75  # the nearest thing's gap between centres is at most this share of the runner-up's


def picture_relations(
    things: Sequence[Thing], shape: tuple[int, int], occlusions: Sequence[tuple[int, int]] = ()
) -> tuple[Relation, ...]:
    """Relations in the picture plane between the single things of a scene.

    A is left of B if its centre is, clearly, and more sideways than up or down, and A's box ends before B's
    centre; the others likewise. Masks that cover several things, and what is no thing, take no part.

    Args:
        things: the scene's.
        shape: (H, W) of the picture.
        occlusions: (front, back) pairs: `front` hides a part of `back`.

    Returns:
        Relations of `ivm.data.scene.RELATIONS`, indices into `things`.
    """
    height, width = shape
    longest = max(shape)
    single = [i for i, thing in enumerate(things) if thing.instance and thing.is_thing]
    found: list[Relation] = []
    hidden = {frozenset(pair) for pair in occlusions}
    for front, back in occlusions:
        if things[front].is_thing and things[back].is_thing:
            found += [(front, "in front of", back), (back, "behind", front)]
    if len(single) < 2:
        return tuple(found)
    centres = np.array([things[i].centre for i in single])
    boxes = np.array([things[i].box for i in single], float)
    for a, i in enumerate(single):
        for b in range(a + 1, len(single)):
            j = single[b]
            if frozenset((i, j)) in hidden:
                continue
            dx, dy = centres[b] - centres[a]
            if abs(dx) >= _CLEAR * width and abs(dx) > abs(dy):
                left, right = (a, b) if dx > 0 else (b, a)
                if boxes[left, 2] <= centres[right, 0] and boxes[right, 0] >= centres[left, 0]:
                    found += [
                        (single[left], "left of", single[right]),
                        (single[right], "right of", single[left]),
                    ]
            elif abs(dy) >= _CLEAR * height and abs(dy) > abs(dx):
                top, low = (a, b) if dy > 0 else (b, a)
                if boxes[top, 3] <= centres[low, 1] and boxes[low, 1] >= centres[top, 1]:
                    found += [(single[top], "above", single[low]), (single[low], "below", single[top])]
    gaps_x = np.maximum(boxes[:, None, 0], boxes[None, :, 0]) - np.minimum(
        boxes[:, None, 2], boxes[None, :, 2]
    )
    gaps_y = np.maximum(boxes[:, None, 1], boxes[None, :, 1]) - np.minimum(
        boxes[:, None, 3], boxes[None, :, 3]
    )
    gaps = np.hypot(np.maximum(gaps_x, 0), np.maximum(gaps_y, 0))
    for a, b in zip(*np.nonzero(np.triu(gaps <= NEAR_GAP * longest, 1)), strict=True):
        found += [(single[a], "near", single[b]), (single[b], "near", single[a])]
    distances = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    np.fill_diagonal(distances, np.inf)
    for b, j in enumerate(single):
        order = np.argsort(distances[:, b], kind="stable")
        first, second = distances[order[0], b], distances[order[1], b] if len(single) > 2 else np.inf
        if first <= _NEAREST * second:
            found.append((single[int(order[0])], "nearest", j))
    return tuple(found)


def size_words(names: Sequence[str], areas: Sequence[int], ratio: float = 1.7) -> list[str | None]:
    """ "small" or "large" among things of one name, or None: only where one clear step parts the sizes.

    Args:
        names: of each thing.
        areas: visible pixels of each.
        ratio: the step between the largest small and the smallest large one.
    """
    words: list[str | None] = [None] * len(names)
    for name in dict.fromkeys(names):
        mine = sorted((i for i, other in enumerate(names) if other == name), key=lambda i: areas[i])
        if len(mine) < 2:
            continue
        steps = [areas[b] / max(1, areas[a]) for a, b in pairwise(mine)]
        split = int(np.argmax(steps))
        spread = [steps[k] for k in range(len(steps)) if k != split]
        if steps[split] >= ratio and all(step < ratio for step in spread):
            for k, i in enumerate(mine):
                words[i] = "small" if k <= split else "large"
    return words
