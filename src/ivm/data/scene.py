"""A scene in plain data: what is in a picture, where, and how the things stand to each other.

The one form between whatever makes pictures with known content (tabletop, collage, labelled photos) and the
one grammar that makes instructions from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from ivm.errors import InputError
from ivm.types import Box

__all__ = ["AFFORDANCES", "RELATIONS", "VIEWS", "Relation", "Scene", "Thing"]

RELATIONS = (
    "on",  # the subject rests on the object, which carries it: physical, not image height
    "in",  # the subject is inside the object
    "left of",  # in the picture, as the viewer sees it
    "right of",
    "above",  # in the picture; where depth is known "behind" and "in front of" are given instead
    "below",
    "behind",  # further from the camera, and overlapping or side by side with the object in the picture
    "in front of",
    "near",  # close together; symmetric, both directions are listed
    "nearest",  # the subject is the thing nearest to the object; at most one subject an object
)
"""Every relation that a scene may state."""

AFFORDANCES = ("container", "stackable", "pourable", "graspable", "surface", "readable", "edible")
"""What can be done with a thing: put something in it, stack it, pour from it, pick it up, put something on
it, read its text, eat it."""

VIEWS = ("side", "wrist", "top", "photo", "collage")
"""Where the camera is; "side", "wrist" and "top" are tabletop cameras."""

Relation = tuple[int, str, int]
"""(subject, one of RELATIONS, object): things[subject] is <relation> things[object]."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One thing that can be seen and named.

    Attributes:
        name: the noun as said, singular: "mug".
        mask: bool [H, W], its visible pixels; at least one.
        colour: colour word, "red"; None where it has none that can be named (unknown, or several).
        material: "wood", "metal", ...; None if unknown or not worth saying.
        pattern: "striped", "checked", "dotted", ... as an adjective; None if plain or unknown.
        size: "small" or "large" among things of its name; None if neither or unknown.
        depth: distance from the camera (metres for tabletop, else any unit of the scene); None if unknown.
        synonyms: other nouns for it, more general ones included: ("cup",).
        affordances: of AFFORDANCES.
        text: what can be read on it; None if nothing.
        is_thing: False for what is background or not to be picked up: table, wall, sky, robot arm.
        instance: True if the mask is one thing; False if it covers all of its name in the picture, which may
            be several things, as in photos with one region a class: nothing can be counted or compared there.

    Raises:
        InputError: the mask is not boolean [H, W] or is empty; the name is empty; an unknown affordance.
    """

    name: str
    mask: np.ndarray
    colour: str | None = None
    material: str | None = None
    pattern: str | None = None
    size: str | None = None
    depth: float | None = None
    synonyms: tuple[str, ...] = ()
    affordances: frozenset[str] = frozenset()
    text: str | None = None
    is_thing: bool = True
    instance: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a thing must have a name, but it is empty")
        if self.mask.dtype != np.bool_ or self.mask.ndim != 2 or not self.mask.any():
            raise InputError(
                f"the mask of {self.name!r} must be boolean [H, W] with at least one pixel, "
                f"but is {self.mask.dtype} {list(self.mask.shape)}"
            )
        object.__setattr__(self, "affordances", frozenset(self.affordances))
        unknown = self.affordances - set(AFFORDANCES)
        if unknown:
            raise InputError(
                f"affordances of {self.name!r} must be among {AFFORDANCES}, but got {sorted(unknown)}"
            )

    @cached_property
    def box(self) -> Box:
        """Smallest box (x0, y0, x1, y1) around the visible pixels, right and bottom exclusive."""
        x, y, width, height = cv2.boundingRect(self.mask.view(np.uint8))  # ten times as fast as numpy
        return x, y, x + width, y + height

    @cached_property
    def area(self) -> int:
        """Visible pixels."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def centre(self) -> tuple[float, float]:
        """(x, y), the mean of the visible pixels."""
        x0, y0, x1, y1 = self.box
        part = self.mask[y0:y1, x0:x1]
        columns, rows = part.sum(axis=0), part.sum(axis=1)
        x = float(columns @ np.arange(x0, x1)) / self.area
        y = float(rows @ np.arange(y0, y1)) / self.area
        return x, y


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture and what is in it.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        things: what can be named; their masks have the size of the image and do not overlap for tabletop
            (in photos they may).
        relations: see RELATIONS; indices into `things`.
        view: of VIEWS.
        vocabulary: the names that were looked for: of these, whatever is in the picture is in `things`, and
            one that no thing bears is absent. "object" among them, on a tabletop: every single thing is in
            `things`. None: everything that can be seen is.
        provenance: plain JSON values from which the scene can be made again (seed, index, spec, ...).

    Raises:
        InputError: an attribute does not have the form given above.
    """

    image: np.ndarray
    things: tuple[Thing, ...]
    relations: tuple[Relation, ...] = ()
    view: str = "photo"
    vocabulary: frozenset[str] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise InputError(
                f"a scene's image must be uint8 [H, W, 3], but is {self.image.dtype} {list(self.image.shape)}"
            )
        if self.view not in VIEWS:
            raise InputError(f"a scene's view must be one of {VIEWS}, but got {self.view!r}")
        object.__setattr__(self, "things", tuple(self.things))
        object.__setattr__(self, "relations", tuple(self.relations))
        if self.vocabulary is not None:
            object.__setattr__(self, "vocabulary", frozenset(self.vocabulary))
        for thing in self.things:
            if thing.mask.shape != self.image.shape[:2]:
                raise InputError(
                    f"the mask of {thing.name!r} must be {self.image.shape[:2]} like its image, "
                    f"but is {thing.mask.shape}"
                )
        for relation in self.relations:
            subject, word, object_ = relation
            if word not in RELATIONS:
                raise InputError(f"a relation must be one of {RELATIONS}, but got {word!r}")
            if (
                not (0 <= subject < len(self.things) and 0 <= object_ < len(self.things))
                or subject == object_
            ):
                raise InputError(
                    f"relation {relation} must join two of the scene's {len(self.things)} things"
                )

    def related(self, subject: int, relation: str) -> tuple[int, ...]:
        """Indices of every object to which `things[subject]` stands in `relation`, in order of listing."""
        return tuple(
            object_ for first, word, object_ in self.relations if first == subject and word == relation
        )
