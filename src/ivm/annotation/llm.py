"""Instructions to target phrases, and phrases to instructions, by an LLM behind an OpenAI-compatible server.

The wording of the requests is ours. Answers are JSON of one form, checked strictly; what fails twice fails
for that sample alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ivm.annotation.answers import Answers
from ivm.annotation.phrases import Composed, Simplified
from ivm.errors import DataError
from ivm.types import check_instruction

__all__ = ["Llm"]

_MOST = 8  # phrases of one instruction: more is a list of everything in the picture
_LONGEST = 80, 300  # characters of a phrase, of an instruction

_SIMPLIFY = """\
You prepare instructions about a picture for object detectors, which understand only short noun phrases. \
You do not see the picture. Given an instruction, name every object that must be looked at to follow it: \
what is acted on or asked about, and what it is brought to, compared with or placed by. Keep the words \
that tell it from others of its kind (colour, size, material, position). Resolve "it" and "them". If the \
object is only implied, name it by what it most likely is. If the instruction is about the whole picture, \
say so instead.

Answer with one JSON object and nothing else:
{"targets": ["noun phrase", ...], "whole_image": false}
with at most 8 targets in lower case without articles; or {"targets": [], "whole_image": true}.

Examples:
pick up the red cup and put it on the green plate -> {"targets": ["red cup", "green plate"], \
"whole_image": false}
What time is it? -> {"targets": ["clock"], "whole_image": false}
Is the woman to the left of the bus wearing a hat? -> {"targets": ["woman left of bus", "bus", "hat"], \
"whole_image": false}
What could I drink from? -> {"targets": ["cup"], "whole_image": false}
Describe this picture. -> {"targets": [], "whole_image": true}"""

_COMPOSE = """\
You write instructions that people might give to a robot or an assistant that sees a picture. You do not \
see the picture; you get a phrase that names something in it. Write instructions that can be followed by \
looking at exactly that thing and nothing else: commands, questions about its looks, its state, its \
purpose or its place, some of them indirect, so that one must reason to know which thing is meant. Invent \
no other objects, and no facts about it.

Answer with one JSON object and nothing else: {"instructions": ["...", ...]} with exactly as many \
different instructions as asked for."""


class Llm:
    """Simplifies and composes by an LLM; `simplify` is a `Simplify`, `compose` a `Compose`."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def simplify(self, instruction: str) -> Simplified:
        """The targets of an instruction.

        Raises:
            InstructionError: the instruction is empty or not text.
            DataError: the LLM gave no usable answer for it.
            LMMError: the LLM cannot be reached.
        """
        text = check_instruction(instruction)
        phrases = self.answers.ask(_messages(_SIMPLIFY, text), text, _check_targets)
        return Simplified(phrases, self.answers.by, whole=not phrases)

    def knows(self, instruction: str) -> bool:
        """Whether `simplify` has the answer already."""
        return self.answers.knows(_messages(_SIMPLIFY, check_instruction(instruction)))

    def compose(self, phrase: str, count: int) -> Composed:
        """`count` instructions about what a phrase names; errors as in `simplify`."""
        text = f"Phrase: {check_instruction(phrase)}\nNumber of instructions: {count}"
        made = self.answers.ask(
            _messages(_COMPOSE, text), phrase, lambda value: _check_instructions(value, count)
        )
        return Composed(made, self.answers.by)


def _messages(system: str, text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def _check_targets(value: Any) -> tuple[str, ...]:
    """The phrases; none if the whole picture is meant."""
    _check_keys(value, {"targets", "whole_image"})
    if not isinstance(value["whole_image"], bool):
        raise DataError(f'"whole_image" must be true or false, but is {value["whole_image"]!r}')
    targets = _texts(value["targets"], "targets", _LONGEST[0])
    if value["whole_image"] == bool(targets):
        raise DataError("there must be targets, or whole_image must be true, and not both")
    if len(targets) > _MOST:
        raise DataError(f"there must be at most {_MOST} targets, but there are {len(targets)}")
    return targets


def _check_instructions(value: Any, count: int) -> tuple[str, ...]:
    _check_keys(value, {"instructions"})
    texts = _texts(value["instructions"], "instructions", _LONGEST[1])
    if len(texts) != count:
        raise DataError(f"there must be {count} different instructions, but there are {len(texts)}")
    return texts


def _check_keys(value: Any, keys: set[str]) -> None:
    if not isinstance(value, Mapping) or set(value) != keys:
        got = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise DataError(
            f"the answer must be an object with {', '.join(sorted(keys))}, but has {got or 'none'}"
        )


def _texts(value: Any, key: str, longest: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{key!r} must be a list of texts")
    texts = tuple(dict.fromkeys(" ".join(item.split()) for item in value))
    for text in texts:
        if not 0 < len(text) <= longest or not any(sign.isalnum() for sign in text):
            raise DataError(f"each of {key!r} must have 1 to {longest} characters, but one is {text[:40]!r}")
    return texts
