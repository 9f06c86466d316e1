"""Drafts of instructions, and what every maker of them needs: the dice, the candidates, the frames.

A maker turns a scene, read, and some dice into one draft of its kind, or into None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ivm.data.expressions import Phrase, describe, pick_noun
from ivm.data.reading import Reading

__all__ = [
    "REFER",
    "Asking",
    "Draft",
    "Maker",
    "candidates",
    "frame",
    "single",
    "some_noun",
]


@dataclass(frozen=True)
class Draft:
    """An instruction before its manner: text, mood ("name", "command" or "question") and targets.

    `area`: a part of the picture that is meant instead of things, a box (x0, y0, x1, y1) in shares of it.
    """

    text: str
    mood: str
    targets: tuple[int, ...]
    area: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Asking:
    """What a maker of drafts is given."""

    r: Reading
    rng: np.random.Generator
    others: Sequence[str]

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]


Maker = Callable[[Asking], Draft | None]


def frame(ask: Asking, frames: Sequence[tuple[str, str]], phrase: Phrase) -> Draft:
    unfit: tuple[str, ...] = ()
    if phrase.text.startswith("all "):  # "mask everything but all the cups but one" is no English
        unfit = ("mask", "keep")
    elif phrase.text.startswith(("everything ", "whatever ")):  # nor "where is whatever is on the left?"
        unfit = ("mask", "keep", "where", "do you see", "which part")
    frames = [pair for pair in frames if not pair[0].startswith(unfit)]
    frame, mood = frames[int(ask.rng.integers(len(frames)))]
    bare = phrase.text
    if frame == "{x}" and ask.rng.random() < 0.4:
        bare = bare.removeprefix("the ")
    return Draft(frame.format(x=bare, be="are" if phrase.is_plural else "is"), mood, phrase.targets)


def candidates(ask: Asking, graspable: bool = False) -> list[int]:
    """Askable things in random order, mostly those first that share their name with another."""
    r, rng = ask.r, ask.rng
    mine = [i for i in r.askable if not graspable or "graspable" in r.things[i].affordances]
    mine = [mine[int(k)] for k in rng.permutation(len(mine))]
    if rng.random() < 0.75:
        names = [thing.name for thing in r.things]
        mine.sort(key=lambda i: names.count(names[i]) < 2)
    elif rng.random() < 0.6:  # things before scenery
        mine.sort(key=lambda i: not r.single[i])
    return mine


def single(
    ask: Asking, styles: Sequence[str], graspable: bool = False, avoid: Sequence[int] = ()
) -> Phrase | None:
    """A phrase in one of these styles for one thing."""
    for i in candidates(ask, graspable)[:6]:
        if i in avoid:
            continue
        style = styles[int(ask.rng.integers(len(styles)))]
        phrase = describe(ask.r, ask.rng, i, style)
        if phrase:
            return phrase
    return None


def some_noun(ask: Asking, at_least: int, plain: bool = False) -> tuple[str, tuple[int, ...]] | None:
    """A noun with all the single things it is true of, at least so many."""
    r, rng = ask.r, ask.rng
    mine = candidates(ask)
    if at_least < 2:  # each name as likely as another: those that several things bear are asked for enough
        first = {r.things[i].name: i for i in mine}
        names = sorted(first)
        mine = [first[names[int(k)]] for k in rng.permutation(len(names))]
    for i in mine[:6]:
        noun = r.things[i].name if plain and r.knows(r.things[i].name) else pick_noun(r, rng, i)
        targets = ask.r.settle(ask.r.noun(noun)) if noun else None
        if noun and targets and len(targets) >= at_least and (at_least < 2 or r.single[list(targets)].all()):
            return noun, targets
    return None


REFER = (
    ("{x}", "name"),
    ("{x}", "name"),
    ("{x}", "name"),
    ("find {x}", "command"),
    ("show me {x}", "command"),
    ("look at {x}", "command"),
    ("point to {x}", "command"),
    ("point at {x}", "command"),
    ("highlight {x}", "command"),
    ("locate {x}", "command"),
    ("where {be} {x}?", "question"),
    ("keep only {x}", "command"),
    ("focus on {x}", "command"),
    ("mark {x}", "command"),
    ("describe {x}", "command"),
    ("tell me about {x}", "command"),
    ("I am looking for {x}", "name"),
    ("outline {x}", "command"),
    ("which part of the picture shows {x}?", "question"),
    ("mask everything but {x}", "command"),
    ("do you see {x}?", "question"),
    ("zoom in on {x}", "command"),
    ("what do you notice about {x}?", "question"),
    ("select {x}", "command"),
)
