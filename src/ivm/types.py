"""The values that join everything: `Heatmap`, `Sample`, and the `Masking` protocol.

Shape legend, used in suffixes and docstrings throughout:
B batch, H/W image rows/columns, h/w feature rows/columns, T text tokens, D channels.
RGB images are uint8 [H, W, 3]; heatmaps float32 [H, W] in [0, 1]; masks bool [H, W];
boxes (x0, y0, x1, y1) in pixels, right and bottom exclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ivm.errors import InputError, InstructionError, OptionError

__all__ = [
    "DEFAULT_THRESHOLD",
    "MAX_INSTRUCTION_CHARS",
    "Box",
    "Heatmap",
    "Masking",
    "Sample",
    "check_instruction",
    "check_threshold",
]

DEFAULT_THRESHOLD = 0.5
"""Heatmap values strictly above this belong to the mask, unless a model or the caller says otherwise."""

MAX_INSTRUCTION_CHARS = 20_000
"""Longer instructions are refused: no model here reads that far, and a mistake is likelier than a wish."""

Box: TypeAlias = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in pixels, right and bottom exclusive."""


def check_threshold(threshold: float, name: str = "threshold") -> float:
    """Return `threshold` as a float in [0, 1].

    Raises:
        OptionError: it is not a number in [0, 1].
    """
    try:
        value = float(threshold)
    except (TypeError, ValueError, OverflowError):  # OverflowError: a whole number beyond every float
        raise OptionError(f"{name} must be a number in [0, 1], but got {threshold!r}") from None
    if not 0.0 <= value <= 1.0:  # also refuses NaN
        raise OptionError(f"{name} must be in [0, 1], but got {threshold!r}")
    return value


def check_instruction(instruction: str) -> str:
    """Return `instruction` stripped of surrounding white space.

    Raises:
        InstructionError: it is not a string, has nothing to read, is longer than MAX_INSTRUCTION_CHARS, or is
            not valid Unicode.
    """
    if not isinstance(instruction, str):
        raise InstructionError(f"the instruction must be a string, but got {type(instruction).__name__}")
    text = instruction.strip()
    if not any(sign.isprintable() and not sign.isspace() for sign in text):  # "" and zero-width signs alone
        raise InstructionError("the instruction must contain text, but it is empty")
    if len(text) > MAX_INSTRUCTION_CHARS:
        raise InstructionError(
            f"the instruction must be at most {MAX_INSTRUCTION_CHARS} characters, but has {len(text)}"
        )
    try:
        text.encode("utf-8")
    except (
        UnicodeEncodeError
    ) as error:  # half a surrogate pair: bytes of a terminal or file read as another code
        raise InstructionError(
            f"the instruction must be valid Unicode, but is not at position {error.start}"
        ) from None
    return text


