"""Makers of questions: targets are the things that must be looked at to answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ivm.data.drafts import Asking, Draft, Maker, candidates, single, some_noun
from ivm.data.expressions import Phrase, landmark_phrase, pick_noun, plural_phrase, relation_words
from ivm.data.words import article, is_mass, is_plural

__all__ = [
    "COLOURED",
    "COUNTED",
    "WHERE",
    "about",
    "ask_about",
    "compare",
    "compare_count",
    "count",
    "exists_category",
    "exists_colour",
    "exists_relation",
    "exists_text",
    "what_is",
]

COLOURED = (
    "what colour {be} {x}?",
    "which colour {do} {x} have?",
    "tell me the colour of {x}",
    "name the colour of {x}",
)
WHERE = (
    "where {be} {x}?",
    "where in the picture {be} {x}?",
    "where can I find {x}?",
    "in which part of the picture {be} {x}?",
)
COUNTED = (
    "how many {x} are there?",
    "how many {x} can you see?",
    "count the {x}",
    "what is the number of {x}?",
    "how many {x} do you see in the picture?",
)


def ask_about(
    *questions: str,
    styles: Sequence[str] = ("category", "colour", "side", "superlative", "size", "place"),
    needs: str = "",
) -> Maker:
    """A question about one thing; `needs` names an attribute that it must have."""

    def make(ask: Asking) -> Draft | None:
        phrase = single(ask, styles)
        if not phrase or (needs and not getattr(ask.r.things[phrase.targets[0]], needs)):
            return None
        return about(ask, questions, phrase)

    return make


def about(ask: Asking, questions: Sequence[str], phrase: Phrase) -> Draft:
    """One of the questions, about what the phrase means."""
    text = ask.one(questions).format(
        x=phrase.text,
        be="are" if phrase.is_plural else "is",
        do="do" if phrase.is_plural else "does",
        have="have" if phrase.is_plural else "has",
    )
    mood = "question" if text.endswith("?") else "command"
    return Draft(text, mood, (*phrase.targets, *phrase.landmarks))


def count(coloured: bool) -> Maker:
    def make(ask: Asking) -> Draft | None:
        r = ask.r
        for i in candidates(ask)[:6]:
            noun, colour = pick_noun(r, ask.rng, i, 0.2), r.things[i].colour
            if not noun or is_mass(noun) or is_plural(noun) or (coloured and not colour):
                continue
            truth = np.minimum(r.noun(noun), r.colour(str(colour))) if coloured else r.noun(noun)
            targets = r.settle(truth, allow_class=False)
            if targets:
                many = f"{colour} {plural_phrase(noun)}" if coloured else plural_phrase(noun)
                text = ask.one(COUNTED).format(x=many)
                return Draft(text, "question" if text.endswith("?") else "command", targets)
        return None

    return make


def _some(noun: str, colour: str = "") -> str:
    phrase = f"{colour} {noun}".strip()
    if is_plural(noun):
        return f"any {phrase}"
    return f"any {phrase}" if is_mass(noun) else f"{article(phrase)} {phrase}"


def exists_text(noun: str, colour: str, ask: Asking) -> str:
    be = "are" if is_plural(noun) else "is"
    some = _some(noun, colour)
    return ask.one(
        (
            f"{be} there {some}?",
            f"{be} there {some} in the picture?",
            f"can you see {some}?",
            f"do you see {some} here?",
            f"does the picture show {some}?",
        )
    )


def exists_category(ask: Asking) -> Draft | None:
    found = some_noun(ask, 1)
    return Draft(exists_text(found[0], "", ask), "question", found[1]) if found else None


def exists_colour(ask: Asking) -> Draft | None:
    r = ask.r
    for i in candidates(ask)[:6]:
        noun, colour = pick_noun(r, ask.rng, i, 0.2), r.things[i].colour
        if noun and colour:
            targets = r.settle(np.minimum(r.noun(noun), r.colour(colour)))
            if targets:
                return Draft(exists_text(noun, colour, ask), "question", targets)
    return None


def exists_relation(ask: Asking) -> Draft | None:
    r = ask.r
    for k in ask.rng.permutation(len(r.scene.relations))[:6]:
        subject, word, landmark = r.scene.relations[int(k)]
        mark = landmark_phrase(ask.r, ask.rng, landmark)
        noun = pick_noun(r, ask.rng, subject) if r.visible[subject] else None
        if word == "nearest" or not mark or not noun or is_mass(noun):
            continue
        targets = r.settle(np.minimum(r.noun(noun), r.related(word, landmark)))
        if targets:
            be = "are" if is_plural(noun) else "is"
            text = f"{be} there {_some(noun)} {relation_words(word, ask.rng)} {mark.text}?"
            return Draft(text, "question", (*targets, landmark))
    return None


def what_is(ask: Asking) -> Draft | None:
    """ "what is on the plate?": the answer and what it is asked by."""
    r = ask.r
    pairs = sorted({(word, o) for _, word, o in r.scene.relations if word not in ("nearest", "near")})
    if not r.complete:
        return None
    for k in ask.rng.permutation(len(pairs))[:6]:
        word, landmark = pairs[int(k)]
        mark = landmark_phrase(ask.r, ask.rng, landmark)
        targets = r.settle(np.minimum(r.noun("object"), r.related(word, landmark)))
        if mark and targets:
            text = ask.one(
                (
                    "what is {w} {x}?",
                    "what do you see {w} {x}?",
                    "name what is {w} {x}",
                    "which object is {w} {x}?",
                )
            )
            if len(targets) > 1 and text.startswith("which"):
                text = "which objects are {w} {x}?"
            text = text.format(w=relation_words(word, ask.rng, bare=True), x=mark.text)
            return Draft(text, "question" if text.endswith("?") else "command", (*targets, landmark))
    return None


def compare(*questions: str, attribute: str = "") -> Maker:
    """A question about two things, both of which must be looked at; `attribute` must be known of both."""
    # A question of colour does not tell the colours.
    styles = ("category", "side") if attribute == "colour" else ("category", "category", "colour", "side")

    def fit(ask: Asking, phrase: Phrase) -> bool:
        i = phrase.targets[0]
        return bool(ask.r.single[i]) and (not attribute or getattr(ask.r.things[i], attribute) is not None)

    def make(ask: Asking) -> Draft | None:
        one = single(ask, styles)
        if not one or not fit(ask, one):
            return None
        two = single(ask, styles, avoid=one.targets)
        if not two or not fit(ask, two):
            return None
        be, do = ("are", "do") if one.is_plural else ("is", "does")
        text = ask.one(questions).format(a=one.text, b=two.text, be=be, do=do)
        return Draft(text, "question", one.targets + two.targets)

    return make


def compare_count(ask: Asking) -> Draft | None:
    one, two = some_noun(ask, 2), some_noun(ask, 1, plain=True)
    if not one or not two or set(one[1]) & set(two[1]) or not ask.r.single[list(two[1])].all():
        return None
    if is_mass(one[0]) or is_mass(two[0]):
        return None
    a, b = plural_phrase(one[0]), plural_phrase(two[0])
    text = ask.one(
        (
            f"are there more {a} than {b}?",
            f"are there fewer {b} than {a}?",
            f"which are there more of, {a} or {b}?",
            f"are there as many {b} as {a}?",
        )
    )
    return Draft(text, "question", one[1] + two[1])
