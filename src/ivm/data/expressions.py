"""Referring expressions: noun phrases, and of which things of a scene they are true.

An expression is used only where every thing of the scene is certain (`ivm.data.reading`) and the true ones
are exactly those meant: that is what keeps instructions unambiguous. Method: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ivm.data.reading import GENERIC, Reading
from ivm.data.words import is_mass, is_plural, plural

__all__ = [
    "POSITIONS",
    "STYLES",
    "Claim",
    "Phrase",
    "adjective",
    "corner_words",
    "describe",
    "landmark_phrase",
    "pick_noun",
    "plural_phrase",
    "relation_words",
]

_STEP = 0.07  # centres must differ by this share of the picture for "leftmost", "second from the left"
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_RELATION_WORDS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below",),
    "behind": ("behind",),
    "in front of": ("in front of",),
    "on": ("on", "on top of"),
    "in": ("in", "inside"),
    "near": ("next to", "near", "beside", "close to"),
}
_DIRECTIONS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    # side -> axis of (x, y), sign, ways to say "the ... cup"; {n} is the noun
    "left": (0, -1, ("leftmost {n}", "{n} furthest to the left", "{n} on the far left")),
    "right": (0, 1, ("rightmost {n}", "{n} furthest to the right", "{n} on the far right")),
    "top": (1, -1, ("topmost {n}", "{n} at the very top", "highest {n} in the picture")),
    "bottom": (1, 1, ("lowest {n} in the picture", "{n} at the very bottom", "bottommost {n}")),
}
_OF_TWO = {"left": ("left {n}", "{n} on the left"), "right": ("right {n}", "{n} on the right")}
_BIGGEST, _SMALLEST = ("biggest", "largest"), ("smallest", "tiniest")
POSITIONS = (
    *(way for _, _, ways in _DIRECTIONS.values() for way in ways),
    *(way for ways in _OF_TWO.values() for way in ways),
    *(f"{word} {{n}}" for word in _BIGGEST + _SMALLEST),
)
"""All that "the ... cup" may be among its like; {n} is the noun."""


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


def relation_words(relation: str, rng: np.random.Generator, bare: bool = False) -> str:
    """One of the ways to say a relation; `bare`: with no noun before it, as after "what is".

    There "left of" would be taken for what remains of the thing.
    """
    words = _RELATION_WORDS[relation]
    if bare:
        words = tuple(word for word in words if word not in ("left of", "right of"))
    return words[int(rng.integers(len(words)))]


def corner_words(column: str, row: str, rng: np.random.Generator) -> str:
    """ "in the top left corner", "on the left", "in the middle": where a part of the picture is."""
    if column == row == "middle":
        return ("in the middle", "in the centre", "in the middle of the picture")[int(rng.integers(3))]
    if column and row:
        return (
            f"in the {row} left corner" if column == "left" else f"in the {row} right corner",
            f"at the {row} {column}",
        )[int(rng.integers(2))]
    if column:
        return (f"on the {column}", f"on the {column} side")[int(rng.integers(2))]
    return f"at the {row}"


def pick_noun(
    r: Reading, rng: np.random.Generator, i: int, generic: float = 0.0, countable: bool = False
) -> str | None:
    """What to call thing `i`: mostly its name, sometimes a synonym or a more general noun.

    Args:
        generic: share of "object" and the like, where the scene allows that.
        countable: no mass noun.
    """
    if generic and r.complete and r.things[i].is_thing and rng.random() < generic:
        return GENERIC[int(rng.integers(len(GENERIC)))]
    nouns = [noun for noun in r.nouns_of(i) if not (countable and is_mass(noun))]
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
        words: tuple[str, ...] = said.get(value, (adjective(value),))
        if len(words) == 3 and r.noun(noun).sum() != 2:
            words = words[:2]  # "the smaller cup" is said of two
        word = words[int(rng.integers(len(words)))]
        return Claim(f"{word} {noun}", noun, np.minimum(r.noun(noun), r.quality(attribute, value)))

    return style


def adjective(value: str) -> str:
    """A material or pattern as it stands before a noun: "wood" -> "wooden"."""
    return "wooden" if value == "wood" else value


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
    said = [thing.colour, adjective(value)] if attribute == "material" else [value, thing.colour]
    truth = np.minimum(r.noun(noun), np.minimum(r.colour(thing.colour), r.quality(attribute, value)))
    return Claim(" ".join([*said, noun]), noun, truth)


def _superlative(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.2, countable=True)
    if not noun:
        return None
    among = r.noun(noun)
    for sign, words in ((1, _BIGGEST), (-1, _SMALLEST)):
        truth = r.biggest(among, sign)
        if truth[i] == 1:
            return Claim(f"{words[int(rng.integers(2))]} {noun}", noun, truth)
    return None


def _side(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.15, countable=True)
    if not noun:
        return None
    sides = list(_DIRECTIONS)
    for k in rng.permutation(4):
        axis, sign, ways = _DIRECTIONS[sides[int(k)]]
        truth = r.extreme(r.noun(noun), sign * r.centres[:, axis], _STEP)
        if truth[i] == 1:
            if (r.noun(noun) == 1).sum() == 2:
                ways += _OF_TWO.get(sides[int(k)], ())
            return Claim(ways[int(rng.integers(len(ways)))].format(n=noun), noun, truth)
    return None


def _place(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    noun = pick_noun(r, rng, i, 0.15)
    if not noun:
        return None
    parts = [
        ("left", "top"),
        ("right", "top"),
        ("left", "bottom"),
        ("right", "bottom"),
        ("middle", "middle"),
        ("left", ""),
        ("right", ""),
        ("", "top"),
        ("", "bottom"),
    ]
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
    noun = pick_noun(r, rng, i, countable=True)
    if not noun:
        return None
    among = r.noun(noun)
    mine = np.flatnonzero(among == 1)
    if len(mine) < 3 or (among == 0.5).any() or not r.single[mine].all():
        return None
    sides = list(_DIRECTIONS)[: 2 if rng.random() < 0.8 else 4]
    side = sides[int(rng.integers(len(sides)))]
    axis, sign, _ = _DIRECTIONS[side]
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
        noun, mark = pick_noun(r, rng, i, 0.2), landmark_phrase(r, rng, landmark)
        if not noun or not mark:
            return None
        truth = np.minimum(r.noun(noun), r.related(word, landmark))
        return Claim(f"{noun} {relation_words(word, rng)} {mark.text}", noun, truth, (landmark,))

    return style


def _nearest(r: Reading, rng: np.random.Generator, i: int) -> Claim | None:
    marks = [k for k in r.askable if k != i and r.single[k]]
    noun = pick_noun(r, rng, i, countable=True)
    if not noun or not marks:
        return None
    for k in rng.permutation(len(marks))[:3]:
        truth = r.nearest(r.noun(noun), marks[int(k)])
        if truth[i] == 1:
            mark = landmark_phrase(r, rng, marks[int(k)])
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
            first, second = landmark_phrase(r, rng, one), landmark_phrase(r, rng, two)
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
    mark = landmark_phrase(r, rng, landmark)
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
    truth = np.minimum(r.noun(noun), [float((t.text or "").lower() == text.lower()) for t in r.things])
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


def landmark_phrase(r: Reading, rng: np.random.Generator, i: int) -> Phrase | None:
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
