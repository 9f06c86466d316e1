"""Referring expressions: noun phrases, and of which things of a scene they are true.

A predicate is evaluated on every thing as one of three values (Kleene's logic): 1 true, 0 false, 0.5 not
known or a matter of taste. An expression is used only where every thing is certain and the true ones are
exactly those meant: that is what keeps instructions unambiguous. Method: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ivm.data.scene import Scene
from ivm.data.words import SYNONYMS, is_mass, is_plural, might_be, plural

__all__ = ["DIRECTIONS", "STYLES", "Claim", "Phrase", "Reading", "corner_words", "describe", "relation_words"]

GENERIC = ("object", "thing", "item")
TABLETOP_VIEWS = frozenset({"side", "wrist", "top"})

_MIN_AREA = 0.0006  # share of the picture that a target must show, about 40 pixels of 256 x 256
_STEP = 0.07  # centres must differ by this share of the picture for "leftmost", "second from the left" and the like
_AREA_STEP = 1.5  # areas by this factor for "biggest"
_DEPTH_STEP = 1.06  # distances by this factor for "closest"
_RUNNER_UP = 0.75  # "nearest to": distance at most this share of the next one's

# Neighbouring colour words: read off pixels under unknown light, either may be said.
_CLOSE_COLOURS = {
    frozenset(pair)
    for pair in (
        ("red", "orange"), ("red", "pink"), ("red", "brown"), ("orange", "yellow"), ("orange", "brown"), ("yellow", "green"),
        ("yellow", "brown"), ("blue", "purple"), ("purple", "pink"), ("pink", "orange"), ("grey", "white"), ("grey", "black"),
        ("black", "brown"), ("grey", "brown"), ("green", "blue"), ("yellow", "white"), ("blue", "grey"), ("green", "grey"),
        ("black", "blue"), ("black", "green"), ("black", "purple"), ("pink", "white"),
    )
}  # fmt: skip

_RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below", "under"),
    "behind": ("behind",),
    "in front of": ("in front of",),
    "on": ("on", "on top of"),
    "in": ("in", "inside"),
    "near": ("next to", "near", "beside", "close to"),
}
_REVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "behind": "in front of",
            "in front of": "behind"}  # fmt: skip
DIRECTIONS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    # side -> axis of (x, y), sign, ways to say "the ... cup"; {n} is the noun
    "left": (0, -1, ("leftmost {n}", "{n} furthest to the left", "{n} on the far left")),
    "right": (0, 1, ("rightmost {n}", "{n} furthest to the right", "{n} on the far right")),
    "top": (1, -1, ("topmost {n}", "{n} at the very top", "highest {n} in the picture")),
    "bottom": (1, 1, ("lowest {n} in the picture", "{n} at the very bottom", "bottommost {n}")),
}
_ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass(frozen=True)
class Claim:
    """A noun phrase without its determiner, and of which things it is true.

    Attributes:
        text: "red cup on the plate".
        noun: the head noun as said, singular.
        truth: float [N], 1, 0 or 0.5 for each thing of the scene.
        landmarks: indices of things that the text names beside the ones it is about.
    """

    text: str
    noun: str
    truth: np.ndarray
    landmarks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Phrase:
    """A whole noun phrase that is certain to mean exactly `targets`."""

    text: str
    noun: str
    targets: tuple[int, ...]
    landmarks: tuple[int, ...]
    is_plural: bool


class Reading:
    """A scene made ready for asking: predicates, each a float [N] of 1, 0 and 0.5 over its things."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.things = scene.things
        self.count = len(scene.things)
        self.height, self.width = scene.image.shape[:2]
        self.tabletop = scene.view in TABLETOP_VIEWS
        self.complete = scene.vocabulary is None or self.tabletop  # "everything", "the object" can be said
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
                truth = np.array([_called(t.name, t.synonyms, word) for t in self.things])
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
                if mine is not None and thing.depth is not None:
                    if (thing.depth <= mine) == (word == "behind"):
                        truth[i] = 0.0
        for i in reverse:
            truth[i] = 0.0
        truth[self.several] = 0.5
        for i in stated:
            truth[i] = 1.0
        truth[landmark] = 0.0
        return truth

    def extreme(self, among: np.ndarray, values: np.ndarray, step: float) -> np.ndarray:
        """Which of the things `among` has the largest of `values` [N], by at least `step`; 0.5 where unclear."""
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
        """Which of `among` is the biggest (sign 1) or the smallest (-1): by size word on a tabletop, else by area."""
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
        """Which of `among` is closest to the camera (sign 1) or furthest away (-1); 0.5 where depth is unknown."""
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
        """Which things are in a part of the picture: column "left", "middle", "right" or "", row "top", "middle", "bottom"."""
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
        """The things of which an expression is true, if that is certain and all of them can be seen; else None."""
        if (truth == 0.5).any():
            return None
        targets = np.flatnonzero(truth == 1)
        if not self.visible[targets].all():
            return None
        if not allow_class and not self.single[targets].all():
            return None
        return tuple(int(i) for i in targets)


