"""Makers of drafts: each turns a scene, read, and some dice into one instruction of its kind, or into None.

`ivm.data.grammar.KINDS` says which maker serves which kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ivm.data.colours import COLOURS
from ivm.data.expressions import Phrase, Reading, describe, pick_noun, plural_phrase, relation_words
from ivm.data.words import NOUNS, article, is_mass, is_plural

__all__ = [
    "HAND",
    "PICK",
    "Asking",
    "Draft",
    "Maker",
    "absent_category",
    "absent_colour",
    "absent_command",
    "absent_count",
    "absent_exists",
    "absent_ordinal",
    "absent_quality",
    "absent_relation",
    "act",
    "ask_about",
    "category",
    "clear",
    "collect",
    "compare",
    "compare_count",
    "count",
    "every",
    "exists_category",
    "exists_colour",
    "exists_relation",
    "group_but",
    "group_colour",
    "group_not",
    "group_relation",
    "pair",
    "pour",
    "push_to_side",
    "refer",
    "something",
    "two",
    "two_steps",
    "what_is",
]


@dataclass(frozen=True)
class Draft:
    """An instruction before its manner: text, mood ("name", "command" or "question") and targets."""

    text: str
    mood: str
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Asking:
    """What a maker of drafts is given."""

    r: Reading
    rng: np.random.Generator
    others: Sequence[str]

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]


Maker = Callable[[Asking], Draft | None]


REFER = (
    ("{x}", "name"), ("{x}", "name"), ("{x}", "name"), ("find {x}", "command"), ("show me {x}", "command"), ("look at {x}", "command"),
    ("point to {x}", "command"), ("point at {x}", "command"), ("highlight {x}", "command"), ("locate {x}", "command"),
    ("where {be} {x}?", "question"), ("keep only {x}", "command"), ("focus on {x}", "command"), ("mark {x}", "command"),
    ("describe {x}", "command"), ("tell me about {x}", "command"), ("I am looking for {x}", "name"), ("outline {x}", "command"),
    ("which part of the picture shows {x}?", "question"), ("mask everything but {x}", "command"), ("do you see {x}?", "question"),
    ("zoom in on {x}", "command"), ("what do you notice about {x}?", "question"), ("select {x}", "command"),
)  # fmt: skip
PICK = ("pick up {x}", "pick up {x}", "grab {x}", "take {x}", "lift {x}", "get {x}", "grasp {x}", "pick {x} up", "move the gripper to {x}",
         "reach for {x}", "get hold of {x}")  # fmt: skip
HAND = (
    "give me {x}",
    "hand me {x}",
    "pass me {x}",
    "bring me {x}",
    "hand over {x}",
    "fetch {x}",
    "bring {x} to me",
)


def _frame(ask: Asking, frames: Sequence[tuple[str, str]], phrase: Phrase) -> Draft:
    frame, mood = frames[int(ask.rng.integers(len(frames)))]
    bare = phrase.text
    if frame == "{x}" and ask.rng.random() < 0.4:
        bare = bare.removeprefix("the ")
    return Draft(frame.format(x=bare, be="are" if phrase.is_plural else "is"), mood, phrase.targets)


def _candidates(ask: Asking, graspable: bool = False) -> list[int]:
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


def _single(
    ask: Asking, styles: Sequence[str], graspable: bool = False, avoid: Sequence[int] = ()
) -> Phrase | None:
    """A phrase in one of these styles for one thing."""
    for i in _candidates(ask, graspable)[:6]:
        if i in avoid:
            continue
        style = styles[int(ask.rng.integers(len(styles)))]
        phrase = describe(ask.r, ask.rng, i, style)
        if phrase:
            return phrase
    return None


def refer(*styles: str) -> Maker:
    def make(ask: Asking) -> Draft | None:
        phrase = _single(ask, styles)
        return _frame(ask, REFER, phrase) if phrase else None

    return make


def act(verbs: Sequence[str], *styles: str) -> Maker:
    """A command about one thing to be grasped; what the phrase places it by is named and so a target too."""

    def make(ask: Asking) -> Draft | None:
        phrase = _single(ask, styles, graspable=True)
        if not phrase:
            return None
        text = ask.one(verbs).format(x=phrase.text)
        return Draft(text, "command", (*phrase.targets, *phrase.landmarks))

    return make


# ---------------------------------------------------------------------------------------------- names and groups


def _all_of(ask: Asking, noun: str) -> tuple[int, ...] | None:
    return ask.r.settle(ask.r.noun(noun))


def _some_noun(ask: Asking, at_least: int, plain: bool = False) -> tuple[str, tuple[int, ...]] | None:
    """A noun with all the single things it is true of, at least so many."""
    r, rng = ask.r, ask.rng
    for i in _candidates(ask)[:6]:
        noun = r.things[i].name if plain and r.knows(r.things[i].name) else pick_noun(r, rng, i)
        targets = _all_of(ask, noun) if noun else None
        if noun and targets and len(targets) >= at_least and (at_least < 2 or r.single[list(targets)].all()):
            return noun, targets
    return None


def category(ask: Asking) -> Draft | None:
    found = _some_noun(ask, 1)
    if not found:
        return None
    noun, targets = found
    many = len(targets) > 1 or (ask.r.several[targets[0]] and ask.rng.random() < 0.1)
    said = plural_phrase(noun) if many and not is_mass(noun) else noun
    return _frame(ask, REFER, Phrase(f"the {said}", noun, targets, (), said != noun or is_plural(noun)))


def every(ask: Asking) -> Draft | None:
    found = _some_noun(ask, 2)
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
    return _frame(ask, REFER, Phrase(text, noun, targets, (), True))


def group_colour(ask: Asking) -> Draft | None:
    r = ask.r
    for i in _candidates(ask)[:6]:
        noun, colour = pick_noun(r, ask.rng, i, 0.4), r.things[i].colour
        if not noun or not colour or is_mass(noun) or is_plural(noun):
            continue
        targets = r.settle(np.minimum(r.noun(noun), r.colour(colour)), allow_class=False)
        if targets and len(targets) > 1:
            many = plural_phrase(noun)
            text = ask.one(
                (f"the {colour} {many}", f"all the {colour} {many}", f"all {many} that are {colour}")
            )
            return _frame(ask, REFER, Phrase(text, noun, targets, (), True))
    return None


def group_but(ask: Asking) -> Draft | None:
    """All of a name but one: "all the cups but the blue one"."""
    r = ask.r
    found = _some_noun(ask, 3)
    if not found or is_plural(found[0]):
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
                return _frame(ask, REFER, Phrase(text, noun, rest, (), True))
    return None


def group_not(ask: Asking) -> Draft | None:
    """ "the cups that are not red"."""
    r = ask.r
    found = _some_noun(ask, 3)
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
    text = f"the {plural_phrase(noun)} that {ask.one(('are not', 'are n’t'.replace(' n’', 'n’')))} {colour}".replace(
        "’", "'"
    )
    return _frame(ask, REFER, Phrase(text, noun, rest, (), True))


def group_relation(*relations: str) -> Maker:
    """ "everything on the plate", "the cups left of the plate"."""

    def make(ask: Asking) -> Draft | None:
        r = ask.r
        pairs = sorted({(word, o) for _, word, o in r.scene.relations if word in relations})
        for k in ask.rng.permutation(len(pairs))[:5]:
            word, landmark = pairs[int(k)]
            mark = _mark(ask, landmark)
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
                text = f"{head} {relation_words(word, ask.rng)} {mark.text}"
                is_many = not head.startswith(("everything", "whatever"))
                return _frame(ask, REFER, Phrase(text, noun, targets, (landmark,), is_many))
        return None

    return make


def _mark(ask: Asking, i: int) -> Phrase | None:
    """A short phrase for one thing that another is placed by."""
    if not ask.r.visible[i] or not ask.r.things[i].instance:
        return None
    return describe(ask.r, ask.rng, i, "category") or describe(ask.r, ask.rng, i, "colour")


def two(ask: Asking) -> Draft | None:
    one = _single(ask, ("category", "colour", "size", "side"))
    two = _single(ask, ("category", "category", "colour", "size"), avoid=one.targets) if one else None
    if not one or not two or two.targets == one.targets:
        return None
    text = f"{one.text} and {two.text}"
    return _frame(ask, REFER, Phrase(text, one.noun, one.targets + two.targets, (), True))


# --------------------------------------------------------------------------------------------------- questions


def ask_about(*questions: str, styles: Sequence[str] = ("category", "colour", "side", "superlative", "size", "place"),
               needs: str = "") -> Maker:  # fmt: skip
    """A question about one thing; `needs` names an attribute that it must have."""

    def make(ask: Asking) -> Draft | None:
        phrase = _single(ask, styles)
        if not phrase or (needs and not getattr(ask.r.things[phrase.targets[0]], needs)):
            return None
        text = ask.one(questions).format(x=phrase.text, be="are" if phrase.is_plural else "is", do="do" if phrase.is_plural else "does",
                                         have="have" if phrase.is_plural else "has")  # fmt: skip
        return Draft(
            text, "question" if text.endswith("?") else "command", (*phrase.targets, *phrase.landmarks)
        )

    return make


def count(coloured: bool) -> Maker:
    def make(ask: Asking) -> Draft | None:
        r = ask.r
        for i in _candidates(ask)[:6]:
            noun, colour = pick_noun(r, ask.rng, i, 0.2), r.things[i].colour
            if not noun or is_mass(noun) or is_plural(noun) or (coloured and not colour):
                continue
            truth = np.minimum(r.noun(noun), r.colour(str(colour))) if coloured else r.noun(noun)
            targets = r.settle(truth, allow_class=False)
            if targets:
                many = f"{colour} {plural_phrase(noun)}" if coloured else plural_phrase(noun)
                questions = ("how many {x} are there?", "how many {x} can you see?", "count the {x}", "what is the number of {x}?",
                             "how many {x} do you see in the picture?")  # fmt: skip
                text = ask.one(questions).format(x=many)
                return Draft(text, "question" if text.endswith("?") else "command", targets)
        return None

    return make


def _some(noun: str, colour: str = "") -> str:
    phrase = f"{colour} {noun}".strip()
    if is_plural(noun):
        return f"any {phrase}"
    return f"any {phrase}" if is_mass(noun) else f"{article(phrase)} {phrase}"


def _exists(noun: str, colour: str, ask: Asking) -> str:
    be = "are" if is_plural(noun) else "is"
    some = _some(noun, colour)
    return ask.one((f"{be} there {some}?", f"{be} there {some} in the picture?", f"can you see {some}?", f"do you see {some} here?",
                    f"does the picture show {some}?"))  # fmt: skip


def exists_category(ask: Asking) -> Draft | None:
    found = _some_noun(ask, 1)
    return Draft(_exists(found[0], "", ask), "question", found[1]) if found else None


def exists_colour(ask: Asking) -> Draft | None:
    r = ask.r
    for i in _candidates(ask)[:6]:
        noun, colour = pick_noun(r, ask.rng, i, 0.2), r.things[i].colour
        if noun and colour:
            targets = r.settle(np.minimum(r.noun(noun), r.colour(colour)))
            if targets:
                return Draft(_exists(noun, colour, ask), "question", targets)
    return None


def exists_relation(ask: Asking) -> Draft | None:
    r = ask.r
    for k in ask.rng.permutation(len(r.scene.relations))[:6]:
        subject, word, landmark = r.scene.relations[int(k)]
        mark = _mark(ask, landmark)
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
        mark = _mark(ask, landmark)
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
            text = text.format(w=relation_words(word, ask.rng), x=mark.text)
            return Draft(text, "question" if text.endswith("?") else "command", (*targets, landmark))
    return None


def compare(*questions: str, attribute: str = "") -> Maker:
    """A question about two things, both of which must be looked at."""

    def make(ask: Asking) -> Draft | None:
        one = _single(ask, ("category", "category", "colour", "side"))
        if not one or not ask.r.single[one.targets[0]]:
            return None
        two = _single(ask, ("category", "category", "colour"), avoid=one.targets)
        if (
            not two
            or not ask.r.single[two.targets[0]]
            or (attribute == "depth" and not _has_depth(ask, one, two))
        ):
            return None
        if attribute == "colour" and (one.text.split()[1] in COLOURS or two.text.split()[1] in COLOURS):
            return None  # would give the answer away
        text = ask.one(questions).format(
            a=one.text, b=two.text, be="are" if one.is_plural else "is", do="do" if one.is_plural else "does"
        )
        return Draft(text, "question", one.targets + two.targets)

    return make


def _has_depth(ask: Asking, one: Phrase, two: Phrase) -> bool:
    return all(ask.r.things[p.targets[0]].depth is not None for p in (one, two))


def compare_count(ask: Asking) -> Draft | None:
    one, two = _some_noun(ask, 2), _some_noun(ask, 1, plain=True)
    if not one or not two or set(one[1]) & set(two[1]) or not ask.r.single[list(two[1])].all():
        return None
    if is_mass(one[0]) or is_mass(two[0]):
        return None
    a, b = plural_phrase(one[0]), plural_phrase(two[0])
    text = ask.one((f"are there more {a} than {b}?", f"are there fewer {b} than {a}?", f"which are there more of, {a} or {b}?",
                    f"are there as many {b} as {a}?"))  # fmt: skip
    return Draft(text, "question", one[1] + two[1])


# ---------------------------------------------------------------------------------------------------- commands


def pair(*frames: str, needs: str, avoid: str = "") -> Maker:
    """A command that brings one thing to another; `needs` is an affordance of the second."""

    def make(ask: Asking) -> Draft | None:
        r = ask.r
        one = _single(
            ask,
            ("category", "colour", "category", "size", "side", "pattern", "material", "superlative"),
            graspable=True,
        )
        if not one:
            return None
        goals = [
            i
            for i in _candidates(ask)
            if i not in one.targets and (not needs or needs in r.things[i].affordances)
        ]
        if needs == "stackable" and "stackable" not in r.things[one.targets[0]].affordances:
            return None
        if needs == "poured" or (
            avoid and any((one.targets[0], avoid, g) in r.scene.relations for g in goals)
        ):
            return None
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
    from_ = _described(ask, [i for i in _candidates(ask) if "pourable" in r.things[i].affordances])
    if not from_:
        return None
    into = _described(
        ask,
        [i for i in _candidates(ask) if "container" in r.things[i].affordances and i not in from_.targets],
    )
    if not into:
        return None
    text = ask.one(("pour from {x} into {y}", "pour what is in {x} into {y}", "empty {x} into {y}", "fill {y} from {x}",
                    "use {x} to fill {y}", "tip {x} over {y}")).format(x=from_.text, y=into.text)  # fmt: skip
    return Draft(text, "command", from_.targets + into.targets)


def push_to_side(ask: Asking) -> Draft | None:
    phrase = _single(ask, ("category", "colour", "size", "side", "pattern", "material"), graspable=True)
    if not phrase:
        return None
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
    return Draft(f"{verb} {phrase.text} {way}", "command", phrase.targets)


def collect(ask: Asking) -> Draft | None:
    """ "put all the red blocks into the bowl"."""
    r = ask.r
    found = _some_noun(ask, 2)
    if not found or is_mass(found[0]) or not all("graspable" in r.things[i].affordances for i in found[1]):
        return None
    noun, targets = found
    goals = [
        i for i in _candidates(ask) if i not in targets and r.things[i].affordances & {"container", "surface"}
    ]
    goal = _described(ask, goals)
    if not goal:
        return None
    inside = "container" in r.things[goal.targets[0]].affordances
    text = ask.one(
        (
            "put all the {x} {w} {y}",
            "collect the {x} {w} {y}",
            "gather every {n} {w} {y}",
            "sort the {x} {w} {y}",
        )
    )
    text = text.format(x=plural_phrase(noun), n=noun, w="in" if inside else "on", y=goal.text)
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
        mark = _mark(ask, landmark)
        targets = r.settle(np.minimum(r.noun("object"), r.related(word, landmark)))
        if mark and targets:
            frames = ("take everything off {x}", "clear {x}", "remove everything from {x}") if word == "on" else (
                "empty {x}", "take everything out of {x}", "remove what is inside {x}")  # fmt: skip
            return Draft(ask.one(frames).format(x=mark.text), "command", (*targets, landmark))
    return None


def two_steps(ask: Asking) -> Draft | None:
    one = _single(ask, ("category", "colour", "size", "side"), graspable=True)
    two = _single(ask, ("category", "colour", "category"), graspable=True, avoid=one.targets) if one else None
    if not one or not two:
        return None
    frames = ("first pick up {x}, then {y}", "pick up {x}, put {it} down and then take {y}", "take {x} and then {y}",
              "grab both {x} and {y}", "after moving {x}, move {y}", "touch {x} and after that {y}")  # fmt: skip
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
        return Draft(ask.one(texts), "command", targets)

    return make


# ----------------------------------------------------------------------------------------------------- absent


def _absent_noun(ask: Asking) -> str | None:
    """A noun that is true of nothing in the scene, of those that would be known if it were."""
    r = ask.r
    names = ask.others or sorted(r.scene.vocabulary or NOUNS)
    for _ in range(8):
        noun = ask.one(names)
        if r.knows(noun) and not r.noun(noun).any():
            return noun
    return None


def absent_category(ask: Asking) -> Draft | None:
    noun = _absent_noun(ask)
    return _frame(ask, REFER, Phrase(f"the {noun}", noun, (), (), is_plural(noun))) if noun else None


def absent_exists(ask: Asking) -> Draft | None:
    noun = _absent_noun(ask)
    return Draft(_exists(noun, "", ask), "question", ()) if noun else None


def absent_count(ask: Asking) -> Draft | None:
    noun = _absent_noun(ask)
    if not noun or is_mass(noun):
        return None
    text = ask.one(("how many {x} are there?", "count the {x}", "how many {x} can you see?")).format(
        x=plural_phrase(noun)
    )
    return Draft(text, "question" if text.endswith("?") else "command", ())


def absent_command(ask: Asking) -> Draft | None:
    noun = _absent_noun(ask)
    if not noun or not any("graspable" in thing.affordances for thing in ask.r.things):
        return None
    return Draft(ask.one(PICK + HAND).format(x=f"the {noun}"), "command", ())


def absent_colour(ask: Asking) -> Draft | None:
    """The noun is there, in other colours."""
    r = ask.r
    for i in _candidates(ask)[:6]:
        noun = pick_noun(r, ask.rng, i, 0.1)
        colour = ask.one(tuple(COLOURS))
        if noun and not np.minimum(r.noun(noun), r.colour(colour)).any():
            return _frame(ask, REFER, Phrase(f"the {colour} {noun}", noun, (), (), is_plural(noun)))
    return None


def absent_quality(ask: Asking) -> Draft | None:
    """The noun is there, of another material or pattern."""
    r = ask.r
    for attribute in ("material", "pattern"):
        values = sorted({str(getattr(t, attribute)) for t in r.things if getattr(t, attribute)})
        for i in _candidates(ask)[:4] if values else ():
            noun, value = pick_noun(r, ask.rng, i), ask.one(values)
            if noun and not np.minimum(r.noun(noun), r.quality(attribute, value)).any():
                return _frame(ask, REFER, Phrase(f"the {value} {noun}", noun, (), (), is_plural(noun)))
    return None


def absent_relation(ask: Asking) -> Draft | None:
    """Both things are there, but not so."""
    r = ask.r
    words = ["left of", "right of", "above", "below"] + (["on", "in"] if r.tabletop else [])
    for i in _candidates(ask)[:5]:
        noun = pick_noun(r, ask.rng, i)
        marks = [k for k in r.askable if k != i and r.single[k]]
        if not noun or not marks or not r.single[i]:
            continue
        landmark, word = marks[int(ask.rng.integers(len(marks)))], ask.one(words)
        truth = np.minimum(r.noun(noun), r.related(word, landmark))
        mark = _mark(ask, landmark)
        if mark and mark.noun != noun and not truth.any():
            text = f"the {noun} {relation_words(word, ask.rng)} {mark.text}"
            return _frame(ask, REFER, Phrase(text, noun, (), (), is_plural(noun)))
    return None


def absent_ordinal(ask: Asking) -> Draft | None:
    """ "the fourth cup from the left" of three."""
    found = _some_noun(ask, 2)
    if not found or is_plural(found[0]) or is_mass(found[0]) or len(found[1]) > 4:
        return None
    word = ("third", "fourth", "fifth")[len(found[1]) - 2]
    side = ask.one(("left", "right"))
    return _frame(ask, REFER, Phrase(f"the {word} {found[0]} from the {side}", found[0], (), (), False))
