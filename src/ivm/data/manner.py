"""The manner of an instruction: politeness, capitals, punctuation and typing errors. Its meaning stays."""

from __future__ import annotations

import numpy as np

__all__ = ["polish", "slips", "typing_errors"]

_REQUESTS = (
    "please {t}",
    "{t}, please",
    "{t} please",
    "could you {t}?",
    "could you please {t}?",
    "can you {t}?",
    "can you {t} for me?",
    "would you {t}?",
    "would you be so kind as to {t}?",
    "I want you to {t}",
    "I need you to {t}",
    "I'd like you to {t}",
    "robot, {t}",
    "hey robot, {t}",
    "now {t}",
    "ok, {t}",
    "your task: {t}",
    "the next step is to {t}",
)
_QUESTIONS = (
    "{t}",
    "{t}",
    "{t}",
    "tell me, {t}",
    "please tell me: {t}",
    "quick question: {t}",
    "look at the picture: {t}",
    "hm, {t}",
)
_NEIGHBOURS = {
    "a": "sqz",
    "b": "vnh",
    "c": "xvd",
    "d": "sfe",
    "e": "wrd",
    "f": "dgr",
    "g": "fht",
    "h": "gjy",
    "i": "uok",
    "j": "hku",
    "k": "jli",
    "l": "kop",
    "m": "nj",
    "n": "bmh",
    "o": "ipl",
    "p": "ol",
    "q": "wa",
    "r": "etf",
    "s": "adw",
    "t": "ryg",
    "u": "yij",
    "v": "cbf",
    "w": "qes",
    "x": "zcs",
    "y": "tuh",
    "z": "xa",
}


def polish(text: str, mood: str, rng: np.random.Generator, polite: float = 0.25, noise: float = 0.05) -> str:
    """An instruction as somebody might type it.

    Args:
        text: without capital or full stop; a question has its question mark.
        mood: "command" (starts with a verb), "question" or "name" (a bare noun phrase).
        polite: share of commands and questions that get a polite or wordy frame, in [0, 1].
        noise: share of instructions that get one or two typing errors, in [0, 1].
    """
    if mood == "command" and rng.random() < polite:
        text = _REQUESTS[int(rng.integers(len(_REQUESTS)))].format(t=text)
    elif mood == "question" and rng.random() < 0.5 * polite:
        text = _QUESTIONS[int(rng.integers(len(_QUESTIONS)))].format(t=text)
    if text.endswith("?"):
        if rng.random() < 0.1:
            text = text[:-1]
    elif mood == "command" and rng.random() < 0.35:
        text += "." if rng.random() < 0.9 else "!"
    if rng.random() < 0.55:
        text = text[0].upper() + text[1:]
    if rng.random() < noise:
        text = typing_errors(text, rng)
    return text


def typing_errors(text: str, rng: np.random.Generator) -> str:
    """`text` with one or two slips of the finger inside words of five letters or more; first letters stay."""
    for _ in range(1 if rng.random() < 0.75 else 2):
        spots: list[int] = []
        start = 0
        for word in text.split(" "):
            if len(word) >= 5 and word.isalpha():
                spots += range(start + 1, start + len(word) - 1)
            start += len(word) + 1
        if not spots:
            return text
        k = int(spots[int(rng.integers(len(spots)))])
        ways = _slips_at(text, k)
        way = ways[int(rng.integers(len(ways)))]
        text = way[int(rng.integers(len(way)))] if len(way) > 1 else way[0]
    return text


def slips(word: str) -> frozenset[str]:
    """All that one typing error makes of a word of five letters or more, in lower case."""
    spots = range(1, len(word) - 1) if len(word) >= 5 else ()
    return frozenset(slip for k in spots for way in _slips_at(word, k) for slip in way) - {word}


def _slips_at(text: str, k: int) -> tuple[tuple[str, ...], ...]:
    """`text` with two letters swapped, one left out, one doubled, or a neighbour of it hit, at place k."""
    letter = text[k].lower()
    return (
        (text[:k] + text[k + 1] + text[k] + text[k + 2 :],),
        (text[:k] + text[k + 1 :],),
        (text[:k] + text[k] + text[k:],),
        tuple(text[:k] + near + text[k + 1 :] for near in _NEIGHBOURS.get(letter, letter)),
    )