@dataclass(frozen=True, eq=False)
class Heatmap:
    """How relevant each pixel of one image is to one instruction.

    Attributes:
        values: float32 [H, W] in [0, 1], at the image's own size; read-only.
        score: probability in [0, 1] that the instruction's target is in the image.
        found: whether `score` reaches the model's own limit. A heatmap that was not found keeps its
            values: nothing is edited, and what to do about it is the caller's choice (`render`).
        threshold: the model's default for `to_mask`.
        instruction: what was asked; empty if unknown.

    Raises:
        InputError: `values` is not a finite, non-empty [H, W] array in [0, 1].
        OptionError: `score` or `threshold` is outside [0, 1].
    """

    values: np.ndarray
    score: float = 1.0
    found: bool = True
    threshold: float = DEFAULT_THRESHOLD
    instruction: str = ""

    def __post_init__(self) -> None:
        try:
            given = np.asarray(self.values)
        except ValueError as error:  # rows of unequal length
            raise InputError(
                f"heatmap values must be an [H, W] array, but cannot be made one: {error}"
            ) from error
        if given.dtype.kind not in "fiub":
            raise InputError(f"heatmap values must be numbers in [0, 1], but got dtype {given.dtype}")
        if given.ndim != 2 or given.size == 0:
            raise InputError(f"heatmap values must be a non-empty [H, W] array, but got shape {given.shape}")
        values = given.astype(np.float32, copy=False)
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise InputError("heatmap values must be finite, but some are NaN or infinite")
        if low < 0.0 or high > 1.0:
            raise InputError(f"heatmap values must be in [0, 1], but range over [{low:.4g}, {high:.4g}]")
        if values is self.values:  # a view, so that locking it does not lock the caller's own array
            values = values.view()
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "score", check_threshold(self.score, "score"))
        object.__setattr__(self, "threshold", check_threshold(self.threshold))
        object.__setattr__(self, "found", bool(self.found))

    def __repr__(self) -> str:
        height, width = self.shape
        verdict = f"score={self.score:.2f}, found={self.found}, threshold={self.threshold:g}"
        return f"Heatmap({width}x{height}, {verdict}, instruction={self.instruction!r})"

    @classmethod
    def from_mask(cls, mask_HW: np.ndarray, instruction: str = "") -> Heatmap:
        """A heatmap of 0 and 1 from a boolean mask [H, W]; not found where the mask is empty."""
        mask = np.asarray(mask_HW)
        if mask.dtype != np.bool_:
            raise InputError(f"a mask must be boolean [H, W], but got dtype {mask.dtype}")
        found = bool(mask.any())
        return cls(mask.astype(np.float32), score=float(found), found=found, instruction=instruction)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.values.shape[0], self.values.shape[1]

    def to_mask(self, threshold: float | None = None) -> np.ndarray:
        """bool [H, W]: values strictly above `threshold` (default: `self.threshold`)."""
        limit = self.threshold if threshold is None else check_threshold(threshold)
        return self.values > limit

    def box(self, threshold: float | None = None) -> Box | None:
        """Smallest box (x0, y0, x1, y1) around the mask, right and bottom exclusive; None if it is empty."""
        mask = self.to_mask(threshold)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def kept_area(self, threshold: float | None = None) -> float:
        """Share of pixels in the mask, in [0, 1]."""
        return float(self.to_mask(threshold).mean())

    def point(self) -> tuple[int, int]:
        """(x, y) of the most relevant pixel; the first in reading order among equals."""
        y, x = divmod(int(self.values.argmax()), self.values.shape[1])
        return x, y

    def to_rle(self, threshold: float | None = None) -> dict[str, Any]:
        """The mask as COCO's compressed run-length encoding: {"size": [H, W], "counts": str}."""
        from pycocotools import mask as coco_mask  # loads a C extension, which most callers never need

        rle = coco_mask.encode(np.asfortranarray(self.to_mask(threshold).astype(np.uint8)))
        return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its instructions and one annotation; what readers and synthesis yield.

    Attributes:
        uuid: unique within its data set.
        image: uint8 [H, W, 3] RGB.
        instructions: one or more texts that this annotation answers.
        heatmap: float32 [H, W] in [0, 1] or bool [H, W]; None where the sample is still to be annotated.
        source: name of the data set it comes from, such as "coco".
        human: True for a human annotation, False for a machine annotation.
        image_id: equal for samples of the same picture; splits and intervals go by it.
        kind: kind of instruction, such as "category", "colour", "absent"; empty if unknown.
        targets: the names of the objects referred to; empty if none is there.
        provenance: plain JSON values that tell where it comes from (file, line, seed, rule, ...).

    Raises:
        InputError: an attribute does not have the form given above.
    """

    uuid: str
    image: np.ndarray
    instructions: tuple[str, ...]
    heatmap: np.ndarray | None
    source: str
    human: bool = True
    image_id: str = ""
    kind: str = ""
    targets: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        image = self.image
        if (
            not isinstance(image, np.ndarray)
            or image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[2] != 3
        ):
            raise InputError(f"sample {self.uuid}: image must be uint8 [H, W, 3], but got {_describe(image)}")
        if isinstance(self.instructions, str) or not self.instructions:
            raise InputError(f"sample {self.uuid}: instructions must be one or more strings in a tuple")
        object.__setattr__(self, "instructions", tuple(check_instruction(text) for text in self.instructions))
        object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "image_id", self.image_id or self.uuid)
        if self.heatmap is not None:
            if self.heatmap.shape != image.shape[:2]:
                raise InputError(
                    f"sample {self.uuid}: heatmap must be {image.shape[:2]} like its image, "
                    f"but is {self.heatmap.shape}"
                )
            if self.heatmap.dtype not in (np.bool_, np.float32):
                raise InputError(
                    f"sample {self.uuid}: heatmap must be float32 or bool, but is {self.heatmap.dtype}"
                )


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


@runtime_checkable
class Masking(Protocol):
    """Anything that turns images and instructions into heatmaps: a model, an expert, a fake for tests."""

    def batch(self, images: Sequence[Any], instructions: Sequence[str]) -> list[Heatmap]:
        """One heatmap an instruction, each at its own image's size.

        `images` and `instructions` have equal lengths, or `images` holds one image for all of them.
        An image is whatever `ivm.images.read_image` takes.
        """
        ...
