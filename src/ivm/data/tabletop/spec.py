"""What tabletop scenes are to be made: one validated value that travels as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.paint import COLOUR_NAMES
from ivm.errors import OptionError

__all__ = ["CAMERAS", "TabletopSpec"]

CAMERAS = ("side", "wrist", "top")

_MAX_SIDE = 2048


@dataclass(frozen=True)
class TabletopSpec:
    """Options of tabletop scenes; scenes are a function of (spec, seed, index) and of nothing else.

    Attributes:
        size: picture's side in pixels, 64 to 2048.
        shadows: cast shadows; costs more than half of the speed.
        smooth: smooth edges by four samples a pixel (masks stay exact); costs some speed.
        shapes: names of KINDS to draw from; empty for all.
        colours: of COLOUR_NAMES to draw from; empty for all. A shape that has none of them is left out.
        exclude_pairs: (shape, colour) pairs that never occur, to be kept for a test of unseen pairs.
        only_pairs: if not empty, every scene has at least one thing of these (shape, colour) pairs.
        objects: (fewest, most) objects on the table, within 1 to 16.
        views: of CAMERAS, drawn alike often; repeat one to have it more often.
        robot: share of scenes with a robot arm, in [0, 1].
        stacked: share of objects that are put on or in another one, where one fits, in [0, 1].
        twins: share of objects that repeat the shape of one already there in another colour, in [0, 1].
        patterns: share of things with a pattern, among those that may have one, in [0, 1].
        labels: share of things with a text, among those that may have one, in [0, 1].
        min_pixels: things with fewer visible pixels at size 256 (scaled by area otherwise) are not named.
        photos: folder of pictures whose patches become textures of tables, floors, walls and screens; none if
            empty. Scenes then depend on its pictures too.
        block: scenes that share one compiled set of specimens and textures; part of what defines the scenes.

    Raises:
        OptionError: an attribute is outside what it accepts, or nothing is left to draw from.
    """

    size: int = 256
    shadows: bool = True
    smooth: bool = True
    shapes: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    exclude_pairs: tuple[tuple[str, str], ...] = ()
    only_pairs: tuple[tuple[str, str], ...] = ()
    objects: tuple[int, int] = (2, 12)
    views: tuple[str, ...] = ("side", "side", "top", "wrist")
    robot: float = 0.35
    stacked: float = 0.35
    twins: float = 0.3
    patterns: float = 0.25
    labels: float = 0.4
    min_pixels: int = 60
    photos: str = ""
    block: int = 400

    def __post_init__(self) -> None:
        for name in ("shapes", "colours", "views"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("exclude_pairs", "only_pairs"):
            object.__setattr__(self, name, _pairs(name, getattr(self, name)))
        object.__setattr__(self, "objects", tuple(self.objects))
        _check_names("shapes", self.shapes, tuple(KINDS))
        _check_names("colours", self.colours, COLOUR_NAMES)
        _check_names("views", self.views, CAMERAS)
        if not self.views:
            raise OptionError(f"tabletop views must name at least one of {CAMERAS}, but is empty")
        if not (isinstance(self.size, int) and 64 <= self.size <= _MAX_SIDE):
            raise OptionError(
                f"tabletop size must be an integer from 64 to {_MAX_SIDE}, but got {self.size!r}"
            )
        counts = self.objects
        if (
            len(counts) != 2
            or not all(isinstance(n, int) for n in counts)
            or not 1 <= counts[0] <= counts[1] <= 16
        ):
            raise OptionError(f"tabletop objects must be (fewest, most) within 1 to 16, but got {counts!r}")
        for name in ("robot", "stacked", "twins", "patterns", "labels"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
                raise OptionError(f"tabletop {name} must be a share in [0, 1], but got {value!r}")
        for name in ("min_pixels", "block"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise OptionError(f"tabletop {name} must be an integer of at least 1, but got {value!r}")
        if not self.choices:
            raise OptionError("tabletop shapes, colours and exclude_pairs leave nothing to draw from")
        for shape, colour in self.only_pairs:
            if colour not in self.choices.get(shape, ()):
                raise OptionError(f"tabletop only_pairs: a {colour} {shape} is excluded or never occurs")

    @cached_property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Shape -> the colours it may have (repeated ones come more often), after every restriction."""
        excluded = set(self.exclude_pairs)
        found = {}
        for name in self.shapes or KINDS:
            colours = tuple(
                colour
                for colour in KINDS[name].colours
                if (not self.colours or colour in self.colours) and (name, colour) not in excluded
            )
            if colours:
                found[name] = colours
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TabletopSpec:
        """A spec from plain values; absent ones keep their default.

        Raises:
            OptionError: a name is unknown, or a value is outside what it accepts.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise OptionError(
                f"tabletop spec has no option {unknown[0]!r}: expected some of {', '.join(known)}"
            )
        return cls(**values)


def _check_names(option: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise OptionError(f"tabletop {option} must be among {', '.join(known)}, but got {name!r}")


def _pairs(option: str, pairs: Any) -> tuple[tuple[str, str], ...]:
    found = []
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:
            raise OptionError(f"tabletop {option} must hold (shape, colour) pairs, but got {pair!r}")
        shape, colour = pair
        _check_names(option, (shape,), tuple(KINDS))
        _check_names(option, (colour,), COLOUR_NAMES)
        found.append((shape, colour))
    return tuple(found)
