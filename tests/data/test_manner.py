from __future__ import annotations

import difflib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ivm.data.manner import polish, slips, typing_errors


def test_without_manner_only_capital_and_stop_differ():
    for seed in range(50):
        text = polish("pick up the cup", "command", np.random.default_rng(seed), 0.0, 0.0)
        assert text.lower().rstrip(".!") == "pick up the cup"
    said = {polish("pick up the cup", "command", np.random.default_rng(s), 1.0, 0.0) for s in range(300)}
    assert len(said) > 20
    assert all("pick up the cup" in text.lower() for text in said)


def test_names_are_never_asked_for_politely():
    assert all(
        polish("the cup", "name", np.random.default_rng(s), 1.0, 0.0).lower() == "the cup" for s in range(60)
    )


def test_share_of_typing_errors():
    changed = sum(
        polish("pick up the orange", "name", np.random.default_rng(s), 0.0, 0.3).lower()
        != "pick up the orange"
        for s in range(1000)
    )
    assert 200 < changed < 330  # some slips, such as an "e" for an "e", change nothing


@given(
    st.integers(0, 10_000),
    st.sampled_from(["pick up the green cup", "the bus", "how many giraffes are there?"]),
)
def test_slips_stay_small_and_spare_short_words_and_first_letters(seed, text):
    slipped = typing_errors(text, np.random.default_rng(seed))
    assert difflib.SequenceMatcher(None, text, slipped).ratio() > 0.8
    assert len(slipped.split()) == len(text.split())
    for before, after in zip(text.split(), slipped.split(), strict=True):
        assert before[0] == after[0]
        if len(before) < 5:
            assert before == after


@given(st.integers(0, 10_000), st.sampled_from(["right", "yellow", "leftmost"]))
def test_slips_are_all_that_one_slip_makes(seed, word):
    once = typing_errors(word, np.random.default_rng(seed))
    assert once in slips(word) | {word} or any(once in slips(twice) for twice in slips(word))
    assert word not in slips(word)
    assert not slips("left")  # too short for a slip