def _called(name: str, synonyms: Sequence[str], word: str) -> float:
    if word == name or word in synonyms:
        return 1.0
    doubtful = might_be(name, word) or any(might_be(other, word) for other in SYNONYMS.get(name, ()))
    return 0.5 if doubtful or word in SYNONYMS.get(name, ()) else 0.0


def _same_colour(mine: str | None, word: str) -> float:
    if mine is None:
        return 0.5
    if mine == word:
        return 1.0
    return 0.5 if frozenset((mine, word)) in _CLOSE_COLOURS else 0.0


def relation_words(relation: str, rng: np.random.Generator) -> str:
    """One of the ways to say a relation."""
    words = _RELATION_WORDS[relation]
    return words[int(rng.integers(len(words)))]


def corner_words(column: str, row: str, rng: np.random.Generator) -> str:
    """ "in the top left corner", "on the left", "in the middle": where a part of the picture is."""
    if column == row == "middle":
        return ("in the middle", "in the centre", "in the middle of the picture")[int(rng.integers(3))]
    if column and row:
        return (f"in the {row} left corner" if column == "left" else f"in the {row} right corner",
                f"at the {row} {column}")[int(rng.integers(2))]  # fmt: skip
    if column:
        return (f"on the {column}", f"on the {column} side")[int(rng.integers(2))]
    return f"at the {row}"


def pick_noun(r: Reading, rng: np.random.Generator, i: int, generic: float = 0.0) -> str | None:
    """What to call thing `i`: mostly its name, sometimes a synonym or a more general noun, or "object"."""
    if generic and r.complete and r.things[i].is_thing and rng.random() < generic:
        return GENERIC[int(rng.integers(len(GENERIC)))]
    nouns = r.nouns_of(i)
    if not nouns:
        return None
    if len(nouns) == 1 or rng.random() < 0.65:
        return nouns[0]
    return nouns[int(rng.integers(1, len(nouns)))]


Style = Callable[[Reading, np.random.Generator, int], Claim | None]


def _category(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i)
    return Claim(noun, noun, r.noun(noun)) if noun else None


