"""Makers of commands: targets are all the things that they name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ivm.data.drafts import Asking, Draft, Maker, candidates, single, some_noun
from ivm.data.expressions import Phrase, describe, landmark_phrase, plural_phrase
from ivm.data.words import is_mass, is_plural

__all__ = [
    "HAND",
    "PICK",
    "PUSH",
    "PUT_BY",
    "PUT_IN",
    "PUT_ON",
    "STACK",
    "SWAP",
    "act",
    "clear",
    "collect",
    "pair",
    "pour",
    "push_text",
    "push_to_side",
    "something",
    "two_steps",
]

_HOLDING = ("container", "surface")  # what holds another thing should not look smaller than it
PICK = (
    "pick up {x}",
    "pick up {x}",
    "grab {x}",
    "take {x}",
    "lift {x}",
    "get {x}",
    "grasp {x}",
    "pick {x} up",
    "move the gripper to {x}",
    "reach for {x}",
    "get hold of {x}",
)


HAND = (
    "give me {x}",
    "hand me {x}",
    "pass me {x}",
    "bring me {x}",
    "hand over {x}",
    "fetch {x}",
    "bring {x} to me",
)
PUT_ON = (
    "put {x} on {y}",
    "place {x} on {y}",
    "set {x} down on {y}",
    "lay {x} on {y}",
    "pick up {x} and put {it} on {y}",
    "move {x} onto {y}",
    "take {x} and place {it} on top of {y}",
)
PUT_IN = (
    "put {x} in {y}",
    "place {x} in {y}",
    "drop {x} into {y}",
    "pick up {x} and put {it} into {y}",
    "move {x} into {y}",
    "put {x} inside {y}",
    "store {x} in {y}",
)
PUT_BY = (
    "put {x} next to {y}",
    "place {x} to the left of {y}",
    "place {x} to the right of {y}",
    "move {x} beside {y}",
    "put {x} behind {y}",
    "put {x} in front of {y}",
    "bring {x} close to {y}",
)
_COLLECT_ON = (
    "put all the {x} on {y}",
    "put every {n} on {y}",
    "place all of the {x} on {y}",
    "gather the {x} and put them on {y}",
)
_COLLECT_IN = (
    "put all the {x} in {y}",
    "put every {n} into {y}",
    "collect the {x} and place them in {y}",
    "gather the {x} and put them in {y}",
    "sort the {x} into {y}",
)
PUSH = (
    "push {x} towards {y}",
    "slide {x} to {y}",
    "move {x} towards {y}",
    "push {x} against {y}",
    "nudge {x} away from {y}",
    "shift {x} closer to {y}",
    "knock {y} over with {x}",
)
STACK = (
    "stack {x} on {y}",
    "put {x} on top of {y}",
    "stack {x} on top of {y}",
    "build a tower with {x} on {y}",
    "place {x} onto {y}",
)
SWAP = (
    "swap {x} and {y}",
    "exchange {x} with {y}",
    "switch the places of {x} and {y}",
    "let {x} and {y} change places",
)


def act(verbs: Sequence[str], *styles: str) -> Maker:
    """A command about one thing to be grasped; what the phrase places it by is named and so a target too."""

    def make(ask: Asking) -> Draft | None:
        phrase = single(ask, styles, graspable=True)
        if not phrase:
            return None
        text = ask.one(verbs).format(x=phrase.text)
        return Draft(text, "command", (*phrase.targets, *phrase.landmarks))

    return make


def pair(*frames: str, needs: str = "", already: str = "") -> Maker:
    """A command that brings one thing to another.

    Args:
        frames: with {x} and {y}.
        needs: an affordance of the second thing; if it is "stackable", of both.
        already: a relation in which the first must not stand to the second yet.
    """
    styles = ("category", "category", "colour", "size", "side", "pattern", "material", "superlative")

    def make(ask: Asking) -> Draft | None:
        r = ask.r
        one = single(ask, styles, graspable=True)
        if not one:
            return None
        i = one.targets[0]
        if needs == "stackable" and needs not in r.things[i].affordances:
            return None
        goals = [
            k
            for k in candidates(ask)
            if k != i
            and (not needs or needs in r.things[k].affordances)
            and (not already or (i, already, k) not in r.scene.relations)
            and (needs not in _HOLDING or r.things[k].area >= 0.8 * r.things[i].area)
        ]
        two = _described(ask, goals)
        if not two:
            return None
        text = ask.one(frames).format(x=one.text, y=two.text, it="them" if one.is_plural else "it")
        return Draft(text, "command", one.targets + two.targets)

    return make


def _described(ask: Asking, indices: Sequence[int]) -> Phrase | None:
    for i in indices[:4]:
        if not ask.r.things[i].instance:
            continue
        style = ask.one(("category", "category", "colour", "size", "pattern", "side"))
        phrase = describe(ask.r, ask.rng, i, style) or describe(ask.r, ask.rng, i, "colour")
        if phrase:
            return phrase
    return None


def pour(ask: Asking) -> Draft | None:
    r = ask.r
    from_ = _described(ask, [i for i in candidates(ask) if "pourable" in r.things[i].affordances])
    if not from_:
        return None
    into = _described(
        ask,
        [i for i in candidates(ask) if "container" in r.things[i].affordances and i not in from_.targets],
    )
    if not into:
        return None
    text = ask.one(
        (
            "pour from {x} into {y}",
            "pour what is in {x} into {y}",
            "empty {x} into {y}",
            "fill {y} from {x}",
            "use {x} to fill {y}",
            "tip {x} over {y}",
        )
    ).format(x=from_.text, y=into.text)
    return Draft(text, "command", from_.targets + into.targets)


def push_to_side(ask: Asking) -> Draft | None:
    phrase = single(ask, ("category", "colour", "size", "side", "pattern", "material"), graspable=True)
    return Draft(push_text(ask, phrase), "command", phrase.targets) if phrase else None


def push_text(ask: Asking, phrase: Phrase) -> str:
    """ "push the can to the left"."""
    way = ask.one(
        (
            "to the left",
            "to the right",
            "forward",
            "away from you",
            "back",
            "a bit to the left",
            "a little to the right",
        )
    )
    verb = ask.one(("push", "move", "slide", "shift", "nudge"))
    return f"{verb} {phrase.text} {way}"


def collect(ask: Asking) -> Draft | None:
    """ "put all the red blocks into the bowl"."""
    r = ask.r
    found = some_noun(ask, 2)
    if not found or is_mass(found[0]) or is_plural(found[0]):
        return None
    noun, targets = found
    if not all("graspable" in r.things[i].affordances for i in targets):
        return None
    resting = {pair for a, word, b in r.scene.relations if word in ("on", "in") for pair in ((a, b), (b, a))}
    largest = max(r.things[i].area for i in targets)
    goals = [  # none that one of them rests on or carries: what is there already needs no collecting
        i
        for i in candidates(ask)
        if i not in targets
        and r.things[i].affordances & {"container", "surface"}
        and r.things[i].area >= 0.8 * largest
        and not any((i, target) in resting for target in targets)
    ]
    goal = _described(ask, goals)
    if not goal:
        return None
    inside = "container" in r.things[goal.targets[0]].affordances
    text = ask.one(_COLLECT_IN if inside else _COLLECT_ON)
    text = text.format(x=plural_phrase(noun), n=noun, y=goal.text)
    return Draft(text, "command", targets + goal.targets)


def clear(ask: Asking) -> Draft | None:
    """ "take everything off the plate"."""
    r = ask.r
    if not r.complete:
        return None
    pairs = sorted(
        {(word, o) for _, word, o in r.scene.relations if word in ("on", "in") and r.things[o].is_thing}
    )
    for k in ask.rng.permutation(len(pairs)):
        word, landmark = pairs[int(k)]
        mark = landmark_phrase(ask.r, ask.rng, landmark)
        targets = r.settle(np.minimum(r.noun("object"), r.related(word, landmark)))
        if mark and targets:
            frames = (
                ("take everything off {x}", "clear {x}", "remove everything from {x}")
                if word == "on"
                else ("empty {x}", "take everything out of {x}", "remove what is inside {x}")
            )
            return Draft(ask.one(frames).format(x=mark.text), "command", (*targets, landmark))
    return None


def two_steps(ask: Asking) -> Draft | None:
    one = single(ask, ("category", "colour", "size", "side"), graspable=True)
    two = single(ask, ("category", "colour", "category"), graspable=True, avoid=one.targets) if one else None
    if not one or not two:
        return None
    frames = (
        "first pick up {x}, then {y}",
        "pick up {x}, put {it} down and then take {y}",
        "take {x} and then {y}",
        "grab both {x} and {y}",
        "touch {x} and after that {y}",
    )
    text = ask.one(frames).format(x=one.text, y=two.text, it="them" if one.is_plural else "it")
    return Draft(text, "command", one.targets + two.targets)


def something(affordance: str, *texts: str) -> Maker:
    """A command that names a use instead of a thing; all things of that use are targets."""

    def make(ask: Asking) -> Draft | None:
        r = ask.r
        if not r.complete:
            return None
        targets = tuple(i for i, thing in enumerate(r.things) if affordance in thing.affordances)
        if not targets or not r.visible[list(targets)].all():
            return None
        text = ask.one(texts)
        return Draft(text, "name" if text.startswith("I ") else "command", targets)

    return make
