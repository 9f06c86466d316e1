"""One instruction grammar for tabletop scenes, collages and photos.

`ivm.data.kinds` is the table of its kinds. An instruction is made only where it is unambiguous on its scene
(`ivm.data.expressions`). Targets: of a name or a position ("find the cup left of the plate"), what is
referred to; of a command or a question, every thing that it names or needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ivm.data.drafts import Asking, Draft
from ivm.data.kinds import GROUPS, KINDS
from ivm.data.manner import polish
from ivm.data.naming import name
from ivm.data.reading import Reading
from ivm.data.scene import Scene
from ivm.errors import OptionError

__all__ = ["Instruction", "instructions_for", "name_instructions"]

_TRIES = 8  # to make a contrast: as many drafts of the kind


@dataclass(frozen=True, eq=False)
class Instruction:
    """An instruction with what it is about.

    Attributes:
        text: as somebody might type it.
        kind: a name in `ivm.data.kinds.KINDS`.
        targets: indices into the scene's things, sorted; empty where the target is absent, or is a part of
            the picture.
        target_names: their names, in the same order; of a part of the picture, "part of the picture".
        mask: bool [H, W], the union of the targets' masks or the part of the picture; all False where the
            target is absent.
    """

    text: str
    kind: str
    targets: tuple[int, ...]
    target_names: tuple[str, ...]
    mask: np.ndarray


def instructions_for(
    scene: Scene,
    rng: np.random.Generator,
    kinds: Sequence[str] | None = None,
    count: int = 1,
    *,
    others: Sequence[str] = (),
    polite: float = 0.25,
    noise: float = 0.05,
    contrast: float = 0.0,
) -> list[Instruction]:
    """Up to `count` different instructions, each unambiguous on the scene.

    Groups of kinds come in the shares of GROUPS as far as the scene allows them; within a group, the kinds
    that it allows in the shares of their weights.

    Args:
        scene: with at least one thing, or nothing can be asked.
        rng: the dice; the same dice give the same instructions.
        kinds: names in `ivm.data.kinds.KINDS`; None for all.
        count: at least 1.
        others: nouns to ask for in vain, where absent from the scene. Empty: the scene's vocabulary.
        polite: share of commands that get a polite frame.
        noise: share of instructions that get typing errors.
        contrast: how often an instruction is followed by its contrast, where there is one: of the same kind,
            about things of the same names, but not the same things ("the left cup", "the right cup"). Who
            answers both must have listened.

    Returns:
        Instructions in the order made; fewer than `count` where the scene does not allow more.

    Raises:
        OptionError: a kind is unknown.
    """
    chosen = tuple(KINDS) if kinds is None else tuple(kinds)
    unknown = sorted(set(chosen) - set(KINDS))
    if unknown:
        raise OptionError(f"kinds must be among those of ivm.data.kinds.KINDS, but got {unknown}")
    ask = Asking(Reading(scene), rng, others)
    by_group: dict[str, list[str]] = {}
    for kind in chosen:
        by_group.setdefault(KINDS[kind].group, []).append(kind)
    groups = list(by_group)
    shares = np.array([GROUPS[group] for group in groups])
    made: list[Instruction] = []
    said: set[str] = set()

    def add(kind: str, draft: Draft) -> None:
        said.add(draft.text)
        made.append(_finish(scene, draft, kind, rng, polite, noise))

    for _ in range(4 * count):
        if len(made) == count:
            break
        group = groups[int(rng.choice(len(groups), p=shares / shares.sum()))]
        for kind in _shuffled(by_group[group], rng):
            draft = KINDS[kind].make(ask)
            if draft and draft.text not in said:
                add(kind, draft)
                if len(made) < count and contrast and rng.random() < contrast:
                    other = _contrast(ask, kind, draft)
                    if other and other.text not in said:
                        add(kind, other)
                break
    return made


def _shuffled(kinds: Sequence[str], rng: np.random.Generator) -> list[str]:
    """In random order, the first drawn in the shares of the weights, and so on with what is left."""
    keys = rng.exponential(size=len(kinds)) / [KINDS[kind].weight for kind in kinds]
    return [kinds[int(k)] for k in np.argsort(keys)]


def _contrast(ask: Asking, kind: str, draft: Draft) -> Draft | None:
    """Another draft of the kind whose things bear the same names, but are not the same."""

    def names(one: Draft) -> list[str]:
        return sorted(ask.r.things[i].name for i in one.targets)

    def means(one: Draft) -> tuple[set[int], object]:
        return set(one.targets), one.area

    for _ in range(_TRIES if draft.targets or draft.area else 0):
        other = KINDS[kind].make(ask)
        if other and means(other) != means(draft) and names(other) == names(draft):
            return other
    return None


def name_instructions(
    scene: Scene, rng: np.random.Generator, *, polite: float = 0.25, noise: float = 0.05
) -> list[Instruction]:
    """One instruction of kind "category" for each name in the scene, its targets everything so called.

    For evaluation: where `instructions_for` leaves out what is small or might be called otherwise, this asks
    for every name that the labels have.

    Args:
        scene: its things' own names are asked for.
        rng: the dice; the same dice give the same instructions.
        polite: share of commands that get a polite frame.
        noise: share of instructions that get typing errors.
    """
    ask = Asking(Reading(scene), rng, ())
    made = []
    for noun in dict.fromkeys(thing.name for thing in scene.things):
        called = tuple(
            i for i, thing in enumerate(scene.things) if noun == thing.name or noun in thing.synonyms
        )
        made.append(_finish(scene, name(ask, noun, called), "category", rng, polite, noise))
    return made


def _finish(
    scene: Scene, draft: Draft, kind: str, rng: np.random.Generator, polite: float, noise: float
) -> Instruction:
    targets = tuple(sorted(set(draft.targets)))
    mask = np.zeros(scene.image.shape[:2], bool)
    for i in targets:
        mask |= scene.things[i].mask
    names = tuple(scene.things[i].name for i in targets)
    if draft.area is not None:
        height, width = scene.image.shape[:2]
        x0, y0, x1, y1 = (
            round(share * side) for share, side in zip(draft.area, (width, height) * 2, strict=True)
        )
        mask[y0:y1, x0:x1] = True
        names = ("part of the picture",)
    return Instruction(polish(draft.text, draft.mood, rng, polite, noise), kind, targets, names, mask)
