from __future__ import annotations

import pytest

from ivm.data.scene import AFFORDANCES
from ivm.data.words import (
    affordances_of,
    all_nouns,
    article,
    everyday,
    is_mass,
    is_plural,
    is_stuff,
    might_be,
    nouns_for,
    plural,
    synonyms_of,
)


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("cup", "cups"),
        ("wine glass", "wine glasses"),
        ("woman", "women"),
        ("police officer", "police officers"),
        ("person", "people"),
        ("slice of cake", "slices of cake"),
        ("cup with a straw", "cups with a straw"),
        ("piece of clothing", "pieces of clothing"),
        ("knife", "knives"),
        ("die", "dice"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("brush", "brushes"),
        ("box", "boxes"),
        ("bus", "buses"),
        ("tomato", "tomatoes"),
        ("sheep", "sheep"),
        ("jeans", "jeans"),
        ("grass", "grass"),
        ("toy mouse", "toy mice"),
        ("human", "humans"),
        ("superhero", "superheroes"),
        ("prayer beads", "prayer beads"),
    ],
)
def test_plural(noun, many):
    assert plural(noun) == many


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("apple", "an"),
        ("unicorn", "a"),
        ("umbrella", "an"),
        ("hourglass", "an"),
        ("ufo", "a"),
        ("red apple", "a"),
    ],
)
def test_article_goes_by_sound(phrase, expected):
    assert article(phrase) == expected


def test_general_nouns_climb_but_never_come_back():
    assert set(nouns_for("poodle")) >= {"dog", "animal"}
    assert set(nouns_for("taxi")) >= {"car", "vehicle"}
    for noun in all_nouns():
        assert noun not in nouns_for(noun)
        assert len(set(nouns_for(noun))) == len(nouns_for(noun))


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("supervillain", "person"),
        ("basketball player", "person"),
        ("older man", "man"),
        ("princess", "woman"),
        ("girl", "child"),
        ("wilted rose", "flower"),
        ("storm cloud", "cloud"),
        ("broken heart", "heart"),
    ],
)
def test_every_member_of_a_group_is_in_it(name, group):
    assert group in nouns_for(name)


def test_a_trade_does_not_tell_man_from_woman():
    for name in ("police officer", "supervillain", "basketball player"):
        assert might_be(name, "man")
        assert might_be(name, "woman")
    assert not might_be("dog", "man")


def test_the_wider_name_leaves_the_narrower_noun_open():
    assert might_be("bird", "duck")  # a bird may be a duck ...
    assert not might_be("duck", "bird")  # ... a duck certainly is a bird
    assert might_be("tomato", "fruit")
    assert not might_be("hammer", "fruit")
    assert might_be("jeans", "pants")
    assert might_be("jeans", "trousers")  # the same by another word
    assert not might_be("jeans", "skirt")
    assert might_be("sweatshirt", "jumper")
    assert might_be("van", "lorry")


def test_synonyms_are_nouns_too():
    assert "bike" in synonyms_of("bicycle")
    assert "bike" in nouns_for("bicycle")
    assert synonyms_of("no such noun") == ()


def test_affordances_are_known_ones():
    assert "edible" in affordances_of("banana")
    assert {"container", "graspable", "pourable"} <= affordances_of("mug")
    assert not affordances_of("sky")
    for noun in all_nouns():
        assert affordances_of(noun) <= set(AFFORDANCES)


def test_sorts_of_nouns_exclude_each_other():
    assert is_stuff("sky")
    assert is_mass("grass")
    assert is_plural("scissors")
    assert everyday("window")
    assert not everyday("saxophone")
    assert not [noun for noun in all_nouns() if is_mass(noun) and is_plural(noun)]
