"""Makers of instructions that place alone decides: parts of the picture, and whatever lies in them."""

from __future__ import annotations

import numpy as np

from ivm.data.drafts import REFER, Asking, Draft, frame
from ivm.data.expressions import Phrase, corner_words, pick_noun, plural_phrase
from ivm.data.words import is_mass, is_plural

__all__ = ["PARTS", "group_place", "part", "what_is_where"]

PARTS: dict[tuple[str, str], tuple[float, float, float, float]] = {
    ("left", ""): (0.0, 0.0, 0.5, 1.0),
    ("right", ""): (0.5, 0.0, 1.0, 1.0),
    ("", "top"): (0.0, 0.0, 1.0, 0.5),
    ("", "bottom"): (0.0, 0.5, 1.0, 1.0),
    ("left", "top"): (0.0, 0.0, 0.5, 0.5),
    ("right", "top"): (0.5, 0.0, 1.0, 0.5),
    ("left", "bottom"): (0.0, 0.5, 0.5, 1.0),
    ("right", "bottom"): (0.5, 0.5, 1.0, 1.0),
    ("middle", "middle"): (0.25, 0.25, 0.75, 0.75),
}
"""Column and row of a part of the picture -> its box (x0, y0, x1, y1) in shares of the picture."""

_PLACES = list(PARTS)
_LOOK = (
    ("{x}", "name"),
    ("{x}", "name"),
    ("look at {x}", "command"),
    ("focus on {x}", "command"),
    ("zoom in on {x}", "command"),
    ("crop to {x}", "command"),
    ("keep only {x}", "command"),
    ("mask everything but {x}", "command"),
    ("show me {x}", "command"),
    ("point to {x}", "command"),
    ("highlight {x}", "command"),
    ("describe {x}", "command"),
    ("what is happening in {x}?", "question"),
)


def part(ask: Asking) -> Draft | None:
    """ "the left half of the picture": an area, whatever is in it."""
    column, row = _PLACES[int(ask.rng.integers(len(_PLACES)))]
    picture = ask.one(("picture", "picture", "image", "photo"))
    if column == "middle":
        text = f"the {ask.one(('middle', 'centre', 'central part'))} of the {picture}"
    elif column and row:
        upper = ask.one((row, {"top": "upper", "bottom": "lower"}[row]))
        text = f"the {upper} {column} {ask.one(('corner', 'quarter', 'part'))} of the {picture}"
    else:
        side = column or ask.one((row, {"top": "upper", "bottom": "lower"}[row]))
        nouns = ("half", "half", "side", "part") if column else ("half", "half", "part")
        text = f"the {side} {ask.one(nouns)} of the {picture}"
    look, mood = _LOOK[int(ask.rng.integers(len(_LOOK)))]
    if " side " in text:  # what happens, happens on a side
        look = look.replace(" in {x}", " on {x}")
    return Draft(look.format(x=text), mood, (), PARTS[column, row])


def group_place(ask: Asking) -> Draft | None:
    """ "everything on the left", "all the cups at the top"."""
    r = ask.r
    for k in ask.rng.permutation(len(_PLACES))[:6]:
        column, row = _PLACES[int(k)]
        truth = r.within(column, row)
        inside = [i for i in r.askable if truth[i] == 1 and r.single[i]]
        if not inside:
            continue
        everything = r.complete and ask.rng.random() < 0.6
        if everything:
            noun, head = "object", ask.one(("everything", "all the objects", "all the things", "whatever is"))
        else:
            chosen = pick_noun(r, ask.rng, inside[int(ask.rng.integers(len(inside)))])
            if not chosen or is_mass(chosen) or is_plural(chosen):
                continue
            noun, head = chosen, f"{ask.one(('the', 'all the'))} {plural_phrase(chosen)}"
        targets = r.settle(np.minimum(r.noun(noun), truth), allow_class=False)
        if targets and len(targets) > (0 if head in ("everything", "whatever is") else 1):
            text = f"{head} {corner_words(column, row, ask.rng)}"
            is_many = head not in ("everything", "whatever is")
            return frame(ask, REFER, Phrase(text, noun, targets, (), is_many))
    return None


def what_is_where(ask: Asking) -> Draft | None:
    """ "what is on the left?", where all that can be seen is known."""
    r = ask.r
    if not r.complete:
        return None
    for k in ask.rng.permutation(len(_PLACES))[:6]:
        column, row = _PLACES[int(k)]
        targets = r.settle(np.minimum(r.noun("object"), r.within(column, row)))
        if targets:
            text = ask.one(
                (
                    "what is {w}?",
                    "what do you see {w}?",
                    "what can be seen {w}?",
                    "name what is {w}",
                    "which object is {w}?" if len(targets) == 1 else "which objects are {w}?",
                )
            ).format(w=corner_words(column, row, ask.rng))
            return Draft(text, "question" if text.endswith("?") else "command", targets)
    return None