def _colour(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun, colour = pick_noun(r, rng, i, 0.25), r.things[i].colour
    if not noun or not colour or (noun == "orange" and colour == "orange"):
        return None
    text = f"{colour} {noun}" if rng.random() < 0.85 else f"{noun} that {_be(noun)} {colour}"
    return Claim(text, noun, np.minimum(r.noun(noun), r.colour(colour)))


def _quality(attribute: str) -> Style:
    said = {"small": ("small", "little", "smaller"), "large": ("large", "big", "bigger")}

    def style(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
        value = getattr(r.things[i], attribute)
        if not value:
            return None
        noun = r.things[i].name if attribute == "size" else pick_noun(r, rng, i, 0.2)
        if not noun or (not r.knows(noun) and noun not in GENERIC):
            return None
        words = said.get(value, (value,))
        if len(words) == 3 and r.noun(noun).sum() != 2:
            words = words[:2]  # "the smaller cup" is said of two
        word = words[int(rng.integers(len(words)))]
        return Claim(f"{word} {noun}", noun, np.minimum(r.noun(noun), r.quality(attribute, value)))

    return style


def _two_qualities(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    thing = r.things[i]
    noun = pick_noun(r, rng, i)
    others = [a for a in ("size", "pattern", "material") if getattr(thing, a)]
    if not noun or not thing.colour or not others:
        return None
    attribute = others[int(rng.integers(len(others)))]
    if attribute == "size":
        noun = thing.name
    value = str(getattr(thing, attribute))
    order = f"{thing.colour} {value} {noun}" if attribute == "material" else f"{value} {thing.colour} {noun}"
    truth = np.minimum(r.noun(noun), np.minimum(r.colour(thing.colour), r.quality(attribute, value)))
    return Claim(order, noun, truth)


def _superlative(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.2)
    if not noun:
        return None
    among = r.noun(noun)
    for sign, words in ((1, ("biggest", "largest")), (-1, ("smallest", "tiniest"))):
        truth = r.biggest(among, sign)
        if truth[i] == 1:
            return Claim(f"{words[int(rng.integers(2))]} {noun}", noun, truth)
    return None


def _side(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.15)
    if not noun:
        return None
    sides = list(DIRECTIONS)
    for k in rng.permutation(4):
        axis, sign, ways = DIRECTIONS[sides[int(k)]]
        truth = r.extreme(r.noun(noun), sign * r.centres[:, axis], _STEP)
        if truth[i] == 1:
            return Claim(ways[int(rng.integers(len(ways)))].format(n=noun), noun, truth)
    return None


def _place(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.15)
    if not noun:
        return None
    parts = [("left", "top"), ("right", "top"), ("left", "bottom"), ("right", "bottom"), ("middle", "middle"), ("left", ""),
             ("right", ""), ("", "top"), ("", "bottom")]  # fmt: skip
    fits = [part for part in parts if r.within(*part)[i] == 1]
    if not fits:
        return None
    column, row = fits[int(rng.integers(len(fits)))]
    truth = np.minimum(r.noun(noun), r.within(column, row))
    text = f"{noun} {corner_words(column, row, rng)}"
    if column and row and column != "middle" and rng.random() < 0.3:
        text = f"{row} {column} {noun}"
    return Claim(text, noun, truth)


def _closest(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.2)
    if not noun:
        return None
    near = ("closest {n}", "nearest {n}", "{n} closest to the camera", "{n} nearest to us")
    far = ("furthest {n}", "{n} furthest from the camera", "{n} furthest away")
    for sign, words in ((1, near), (-1, far)):
        truth = r.closest(r.noun(noun), sign)
        if truth[i] == 1:
            return Claim(words[int(rng.integers(len(words)))].format(n=noun), noun, truth)
    return None


def _ordinal(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i)
    if not noun:
        return None
    among = r.noun(noun)
    mine = np.flatnonzero(among == 1)
    if len(mine) < 3 or (among == 0.5).any() or not r.single[mine].all():
        return None
    sides = list(DIRECTIONS)[: 2 if rng.random() < 0.8 else 4]
    side = sides[int(rng.integers(len(sides)))]
    axis, sign, _ = DIRECTIONS[side]
    places = -sign * r.centres[mine, axis]
    order = np.argsort(places, kind="stable")
    rank = int(np.flatnonzero(mine[order] == i)[0])
    if np.diff(places[order]).min() < _STEP or rank >= len(_ORDINALS):
        return None
    truth = np.zeros(r.count)
    truth[i] = 1.0
    word = _ORDINALS[rank]
    return Claim(f"{word} {noun} from the {side}", noun, truth)


def _relation(*relations: str) -> Style:
    def style(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
        pairs = [(word, o) for s, word, o in r.scene.relations if s == i and word in relations]
        if not pairs:
            return None
        word, landmark = pairs[int(rng.integers(len(pairs)))]
        noun, mark = pick_noun(r, rng, i, 0.2), _landmark(r, rng, landmark)
        if not noun or not mark:
            return None
        truth = np.minimum(r.noun(noun), r.related(word, landmark))
        return Claim(f"{noun} {relation_words(word, rng)} {mark.text}", noun, truth, (landmark,))

    return style


def _nearest(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    marks = [k for k in r.askable if k != i and r.single[k]]
    noun = pick_noun(r, rng, i)
    if not noun or not marks:
        return None
    for k in rng.permutation(len(marks))[:3]:
        truth = r.nearest(r.noun(noun), marks[int(k)])
        if truth[i] == 1:
            mark = _landmark(r, rng, marks[int(k)])
            if mark and mark.noun != noun:
                word = ("nearest to", "closest to")[int(rng.integers(2))]
                return Claim(f"{noun} {word} {mark.text}", noun, truth, (marks[int(k)],))
    return None


def _between(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    marks = [k for k in r.askable if k != i and r.single[k]]
    noun = pick_noun(r, rng, i)
    if not noun or len(marks) < 2:
        return None
    for _ in range(6):
        one, two = (marks[int(k)] for k in rng.choice(len(marks), 2, replace=False))
        truth = r.between(one, two)
        if truth[i] == 1:
            first, second = _landmark(r, rng, one), _landmark(r, rng, two)
            if first and second:
                text = f"{noun} between {first.text} and {second.text}"
                return Claim(text, noun, np.minimum(r.noun(noun), truth), (one, two))
    return None


def _negated(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i)
    if not noun:
        return None
    others = [r.things[k].colour for k in np.flatnonzero(r.noun(noun) == 1) if k != i and r.things[k].colour]
    others = [colour for colour in others if colour != r.things[i].colour]
    if not others:
        return None
    colour = str(others[int(rng.integers(len(others)))])
    truth = np.minimum(r.noun(noun), 1 - r.colour(colour))
    be = _be(noun)
    ways = (f"{noun} that {be} not {colour}", f"{noun} that {be}n't {colour}", f"non-{colour} {noun}")
    return Claim(ways[int(rng.integers(3))], noun, truth)


def _negated_relation(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i)
    if not noun:
        return None
    pairs = [
        (word, o)
        for s, word, o in r.scene.relations
        if s != i and o != i and word in _RELATION_WORDS and r.noun(noun)[s] == 1 and r.noun(noun)[o] == 0
    ]
    if not pairs:
        return None
    word, landmark = pairs[int(rng.integers(len(pairs)))]
    mark = _landmark(r, rng, landmark)
    if not mark:
        return None
    truth = np.minimum(r.noun(noun), 1 - r.related(word, landmark))
    truth[landmark] = 0.0
    text = f"{noun} that {_be(noun)} not {relation_words(word, rng)} {mark.text}"
    return Claim(text, noun, truth, (landmark,))


def _written(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    text, noun = r.things[i].text, pick_noun(r, rng, i, 0.2)
    if not text or not noun:
        return None
    truth = np.minimum(
        r.noun(noun), [float(bool(t.text) and t.text.lower() == text.lower()) for t in r.things]
    )
    ways = (f'{noun} that says "{text}"', f'{noun} with "{text}" on it', f'{noun} labelled "{text}"')
    return Claim(ways[int(rng.integers(3))], noun, truth)


STYLES: dict[str, Style] = {
    "category": _category,
    "colour": _colour,
    "size": _quality("size"),
    "material": _quality("material"),
    "pattern": _quality("pattern"),
    "two qualities": _two_qualities,
    "superlative": _superlative,
    "side": _side,
    "place": _place,
    "closest": _closest,
    "ordinal": _ordinal,
    "beside": _relation("left of", "right of", "above", "below"),
    "depth": _relation("behind", "in front of"),
    "support": _relation("on"),
    "inside": _relation("in"),
    "near": _relation("near"),
    "nearest": _nearest,
    "between": _between,
    "negated": _negated,
    "negated relation": _negated_relation,
    "written": _written,
}
"""Ways to single out one thing."""


def describe(r: Reading, rng: np.random.Generator, i: int, style: str) -> Phrase | None:
    """A phrase in this style that means thing `i` and nothing else, or None if there is none."""
    claim = STYLES[style](r, rng, i)
    if claim is None or r.settle(claim.truth) != (i,):
        return None
    if claim.landmarks and not r.visible[list(claim.landmarks)].all():
        return None
    return Phrase(f"the {claim.text}", claim.noun, (i,), claim.landmarks, is_plural(claim.noun))


def _landmark(r: Reading, rng: np.random.Generator, i: int) -> Phrase | None:
    """A short phrase for a thing that others are placed by."""
    if not r.visible[i] or not r.things[i].instance:
        return None
    for style in ("category", "colour") if rng.random() < 0.7 else ("colour", "category"):
        phrase = describe(r, rng, i, style)
        if phrase:
            return phrase
    return None


def _be(noun: str) -> str:
    return "are" if is_plural(noun) else "is"


def plural_phrase(noun: str) -> str:
    """ "cups"; a mass noun stays as it is."""
    return noun if is_mass(noun) else plural(noun)
