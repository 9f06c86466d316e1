"""A scene made ready for asking: predicates over its things, in three values.

A predicate is evaluated on every thing as 1 true, 0 false, or 0.5 not known or a matter of taste (Kleene's
logic: "and" is the minimum, "not" is 1 - x). An expression may be used only where no thing is at 0.5.
Method: ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ivm.data.scene import Scene
from ivm.data.words import might_be, synonyms_of

__all__ = ["GENERIC", "Reading", "called"]

GENERIC = ("object", "thing", "item")
TABLETOP_VIEWS = frozenset({"side", "wrist", "top"})

_MIN_AREA = 0.0006  # share of the picture that a target must show, about 40 pixels of 256 x 256
_STEP = 0.07  # centres must differ by this share of the picture for "leftmost" and the like
_AREA_STEP = 1.5  # areas by this factor for "biggest"
_DEPTH_STEP = 1.06  # distances by this factor for "closest"
_RUNNER_UP = 0.75  # "nearest to": distance at most this share of the next one's

# Neighbouring colour words: read off pixels under unknown light, either may be said.
_CLOSE_COLOURS = {
    frozenset(pair)
    for pair in (
        ("red", "orange"),
        ("red", "pink"),
        ("red", "brown"),
        ("orange", "yellow"),
        ("orange", "brown"),
        ("yellow", "green"),
        ("yellow", "brown"),
        ("blue", "purple"),
        ("purple", "pink"),
        ("pink", "orange"),
        ("grey", "white"),
        ("grey", "black"),
        ("black", "brown"),
        ("grey", "brown"),
        ("green", "blue"),
        ("yellow", "white"),
        ("blue", "grey"),
        ("green", "grey"),
        ("black", "blue"),
        ("black", "green"),
        ("black", "purple"),
        ("pink", "white"),
        ("turquoise", "blue"),
        ("turquoise", "green"),
        ("silver", "grey"),
        ("silver", "white"),
        ("beige", "white"),
        ("beige", "brown"),
        ("beige", "yellow"),
        ("beige", "grey"),
        ("beige", "pink"),
        ("gold", "yellow"),
        ("gold", "brown"),
        ("gold", "orange"),
        ("beige", "orange"),
        ("silver", "black"),
        ("gold", "beige"),
        ("silver", "beige"),
        ("turquoise", "grey"),
    )
}

_REVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "behind": "in front of",
    "in front of": "behind",
}


class Reading:
    """A scene made ready for asking: predicates, each a float [N] of 1, 0 and 0.5 over its things."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things
        self.count = len(scene.things)
        self.height, self.width = scene.image.shape[:2]
        self.tabletop = scene.view in TABLETOP_VIEWS
        # "everything", "the object" can be said
        self.complete = scene.vocabulary is None or (self.tabletop and self.knows("object"))
        limit = _MIN_AREA * self.height * self.width
        self.visible = np.array([thing.area >= limit for thing in self.things], bool)
        self._nouns: dict[str, np.ndarray] = {}
        self._related: dict[tuple[str, int], set[int]] = {}
        for subject, word, object_ in scene.relations:
            self._related.setdefault((word, object_), set()).add(subject)

    @cached_property
    def centres(self) -> np.ndarray:
        """float [N, 2]: (x, y) of each centre as shares of the picture."""
        return np.array([thing.centre for thing in self.things]).reshape(-1, 2) / (self.width, self.height)

    @cached_property
    def single(self) -> np.ndarray:
        """bool [N]: one thing, not scenery, not a mask of several."""
        return np.array([thing.is_thing and thing.instance for thing in self.things], bool)

    @cached_property
    def several(self) -> np.ndarray:
        """bool [N]: the mask covers all of its name, so that where each one is cannot be told."""
        return np.array([not thing.instance for thing in self.things], bool)

    @cached_property
    def askable(self) -> list[int]:
        """Things that show enough to be a target."""
        return [i for i in range(self.count) if self.visible[i]]

    def knows(self, noun: str) -> bool:
        """Whether every thing that `noun` is true of is certain to be in the scene."""
        return self.scene.vocabulary is None or noun in self.scene.vocabulary

    def nouns_of(self, i: int) -> list[str]:
        """The nouns by which thing `i` may be called here, its name first; empty if none may."""
        thing = self.things[i]
        return [noun for noun in (thing.name, *thing.synonyms) if self.knows(noun)]

    def noun(self, word: str) -> np.ndarray:
        """Which things may be called `word`; "object" and the like are true of every single thing."""
        if word not in self._nouns:
            if word in GENERIC:
                truth = np.array([1.0 if t.is_thing else 0.0 for t in self.things])
                if not self.complete:
                    truth[:] = 0.5
            else:
                truth = np.array([called(t.name, t.synonyms, word) for t in self.things])
                if not self.knows(word):
                    truth = np.maximum(truth, 0.5)
            truth.flags.writeable = False
            self._nouns[word] = truth
        return self._nouns[word]

    def colour(self, word: str) -> np.ndarray:
        """Which things are of this colour; uncertain where the colour is unknown or a neighbouring one."""
        return np.array([_same_colour(thing.colour, word) for thing in self.things])

    def quality(self, attribute: str, word: str) -> np.ndarray:
        """Which things have `word` as their "size", "material" or "pattern"."""
        unknown = 0.0 if attribute == "pattern" and self.tabletop else 0.5
        values = [getattr(thing, attribute) for thing in self.things]
        return np.array([unknown if value is None else float(value == word) for value in values])

    def related(self, word: str, landmark: int) -> np.ndarray:
        """Which things stand in relation `word` to the thing `landmark`."""
        stated = self._related.get((word, landmark), set())
        reverse = self._related.get((_REVERSE.get(word, ""), landmark), set())
        truth = np.full(self.count, 0.5)
        truth[~self.single & ~self.several] = 0.0  # scenery is nowhere in particular
        if word in ("on", "in") and self.tabletop:
            truth[:] = 0.0
            # In the tray or on it? On the plate, or on what is on it?
            truth[list(self._carried(landmark))] = 0.5
        elif word in ("left of", "right of", "above", "below"):
            axis = 0 if word in ("left of", "right of") else 1
            ahead = self.centres[:, axis] - self.centres[landmark, axis]
            truth[ahead >= 0 if word in ("left of", "above") else ahead <= 0] = 0.0
        elif word == "near":
            away = np.abs(self.centres - self.centres[landmark]).max(axis=1)
            truth[away > 0.45] = 0.0
        elif word in ("behind", "in front of"):
            mine = self.things[landmark].depth
            for i, thing in enumerate(self.things):
                known = mine is not None and thing.depth is not None
                if known and (thing.depth <= mine) == (word == "behind"):  # type: ignore[operator]
                    truth[i] = 0.0
        for i in reverse:
            truth[i] = 0.0
        truth[self.several] = 0.5
        for i in stated:
            truth[i] = 1.0
        truth[landmark] = 0.0
        return truth

    def _carried(self, landmark: int) -> set[int]:
        """What rests on or in the thing `landmark`, or on or in something that does."""
        found: set[int] = set()
        bearers = [landmark]
        while bearers:
            bearer = bearers.pop()
            more = self._related.get(("on", bearer), set()) | self._related.get(("in", bearer), set())
            bearers += more - found
            found |= more
        return found

    def extreme(self, among: np.ndarray, values: np.ndarray, step: float) -> np.ndarray:
        """Which of the things `among` has the largest of `values` [N] by `step` or more; 0.5 if unclear."""
        if (among == 0.5).any():
            return np.full(self.count, 0.5)
        mine = np.flatnonzero(among == 1)
        if len(mine) < 2 or self.several[mine].any():
            return np.full(self.count, 0.5)
        order = mine[np.argsort(values[mine], kind="stable")]
        truth = np.zeros(self.count)
        if values[order[-1]] - values[order[-2]] < step:
            truth[mine] = 0.5
        else:
            truth[order[-1]] = 1.0
        return truth

    def biggest(self, among: np.ndarray, sign: int) -> np.ndarray:
        """Which of `among` is the biggest (1) or smallest (-1): on a tabletop by size word, else by area."""
        if self.tabletop:
            sizes = [thing.size for thing in self.things]
            word = "large" if sign > 0 else "small"
            mine = np.flatnonzero(among > 0)
            known = all(sizes[i] for i in mine)
            truth = np.array([float(among[i] == 1 and sizes[i] == word) for i in range(self.count)])
            return truth if known and truth.sum() == 1 else np.full(self.count, 0.5)
        areas = np.log([thing.area for thing in self.things])
        return self.extreme(among, sign * areas, float(np.log(_AREA_STEP)))

    def closest(self, among: np.ndarray, sign: int) -> np.ndarray:
        """Which of `among` is closest to the camera (sign 1) or furthest (-1); 0.5 where depth is unknown."""
        depths = [thing.depth for thing in self.things]
        if any(depths[i] is None or depths[i] <= 0 for i in np.flatnonzero(among > 0)):  # type: ignore[operator]
            return np.full(self.count, 0.5)
        logs = np.array([-np.log(depth) if depth else 0.0 for depth in depths])
        return self.extreme(among, sign * logs, float(np.log(_DEPTH_STEP)))

    def nearest(self, among: np.ndarray, landmark: int) -> np.ndarray:
        """Which of `among` is nearest to the thing `landmark`."""
        unknown = np.full(self.count, 0.5)
        if (among == 0.5).any():
            return unknown
        mine = [int(i) for i in np.flatnonzero(among == 1) if i != landmark]
        if len(mine) < 2 or self.several[mine].any():
            return unknown
        truth = np.zeros(self.count)
        stated = self._related.get(("nearest", landmark), set())
        for i in mine:
            if i in stated:
                truth[i] = 1.0
                return truth
        if self.scene.view in ("side", "wrist"):
            return unknown
        shape = np.array([self.width, self.height], float)
        distances = np.hypot(*((self.centres[mine] - self.centres[landmark]) * shape).T)
        order = np.argsort(distances, kind="stable")
        if distances[order[0]] > _RUNNER_UP * distances[order[1]]:
            return unknown
        truth[mine[int(order[0])]] = 1.0
        return truth

    def within(self, column: str, row: str) -> np.ndarray:
        """Which things are in a part of the picture: "left", "middle", "right" or ""; "top" ... or ""."""
        truth = np.ones(self.count)
        for axis, word in ((0, column), (1, row)):
            place = self.centres[:, axis]
            if word == "middle":
                part = np.select([np.abs(place - 0.5) < 0.13, np.abs(place - 0.5) < 0.25], [1.0, 0.5], 0.0)
            elif word:
                place = place if word in ("left", "top") else 1 - place
                part = np.select([place < 0.36, place < 0.52], [1.0, 0.5], 0.0)
            else:
                continue
            truth = np.minimum(truth, part)
        truth[self.several] = 0.5
        return truth

    def between(self, one: int, two: int) -> np.ndarray:
        """Which things lie between two others in the picture."""
        shape = np.array([self.width, self.height], float)
        start, end = self.centres[one] * shape, self.centres[two] * shape
        way = end - start
        length = float(np.hypot(*way)) or 1.0
        offset = self.centres * shape - start
        along = offset @ way / length**2
        aside = np.abs(offset[:, 0] * way[1] - offset[:, 1] * way[0]) / length**2
        truth = np.where((along > -0.1) & (along < 1.1) & (aside < 0.6), 0.5, 0.0)
        truth[(along > 0.25) & (along < 0.75) & (aside < 0.15)] = 1.0
        truth[self.several] = 0.5
        truth[[one, two]] = 0.0
        return truth

    def settle(self, truth: np.ndarray, allow_class: bool = True) -> tuple[int, ...] | None:
        """The things of which an expression is true, if that is certain and they can be seen; else None."""
        if (truth == 0.5).any():
            return None
        targets = np.flatnonzero(truth == 1)
        if not self.visible[targets].all():
            return None
        if not allow_class and not self.single[targets].all():
            return None
        return tuple(int(i) for i in targets)


def called(name: str, synonyms: Sequence[str], word: str) -> float:
    """Whether a thing may be called `word`: 1 yes, 0 no, 0.5 not known.

    Args:
        name: the thing's.
        synonyms: other nouns that are true of it, as in `ivm.data.scene.Thing`.
        word: a noun.
    """
    if word == name or word in synonyms:
        return 1.0
    doubtful = might_be(name, word) or any(might_be(other, word) for other in synonyms_of(name))
    return 0.5 if doubtful or word in synonyms_of(name) else 0.0


def _same_colour(mine: str | None, word: str) -> float:
    if mine is None:
        return 0.5
    if mine == word:
        return 1.0
    return 0.5 if frozenset((mine, word)) in _CLOSE_COLOURS else 0.0
