"""English nouns: what else a thing is called, plurals, articles, and what can be done with it.

The one owner of vocabulary for photos, cut-outs and collages; its tables are `assets/words.toml`. Nothing
here looks at pixels.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

__all__ = [
    "affordances_of",
    "all_nouns",
    "article",
    "everyday",
    "is_mass",
    "is_plural",
    "is_stuff",
    "might_be",
    "nouns_for",
    "plural",
    "synonyms_of",
]

# A noun with one of these keeps its plural on the first word: "pieces of clothing", "cups with a straw".
_JOINTS = (" of ", " with ", " on the ")


@cache
def _table(section: str) -> dict[str, tuple[str, ...]]:
    """A section of the tables: key -> nouns."""
    tables = tomllib.loads(files("ivm").joinpath("assets", "words.toml").read_text(encoding="utf-8"))
    return {key: _nouns(text) for key, text in tables[section].items()}


def _nouns(text: str) -> tuple[str, ...]:
    return tuple(noun.strip() for noun in text.replace("\n", " ").split(",") if noun.strip())


@cache
def _sort(name: str) -> frozenset[str]:
    return frozenset(_table("sorts")[name])


@cache
def _doubtful(noun: str) -> frozenset[str]:
    return frozenset(_table("doubtful").get(noun, ()))


@cache
def all_nouns() -> tuple[str, ...]:
    """Every noun with a synonym, a group or members, sorted."""
    groups = {noun for group, members in _table("groups").items() for noun in (group, *members)}
    return tuple(sorted(groups | set(_table("synonyms"))))


def synonyms_of(name: str) -> tuple[str, ...]:
    """Nouns that mean the same as `name`, without itself."""
    return _table("synonyms").get(name, ())


@cache
def nouns_for(name: str) -> tuple[str, ...]:
    """Other nouns that are true of whatever is called `name`: synonyms, then more and more general ones."""
    found = dict.fromkeys(synonyms_of(name))
    frontier = [name, *found]
    while frontier:
        noun = frontier.pop(0)
        for group, members in _table("groups").items():
            if noun in members and group != name and group not in found:
                found[group] = None
                frontier.append(group)
    return tuple(found)


@cache
def might_be(name: str, noun: str) -> bool:
    """Whether somebody may well call by `noun` a thing that is named `name`, without it being certain.

    True for doubtful cases ("fruit" of a tomato; "pants", and so "trousers", of jeans) and for a narrower
    noun than the name ("duck" of a bird): the thing may be one, the name does not tell.
    """
    if noun == name:
        return False
    meant = (noun, *(key for key, nouns in _table("synonyms").items() if noun in nouns))
    if any(name in _doubtful(one) for one in meant):
        return True
    return name in nouns_for(noun)


def is_plural(noun: str) -> bool:
    """Whether `noun` takes "are" as it stands: "jeans"."""
    return noun in _sort("plural")


def is_mass(noun: str) -> bool:
    """Whether `noun` takes no "a" and no plural: "grass"."""
    return noun in _sort("mass")


def is_stuff(name: str) -> bool:
    """Whether `name` is scenery rather than a thing: "sky", "wall", "tree"."""
    return name in _sort("stuff")


def article(phrase: str) -> str:
    """ "a" or "an", by sound: "an apple", "a unicorn"."""
    word = phrase.lower()
    if word.startswith(("uni", "use", "eu", "one", "ufo", "uk")):
        return "a"
    if word.startswith(("hour", "honest", "x-ray", "mp3")):
        return "an"
    return "an" if word[:1] in "aeiou" else "a"


@cache
def plural(noun: str) -> str:
    """The plural of an English noun: "wine glass" -> "wine glasses", "slice of cake" -> "slices of cake"."""
    if is_mass(noun) or is_plural(noun):
        return noun
    for joint in _JOINTS:
        if joint in noun:
            head, _, tail = noun.partition(joint)
            return plural(head) + joint + tail
    head, space, last = noun.rpartition(" ")
    irregular = _table("irregular").get(last)
    if irregular:
        return head + space + irregular[0]
    if last.endswith("man") and last not in ("human", "talisman"):
        return noun[:-3] + "men"
    if noun.endswith(("s", "sh", "ch", "x", "z")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def everyday(name: str) -> bool:
    """Whether photos often show one that nobody has labelled: "window", "shoe"."""
    return name in _sort("everyday")


@cache
def affordances_of(name: str) -> frozenset[str]:
    """What can be done with a thing of this name, of `ivm.data.scene.AFFORDANCES`; empty if unknown."""
    nouns = {name, *synonyms_of(name)}
    found = {affordance for affordance, names in _table("affordances").items() if nouns & set(names)}
    groups = {name, *nouns_for(name)}
    if groups & {"fruit", "vegetable", "food"} and not is_stuff(name):
        found.add("edible")
    if groups & _sort("graspable_groups") and not is_stuff(name):
        found.add("graspable")
    return frozenset(found)
