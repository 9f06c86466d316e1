"""Makers of names: what is referred to, one thing or a group."""

from __future__ import annotations

import cv2
import numpy as np

from ivm.data.drafts import REFER, Asking, Draft, Maker, candidates, frame, single, some_noun
from ivm.data.expressions import Phrase, describe, landmark_phrase, pick_noun, plural_phrase, relation_words
from ivm.data.words import is_mass, is_plural

__all__ = [
    "category",
    "every",
    "group_but",
    "group_colour",
    "group_not",
    "group_relation",
    "name",
    "refer",
    "two",
]


def refer(*styles: str) -> Maker:
    def make(ask: Asking) -> Draft | None:
        phrase = single(ask, styles)
        return frame(ask, REFER, phrase) if phrase else None

    return make


def category(ask: Asking) -> Draft | None:
    found = some_noun(ask, 1)
    if not found:
        return None
    return name(ask, *found)


def name(ask: Asking, noun: str, targets: tuple[int, ...]) -> Draft:
    """The things called `noun`, all of them: "the cups", or "the cup" if there is one."""
    many = len(targets) > 1 or (ask.r.several[targets[0]] and _parts(ask.r.things[targets[0]].mask) > 1)
    said = plural_phrase(noun) if many and not is_mass(noun) else noun
    return frame(ask, REFER, Phrase(f"the {said}", noun, targets, (), said != noun or is_plural(noun)))


def _parts(mask: np.ndarray) -> int:
    """Connected parts of a mask that are at least a fifth of it: a guess at how many things it covers."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= areas.sum() / 5).sum())


def every(ask: Asking) -> Draft | None:
    found = some_noun(ask, 2)
    if not found or is_mass(found[0]) or is_plural(found[0]):
        return None
    noun, targets = found
    many = plural_phrase(noun)
    text = ask.one((f"all the {many}", f"all {many}", f"every {noun}", f"each {noun}", f"all of the {many}"))
    if text.startswith(("every", "each")):
        return Draft(
            ask.one(("find {x}", "point to {x}", "mark {x}", "{x}", "highlight {x}")).format(x=text),
            "name",
            targets,
        )
    return frame(ask, REFER, Phrase(text, noun, targets, (), True))


def group_colour(ask: Asking) -> Draft | None:
    r = ask.r
    for i in candidates(ask)[:6]:
        noun, colour = pick_noun(r, ask.rng, i, 0.4), r.things[i].colour
        if not noun or not colour or is_mass(noun) or is_plural(noun):
            continue
        targets = r.settle(np.minimum(r.noun(noun), r.colour(colour)), allow_class=False)
        if targets and len(targets) > 1:
            many = plural_phrase(noun)
            text = ask.one(
                (f"the {colour} {many}", f"all the {colour} {many}", f"all {many} that are {colour}")
            )
            return frame(ask, REFER, Phrase(text, noun, targets, (), True))
    return None


def group_but(ask: Asking) -> Draft | None:
    """All of a name but one: "all the cups but the blue one"."""
    r = ask.r
    found = some_noun(ask, 3)
    if not found or is_plural(found[0]) or is_mass(found[0]):
        return None
    noun, targets = found
    for i in (targets[int(k)] for k in ask.rng.permutation(len(targets))):
        for style in ("colour", "superlative", "side", "size", "material", "pattern"):
            phrase = describe(r, ask.rng, i, style)
            if phrase and phrase.noun == noun and phrase.text.endswith(f" {noun}"):
                one = phrase.text.removesuffix(noun) + "one"
                but = ask.one(("but", "except", "except for", "apart from"))
                text = f"all the {plural_phrase(noun)} {but} {one}"
                rest = tuple(t for t in targets if t != i)
                return frame(ask, REFER, Phrase(text, noun, rest, (), True))
    return None


def group_not(ask: Asking) -> Draft | None:
    """ "the cups that are not red"."""
    r = ask.r
    found = some_noun(ask, 3)
    if not found or is_plural(found[0]):
        return None
    noun, targets = found
    colours = sorted({r.things[i].colour for i in targets} - {None})  # type: ignore[type-var]
    if not colours:
        return None
    colour = ask.one(colours)  # type: ignore[arg-type]
    rest = r.settle(np.minimum(r.noun(noun), 1 - r.colour(colour)), allow_class=False)
    if not rest or len(rest) < 2 or len(rest) == len(targets):
        return None
    are_not = ask.one(("are not", "aren't"))
    text = f"the {plural_phrase(noun)} that {are_not} {colour}"
    return frame(ask, REFER, Phrase(text, noun, rest, (), True))


def group_relation(*relations: str) -> Maker:
    """ "everything on the plate", "the cups left of the plate"."""

    def make(ask: Asking) -> Draft | None:
        r = ask.r
        pairs = sorted({(word, o) for _, word, o in r.scene.relations if word in relations})
        for k in ask.rng.permutation(len(pairs))[:5]:
            word, landmark = pairs[int(k)]
            mark = landmark_phrase(ask.r, ask.rng, landmark)
            if not mark:
                continue
            if r.complete and ask.rng.random() < 0.6:
                noun, head = (
                    "object",
                    ask.one(("everything", "all the objects", "all the things", "whatever is")),
                )
            else:
                subjects = [s for s, w, o in r.scene.relations if (w, o) == (word, landmark)]
                chosen = pick_noun(r, ask.rng, subjects[int(ask.rng.integers(len(subjects)))])
                if not chosen or is_mass(chosen) or is_plural(chosen):
                    continue
                noun, head = chosen, f"{ask.one(('the', 'all the'))} {plural_phrase(chosen)}"
            targets = r.settle(np.minimum(r.noun(noun), r.related(word, landmark)), allow_class=False)
            if targets and len(targets) > 1:
                bare = head in ("everything", "whatever is")
                text = f"{head} {relation_words(word, ask.rng, bare)} {mark.text}"
                return frame(ask, REFER, Phrase(text, noun, targets, (landmark,), not bare))
        return None

    return make


def two(ask: Asking) -> Draft | None:
    one = single(ask, ("category", "colour", "size", "side"))
    two = single(ask, ("category", "category", "colour", "size"), avoid=one.targets) if one else None
    if not one or not two or two.targets == one.targets:
        return None
    text = f"{one.text} and {two.text}"
    return frame(ask, REFER, Phrase(text, one.noun, one.targets + two.targets, (), True))
