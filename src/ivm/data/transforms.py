"""Training views of a sample: image, heatmap and instructions change together, decided by a seed alone.

A view is a function of (sample, seed), and `ShardStream` makes the seed of its own seed, the epoch and the
sample's place, so that any number of workers sees the same views.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from ivm.data.colours import COLOURS
from ivm.data.layout import scale_pixels
from ivm.data.manner import slips
from ivm.data.measure import plain_text
from ivm.data.records import Entry, Record
from ivm.errors import DataError, OptionError
from ivm.types import Box, Sample

__all__ = [
    "Augment",
    "PastedObject",
    "adjust_colours",
    "crop",
    "flip",
    "limit_sides",
    "mirror_text",
    "names_colour",
    "paste",
    "resize",
]

_MORE_COLOURS = """silver gold golden beige tan turquoise cyan teal maroon navy violet lilac magenta crimson
    scarlet olive khaki ivory cream bronze copper blond blonde colour colours coloured hue""".split()
_COLOUR_WORDS = frozenset([*COLOURS, *_MORE_COLOURS, "gray", "color", "colors", "colored"])
_MISSPELT_COLOURS = frozenset().union(*map(slips, _COLOUR_WORDS))
_BLENDED = re.compile(r"(?:ish|ened|ening|er|est|s)$")  # reddish, redder, reds

_SIDES = re.compile(
    r"(?<![a-z])(left|right)(?=(?:most|wards?|-?hand(?:ed)?|-?side)?(?![a-z]))", re.IGNORECASE
)
_OTHER = {"left": "right", "right": "left"}
_MISSPELT_SIDES = slips("right") | slips("leftmost") | slips("rightmost")
# Where "left" and "right" are no side, and what a mirror makes wrong.
_NO_MIRROR = re.compile(
    r"""
    clockwise | o'?clock | ["\u201c]
    | \ball\ right\b
    | \bright\ (?:now|away|before|after|next|behind|above|below|on\ top|angles?|triangles?|answer
      |one\ to)\b
    | \b(?:the|that'?s|is)\ right\ (?:to|thing|way|tool|size|choice|word)\b
    | \bleft\ ?overs?\b
    | \b(?:is|are|was|were|what'?s|has|have|been|be|how\ many|how\ much|anything|nothing|something)
      \ (?:\w+\ )?left\b(?!\ (?:of|hand|side))
    | \b(?:read|reads|says?|written|writing|words?|letters?|numbers?|digits?|text|signs?|logos?|labels?
      |titles?|brands?|time|clocks?|mirror(?:ed)?|east|west)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, eq=False)
class PastedObject:
    """A cut-out to paste: name, and uint8 [h, w, 4] RGBA."""

    name: str
    rgba: np.ndarray


@dataclass(frozen=True)
class Augment:
    """Makes views: `Augment(size=256)(sample, seed)` -> Sample.

    Attributes:
        size: side of the square that a view is squashed to, in pixels; 0 keeps the crop's own size.
        scale: area of the random crop, as shares of the picture; (1, 1) crops nothing. The default is the
            reference code's. Samples of kind "part" (of the picture) are not cropped.
        ratio: how much wider or narrower than the picture the crop may be.
        flip: share of views that are mirrored; an instruction that a mirror would make wrong (it speaks of
            text, clocks, what is "left over") is never mirrored.
        colour: strength of the change of brightness, contrast, saturation and hue, 0 to 1; where an
            instruction names a colour, saturation and hue stay as they are.
        paste: share of views with an object pasted where nothing is relevant.
        objects: what to paste.

    Raises:
        OptionError: one is out of range.
    """

    size: int = 256
    scale: tuple[float, float] = (0.8, 1.0)
    ratio: tuple[float, float] = (0.8, 1.25)
    flip: float = 0.5
    colour: float = 0.3
    paste: float = 0.0
    objects: Sequence[PastedObject] = ()

    def __post_init__(self) -> None:
        if self.size < 0:
            raise OptionError(f"size must be at least 0, but got {self.size}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise OptionError(f"scale must rise within (0, 1] and ratio above 0: {self.scale}, {self.ratio}")
        for name in ("flip", "colour", "paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} must be in [0, 1], but got {getattr(self, name)}")
        if self.paste and not self.objects:
            raise OptionError("paste needs objects, but got none")

    @property
    def least(self) -> int | None:
        """Shorter side, in pixels, below which a view would be enlarged; for `ShardStream(least=...)`."""
        if not self.size:
            return None
        return math.ceil(self.size * (max(self.ratio[1], 1 / self.ratio[0]) / self.scale[0]) ** 0.5)

    def __call__(self, sample: Sample, seed: int | tuple[int, ...]) -> Sample:
        """One view of `sample`; equal seeds give equal views."""
        rng = np.random.default_rng(seed)
        # Every number is drawn whether it is used or not: one option never changes what another one does.
        draws = rng.random(8)
        # Half of a crop is not half of the picture.
        box = None if sample.kind == "part" else self._box(sample, rng)
        if self.paste and draws[0] < self.paste:
            thing = self.objects[int(draws[1] * len(self.objects))]
            sample = paste(sample, thing, rng)
        sample = _look(sample, box, (self.size, self.size) if self.size else None)
        if draws[2] < self.flip:
            sample = flip(sample)
        if self.colour:
            sample = adjust_colours(sample, self.colour, draws[3:7])
        return sample

    def _box(self, sample: Sample, rng: np.random.Generator) -> Box | None:
        """A random box that keeps half of the relevant area or more; None for the whole picture."""
        height, width = sample.image.shape[:2]
        heatmap = sample.heatmap
        relevant = 0.0 if heatmap is None else _amount(heatmap)
        low, high = (math.log(bound) for bound in self.ratio)
        for area, ratio, x, y in rng.random((6, 4)).tolist():  # all are drawn, whichever serves
            share = self.scale[0] + area * (self.scale[1] - self.scale[0])
            wider = math.exp((low + ratio * (high - low)) / 2)
            w = max(1, min(width, round(width * share**0.5 * wider)))
            h = max(1, min(height, round(height * share**0.5 / wider)))
            x0, y0 = int(x * (width - w + 1)), int(y * (height - h + 1))
            if heatmap is None or _amount(heatmap[y0 : y0 + h, x0 : x0 + w]) >= 0.5 * relevant:
                return x0, y0, x0 + w, y0 + h
        return None


def _amount(heatmap: np.ndarray) -> float:
    """Sum of a heatmap, or number of a mask's pixels."""
    return float(np.count_nonzero(heatmap) if heatmap.dtype == bool else cv2.sumElems(heatmap)[0])


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at (H, W). A mask becomes a heatmap: the share of each new pixel that is relevant."""
    return _look(sample, None, size)


def _look(sample: Sample, box: Box | None, size: tuple[int, int] | None) -> Sample:
    """The part of the sample in `box` (None: all of it) at `size`, (H, W) (None: its own)."""
    height, width = sample.image.shape[:2]
    x0, y0, x1, y1 = box or (0, 0, width, height)
    if (x0, y0, x1, y1) == (0, 0, width, height) and size in (None, (height, width)):
        return sample
    image, heatmap = sample.image[y0:y1, x0:x1], sample.heatmap
    if heatmap is not None:
        heatmap = heatmap[y0:y1, x0:x1]
    if size not in (None, (y1 - y0, x1 - x0)):
        assert size is not None
        image = scale_pixels(image, size)
        if heatmap is not None:
            heatmap = scale_pixels(heatmap.astype(np.float32, copy=False), size)
    if heatmap is not None:
        heatmap = np.ascontiguousarray(heatmap)
    return replace(sample, image=np.ascontiguousarray(image), heatmap=heatmap)


def limit_sides(entries: Iterable[Entry], longest: int) -> Iterator[Entry]:
    """The entries with pictures (and their heatmaps) scaled down so that no side is longer than `longest`.

    Smaller pictures stay as they are. For a store that is read often: most of reading is decoding pixels that
    training then averages away.
    """

    def load(entry: Entry) -> Iterator[Record | DataError]:
        for item in entry.load():
            if isinstance(item, Record) and max(item.sample.image.shape[:2]) > longest:
                height, width = item.sample.image.shape[:2]
                scale = longest / max(height, width)
                size = (max(1, round(height * scale)), max(1, round(width * scale)))
                yield Record(resize(item.sample, size))
            else:
                yield item

    for entry in entries:
        yield Entry(entry.file, entry.place, partial(load, entry), entry.asks)


def crop(sample: Sample, box: Box) -> Sample:
    """The part of the sample in `box`."""
    return _look(sample, box, None)


def mirror_text(text: str) -> str | None:
    """The instruction for the mirrored picture: left and right swapped; None if a mirror would make it wrong.

    Left and right are swapped as sides ("leftmost", "on the right-hand side"), not in "right now" or "what is
    left"; where that cannot be told, where a side is misspelt, and where text, clocks or compass points are
    spoken of, it is None.
    """
    if _NO_MIRROR.search(text) or not _MISSPELT_SIDES.isdisjoint(plain_text(text).split()):
        return None

    def swap(found: re.Match[str]) -> str:
        other = _OTHER[found[0].lower()]
        return other.upper() if found[0].isupper() else other.capitalize() if found[0][0].isupper() else other

    return _SIDES.sub(swap, text)


def flip(sample: Sample) -> Sample:
    """The sample mirrored left to right, instructions and all; itself if one of them does not allow it."""
    texts = [mirror_text(text) for text in sample.instructions]
    if any(text is None for text in texts):
        return sample
    heatmap = None if sample.heatmap is None else np.ascontiguousarray(sample.heatmap[:, ::-1])
    image = np.asarray(cv2.flip(sample.image, 1))  # ten times as fast as the same by slicing
    return replace(sample, image=image, heatmap=heatmap, instructions=tuple(map(str, texts)))


def names_colour(texts: Sequence[str]) -> bool:
    """Whether an instruction names a colour, misspelt or not, or asks for one."""
    words = {word for text in texts for word in plain_text(text).split()}
    stems = {_BLENDED.sub("", word) for word in words}
    doubled = {stem[:-1] for stem in stems if stem[-2:-1] == stem[-1:]}  # redder -> redd -> red
    spelt = words | stems | doubled | {stem + "e" for stem in stems}
    return bool(spelt & _COLOUR_WORDS or words & _MISSPELT_COLOURS)


def adjust_colours(sample: Sample, strength: float, draws: np.ndarray) -> Sample:
    """Change brightness, contrast, saturation and hue.

    Saturation and hue stay where an instruction or a target names a colour: the cup must remain red.

    Args:
        sample: its heatmap and instructions are untouched.
        strength: 0 to 1; at 1 brightness and contrast change by up to a half, hue by up to 36 degrees.
        draws: four numbers in [0, 1), one a change; 0.5 changes nothing.
    """
    by = (np.asarray(draws, np.float64) * 2.0 - 1.0) * strength
    steps = np.arange(256, dtype=np.float64)
    curve = (steps - 128.0) * (1.0 + 0.5 * by[1]) + 128.0
    curve = (curve * (1.0 + 0.5 * by[0])).clip(0, 255).round().astype(np.uint8)
    image = cv2.LUT(sample.image, curve)
    if not names_colour([*sample.instructions, *sample.targets]):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        table = np.empty((1, 256, 3), np.uint8)
        table[0, :, 0] = (steps + round(18.0 * by[3])) % 180  # OpenCV counts hue in steps of two degrees
        table[0, :, 1] = (steps * (1.0 + 0.6 * by[2])).clip(0, 255).round()
        table[0, :, 2] = steps
        image = cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB)
    return replace(sample, image=np.asarray(image))


def paste(sample: Sample, thing: PastedObject, rng: np.random.Generator) -> Sample:
    """Paste an object where (nearly) nothing is relevant; what it covers becomes irrelevant.

    The sample comes back as it is if an instruction or target has a word of the object's name (the object
    could be what is asked for), asks how many there are of something, or leaves no room.
    """
    words = {word for text in (*sample.instructions, *sample.targets) for word in plain_text(text).split()}
    named = set(plain_text(thing.name).split())
    named |= {word + "s" for word in named}
    named |= set("many all every everything count number anything something thing object".split())
    height, width = sample.image.shape[:2]
    longest = max(thing.rgba.shape[:2])
    side, places = float(rng.uniform(0.12, 0.3)) * min(height, width), rng.random((8, 2))
    w = max(1, round(thing.rgba.shape[1] / longest * side))
    h = max(1, round(thing.rgba.shape[0] / longest * side))
    if words & named or h > height or w > width:
        return sample
    small = cv2.resize(thing.rgba, (w, h), interpolation=cv2.INTER_AREA)
    alpha = small[:, :, 3:].astype(np.float32) / 255.0
    relevant = None if sample.heatmap is None else sample.heatmap.astype(np.float32)
    total = 0.0 if relevant is None else float(relevant.sum())
    for fx, fy in places:
        x, y = int(fx * (width - w + 1)), int(fy * (height - h + 1))
        area = (slice(y, y + h), slice(x, x + w))
        if relevant is not None and float((relevant[area] * alpha[:, :, 0]).sum()) > 0.02 * total:
            continue
        image = sample.image.copy()
        image[area] = np.rint(image[area] * (1 - alpha) + small[:, :, :3] * alpha).astype(np.uint8)
        heatmap = sample.heatmap
        if heatmap is not None:
            heatmap = heatmap.copy()
            if heatmap.dtype == bool:
                heatmap[area] &= alpha[:, :, 0] < 0.5
            else:
                heatmap[area] *= 1 - alpha[:, :, 0]
        return replace(sample, image=image, heatmap=heatmap)
    return sample
