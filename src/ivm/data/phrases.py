"""Questions about labelled regions: names, colours, sizes, positions, and names that are absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ivm.data.colours import colour_of
from ivm.data.words import article, is_mass, is_plural, plural

__all__ = [
    "NAME_FRAMES",
    "SYNONYMS",
    "Question",
    "absent_question",
    "attribute_questions",
    "category_questions",
]

SYNONYMS: dict[str, tuple[str, ...]] = {
    "person": ("person", "person", "people", "human"),
    "sofa": ("sofa", "couch"),
    "couch": ("couch", "sofa"),
    "television": ("television", "tv", "screen"),
    "airplane": ("airplane", "plane", "aeroplane"),
    "motorcycle": ("motorcycle", "motorbike"),
    "bicycle": ("bicycle", "bike"),
    "cell phone": ("cell phone", "phone", "mobile phone"),
    "potted plant": ("potted plant", "plant"),
    "dining table": ("dining table", "table"),
    "purse": ("purse", "handbag"),
    "pants": ("pants", "trousers"),
    "jumper": ("jumper", "pullover"),
    "playing field": ("playing field", "field"),
    "pavement": ("pavement", "sidewalk"),
    "refrigerator": ("refrigerator", "fridge"),
    "sea": ("sea", "ocean"),
    "rug": ("rug", "carpet"),
}
"""What else people say for a name; the first is the name itself, repeated where it is far the commonest."""

NAME_FRAMES = (
    "{n}",
    "the {n}",
    "the {n}",
    "find the {n}",
    "where is the {n}?",
    "show me the {n}",
    "look at the {n}",
    "point to the {n}",
    "what colour is the {n}?",
    "describe the {n}",
    "keep only the {n}",
    "is there {a} {n} in the picture?",
    "can you see the {n}?",
    "please highlight the {n}",
    "what is the {n} like?",
    "tell me about the {n}",
)

# Names that hold others: "the wall" means every wall.
_PARENTS = {
    "brick wall": "wall",
    "stone wall": "wall",
    "tiled wall": "wall",
    "wooden wall": "wall",
    "wooden floor": "floor",
    "dining table": "table",
    "window blind": "window",
}


@dataclass(frozen=True)
class Question:
    """An instruction with its target mask (bool [H, W], empty if absent), its kind and its targets' names."""

    text: str
    kind: str
    mask: np.ndarray
    targets: tuple[str, ...]


def _say(name: str, rng: np.random.Generator, count: int = 1) -> str:
    said = SYNONYMS.get(name, (name,))
    word = said[rng.integers(len(said))]
    if count > 1 and rng.random() < 0.15:
        return f"how many {plural(word)} are there?"
    frame = NAME_FRAMES[rng.integers(len(NAME_FRAMES))]
    if is_plural(word):
        frame = frame.replace("{a} ", "").replace(" is the ", " are the ").replace("is there", "are there")
    elif is_mass(word):
        frame = frame.replace("{a} ", "")
    return frame.format(n=word, a=article(word))


def category_questions(names: Sequence[str], masks: np.ndarray, rng: np.random.Generator) -> list[Question]:
    """One question a name that occurs: all regions of that name are the target.

    Args:
        names: spoken name of each region.
        masks: bool [N, H, W], one a region.
    """
    questions = []
    for name in dict.fromkeys(names):
        mine = [i for i, other in enumerate(names) if other == name or _PARENTS.get(other) == name]
        target = np.asarray(masks[mine].any(axis=0))
        questions.append(Question(_say(name, rng, len(mine)), "category", target, (name,)))
    return questions


def absent_question(
    names: Sequence[str], vocabulary: Sequence[str], shape: tuple[int, int], rng: np.random.Generator
) -> Question | None:
    """A question for a name of `vocabulary` that no region has; None if there is no such name."""
    present = set(names) | {_PARENTS.get(name, name) for name in names}
    said = {word for name in present for word in SYNONYMS.get(name, (name,))}
    absent = [
        n
        for n in vocabulary
        if n not in present and not said & set(SYNONYMS.get(n, (n,))) and _PARENTS.get(n) not in present
    ]
    if not absent:
        return None
    return Question(_say(absent[rng.integers(len(absent))], rng), "absent", np.zeros(shape, bool), ())


_LOOKS = (
    "the {x}",
    "the {x}",
    "find the {x}",
    "look at the {x}",
    "where is the {x}?",
    "pick the {x}",
    "show me the {x}",
)


def attribute_questions(
    names: Sequence[str],
    masks: np.ndarray,
    instance: Sequence[bool],
    image: np.ndarray,
    rng: np.random.Generator,
) -> list[Question]:
    """Questions that colour, size or position decides, each true of exactly one region.

    Size and position need two or more instances of a name that differ clearly (area by a factor of 1.8,
    centre by 0.15 of the image's side). A colour must dominate the region and be no other region's of that
    name; only a name with several regions tests the colour, kind "colour"; for a single region it is a
    description, kind "described".

    Args:
        names: spoken name of each region.
        masks: bool [N, H, W].
        instance: whether each region is one object.
        image: uint8 [H, W, 3] of the masks' size.
    """
    questions: list[Question] = []
    height, width = masks.shape[1:]

    def ask(text: str, kind: str, index: int) -> None:
        frame = _LOOKS[rng.integers(len(_LOOKS))]
        questions.append(Question(frame.format(x=text), kind, masks[index], (names[index],)))

    for name in dict.fromkeys(names):
        mine = [i for i, other in enumerate(names) if other == name]
        areas = np.array([masks[i].sum() for i in mine])
        if areas.min() < 12:
            continue
        said = SYNONYMS.get(name, (name,))[0]
        colours = [colour_of(image, masks[i]) for i in mine]
        for i, colour in zip(mine, colours, strict=True):
            if colour and colours.count(colour) == 1 and (len(mine) == 1 or None not in colours):
                ask(f"{colour} {said}", "colour" if len(mine) > 1 else "described", i)
        if len(mine) < 2 or not all(instance[i] for i in mine):
            continue
        order = areas.argsort()
        if areas[order[-1]] > 1.8 * areas[order[-2]]:
            ask(f"{('largest', 'biggest')[rng.integers(2)]} {said}", "size", mine[order[-1]])
        if areas[order[0]] * 1.8 < areas[order[1]]:
            ask(f"smallest {said}", "size", mine[order[0]])
        x = np.array([np.flatnonzero(masks[i].any(axis=0)).mean() / width for i in mine])
        y = np.array([np.flatnonzero(masks[i].any(axis=1)).mean() / height for i in mine])
        for axis, low, high in ((x, "left", "right"), (y, "top", "bottom")):
            by = axis.argsort()
            if axis[by[1]] - axis[by[0]] > 0.15:
                ask(_place(said, low, len(mine), rng), "position", mine[by[0]])
            if axis[by[-1]] - axis[by[-2]] > 0.15:
                ask(_place(said, high, len(mine), rng), "position", mine[by[-1]])
    return questions


def _place(said: str, side: str, count: int, rng: np.random.Generator) -> str:
    if side in ("left", "right"):
        most, plain = f"{side}most {said}", f"{said} on the {side}"
    else:
        most, plain = f"{'topmost' if side == 'top' else 'lowest'} {said}", f"{said} at the {side}"
    return plain if count == 2 and rng.random() < 0.5 else most
