"""Makers of instructions whose target is absent: nothing in the scene can be meant.

They are said in the ways in which things that are there are asked for, or else the way would tell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ivm.data.colours import COLOURS
from ivm.data.commands import HAND, PICK, push_text
from ivm.data.drafts import REFER, Asking, Draft, candidates, frame, some_noun
from ivm.data.expressions import (
    POSITIONS,
    Phrase,
    adjective,
    landmark_phrase,
    pick_noun,
    plural_phrase,
    relation_words,
)
from ivm.data.questions import COLOURED, COUNTED, WHERE, about, exists_text
from ivm.data.words import all_nouns, is_mass, is_plural

__all__ = [
    "absent_category",
    "absent_colour",
    "absent_command",
    "absent_count",
    "absent_exists",
    "absent_ordinal",
    "absent_position",
    "absent_quality",
    "absent_question",
    "absent_relation",
]


def _absent_noun(ask: Asking) -> str | None:
    """A noun that is true of nothing in the scene, of those that would be known if it were."""
    r = ask.r
    names = ask.others or sorted(r.scene.vocabulary or all_nouns())
    for _ in range(8):
        noun = ask.one(names)
        if r.knows(noun) and not r.noun(noun).any():
            return noun
    return None


def _vain_noun(ask: Asking) -> Phrase | None:
    """ "the giraffe"."""
    noun = _absent_noun(ask)
    return Phrase(f"the {noun}", noun, (), (), is_plural(noun)) if noun else None


def _vain_colour(ask: Asking) -> Phrase | None:
    """ "the green cup": the noun is there, in other colours."""
    pair = _absent_pair(ask)
    return Phrase(f"the {pair[0]} {pair[1]}", pair[1], (), (), is_plural(pair[1])) if pair else None


def _absent_pair(ask: Asking) -> tuple[str, str] | None:
    """A colour and a noun: the noun is there, in other colours."""
    r = ask.r
    for i in candidates(ask)[:6]:
        noun = pick_noun(r, ask.rng, i, 0.1)
        colour = ask.one(tuple(COLOURS))
        if noun and not np.minimum(r.noun(noun), r.colour(colour)).any():
            return colour, noun
    return None


def _vain_position(ask: Asking) -> Phrase | None:
    """ "the leftmost giraffe": there is none, wherever."""
    noun = _absent_noun(ask)
    if not noun or is_mass(noun):
        return None
    way = ask.one(POSITIONS)
    return Phrase(f"the {way.format(n=noun)}", noun, (), (), is_plural(noun))


def _vain(ask: Asking, *makers: Callable[[Asking], Phrase | None]) -> Phrase | None:
    return makers[int(ask.rng.integers(len(makers)))](ask)


def absent_category(ask: Asking) -> Draft | None:
    phrase = _vain_noun(ask)
    return frame(ask, REFER, phrase) if phrase else None


def absent_position(ask: Asking) -> Draft | None:
    phrase = _vain_position(ask)
    return frame(ask, REFER, phrase) if phrase else None


def absent_colour(ask: Asking) -> Draft | None:
    phrase = _vain_colour(ask)
    return frame(ask, REFER, phrase) if phrase else None


def absent_exists(ask: Asking) -> Draft | None:
    if ask.rng.random() < 0.4:
        pair = _absent_pair(ask)
        return Draft(exists_text(pair[1], pair[0], ask), "question", ()) if pair else None
    noun = _absent_noun(ask)
    return Draft(exists_text(noun, "", ask), "question", ()) if noun else None


def absent_count(ask: Asking) -> Draft | None:
    pair = _absent_pair(ask) if ask.rng.random() < 0.4 else ("", _absent_noun(ask) or "")
    if not pair or not pair[1] or is_mass(pair[1]) or is_plural(pair[1]):
        return None
    many = f"{pair[0]} {plural_phrase(pair[1])}".strip()
    text = ask.one(COUNTED).format(x=many)
    return Draft(text, "question" if text.endswith("?") else "command", ())


def absent_command(ask: Asking) -> Draft | None:
    if not any("graspable" in thing.affordances for thing in ask.r.things):
        return None
    phrase = _vain(ask, _vain_noun, _vain_noun, _vain_colour, _vain_position)
    if not phrase:
        return None
    text = push_text(ask, phrase) if ask.rng.random() < 0.2 else ask.one(PICK + HAND).format(x=phrase.text)
    return Draft(text, "command", ())


def absent_question(ask: Asking) -> Draft | None:
    """ "what colour is the giraffe?", "where is the green cup?"."""
    phrase = _vain(ask, _vain_noun, _vain_noun, _vain_position)
    questions = COLOURED
    if ask.rng.random() < 0.6:  # where a thing of a colour is may be asked, but not its colour
        phrase, questions = _vain(ask, _vain_noun, _vain_noun, _vain_colour, _vain_position), WHERE
    return about(ask, questions, phrase) if phrase else None


def absent_quality(ask: Asking) -> Draft | None:
    """The noun is there, of another material or pattern."""
    r = ask.r
    for attribute in ("material", "pattern"):
        values = sorted({str(getattr(t, attribute)) for t in r.things if getattr(t, attribute)})
        for i in candidates(ask)[:4] if values else ():
            noun, value = pick_noun(r, ask.rng, i), ask.one(values)
            if noun and not np.minimum(r.noun(noun), r.quality(attribute, value)).any():
                return frame(
                    ask, REFER, Phrase(f"the {adjective(value)} {noun}", noun, (), (), is_plural(noun))
                )
    return None


def absent_relation(ask: Asking) -> Draft | None:
    """Both things are there, but not so."""
    r = ask.r
    words = ["left of", "right of", "above", "below"] + (["on", "in"] if r.tabletop else [])
    for i in candidates(ask)[:5]:
        noun = pick_noun(r, ask.rng, i)
        marks = [k for k in r.askable if k != i and r.single[k]]
        if not noun or not marks or not r.single[i]:
            continue
        landmark, word = marks[int(ask.rng.integers(len(marks)))], ask.one(words)
        truth = np.minimum(r.noun(noun), r.related(word, landmark))
        mark = landmark_phrase(ask.r, ask.rng, landmark)
        if mark and mark.noun != noun and not truth.any():
            text = f"the {noun} {relation_words(word, ask.rng)} {mark.text}"
            return frame(ask, REFER, Phrase(text, noun, (), (), is_plural(noun)))
    return None


def absent_ordinal(ask: Asking) -> Draft | None:
    """ "the fourth cup from the left" of three."""
    found = some_noun(ask, 2)
    if not found or is_plural(found[0]) or is_mass(found[0]) or len(found[1]) > 4:
        return None
    word = ("third", "fourth", "fifth")[len(found[1]) - 2]
    side = ask.one(("left", "right"))
    return frame(ask, REFER, Phrase(f"the {word} {found[0]} from the {side}", found[0], (), (), False))
