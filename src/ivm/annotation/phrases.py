"""What an LLM or the rules give: target phrases of an instruction, or instructions for a phrase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Compose", "Composed", "Simplified", "Simplify"]


@dataclass(frozen=True)
class Simplified:
    """The targets of an instruction.

    Attributes:
        phrases: short noun phrases, each of which an expert can ground; empty if `whole`.
        by: who says so: "rules", or "llm" and the LLM's name.
        whole: the instruction is about the whole picture ("describe this scene"): nothing is to be grounded.
        note: what a reader of the annotation should know, such as that the text was handed on unchanged.
    """

    phrases: tuple[str, ...]
    by: str
    whole: bool = False
    note: str = ""


@dataclass(frozen=True)
class Composed:
    """Instructions made for a phrase, and by whom."""

    instructions: tuple[str, ...]
    by: str


Simplify: TypeAlias = Callable[[str], Simplified]
"""An instruction to its targets. Raises DataError where that fails for this instruction."""

Compose: TypeAlias = Callable[[str, int], Composed]
"""(phrase, how many) to instructions. Raises DataError where that fails for this phrase."""
