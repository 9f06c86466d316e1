"""The sizes of the compact model, checked. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from ivm.errors import OptionError

__all__ = ["BACKBONES", "CompactConfig"]

BACKBONES = ("efficientnet-lite0",)
"""Frozen features that a compact model may build on."""

# Least and most of the whole numbers that are not just at least 1. The text encoder has six layers, and
# places for 512 tokens, the signs before and after an instruction among them.
_LIMITS: Mapping[str, tuple[int, float]] = MappingProxyType(
    {
        "image_blocks": (0, math.inf),
        "fusion_blocks": (0, math.inf),
        "text_blocks": (0, math.inf),
        "text_layers": (1, 6),
        "max_tokens": (3, 512),
    }
)


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of a compact model.

    Attributes:
        image_size: side in pixels of the square that a picture is resized to for inference; a multiple of 16.
            The model itself takes any multiple of 16.
        dim: width of picture and text tokens in the model's own blocks.
        heads: attention heads; divides dim.
        stem: channels at strides 2, 4 and 8.
        backbone: frozen features that the picture's tokens and skip features begin with, too; a name in
            BACKBONES, or "" for none.
        image_blocks: transformer blocks that see the picture alone.
        fusion_blocks: transformer blocks that see picture and instruction.
        text_blocks: own transformer blocks over the frozen text encoder's tokens.
        text_layers: layers kept of the frozen text encoder.
        vocabulary: entries kept of its vocabulary, at most.
        max_tokens: longer instructions are cut to this many tokens, the last one included.
        threshold: default threshold of the heatmaps.
        found_threshold: a target counts as found from this score on.
    """

    image_size: int = 192
    dim: int = 256
    heads: int = 8
    stem: tuple[int, int, int] = (32, 64, 128)
    backbone: str = "efficientnet-lite0"
    image_blocks: int = 8
    fusion_blocks: int = 3
    text_blocks: int = 2
    text_layers: int = 4
    vocabulary: int = 12_000
    max_tokens: int = 40
    threshold: float = 0.5
    found_threshold: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.stem, list):
            object.__setattr__(self, "stem", tuple(self.stem))
        faults = [fault for one in fields(self) for fault in _faults(one, getattr(self, one.name))]
        if not faults and self.image_size % 16:
            faults = [f"image_size must be a multiple of 16, but is {self.image_size}"]
        if not faults and self.dim % self.heads:
            faults = [f"dim must be a multiple of heads, but they are {self.dim} and {self.heads}"]
        if faults:
            raise OptionError("; ".join(faults))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `CompactConfig(**config.to_dict())` gives it back."""
        return {**asdict(self), "stem": list(self.stem)}


def _faults(one: Field[Any], value: Any) -> list[str]:
    """What is wrong with a size by itself."""
    low, high = _LIMITS.get(one.name, (1, math.inf))
    kind = type(one.default)
    if kind is bool:
        fits, wanted = isinstance(value, bool), "true or false"
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        wanted = "a number in [0, 1]"
    elif kind is str:
        fits, wanted = value in ("", *BACKBONES), f"{' or '.join(BACKBONES)}, or empty"
    elif kind is tuple:
        fits = isinstance(value, tuple) and len(value) == 3 and all(_whole(part, 1, high) for part in value)
        wanted = "three whole numbers of at least 1"
    else:
        fits = _whole(value, low, high)
        wanted = f"a whole number of at least {low}" + (f" and at most {high}" if high < math.inf else "")
    return [] if fits else [f"{one.name} must be {wanted}, but is {value!r}"]


def _whole(value: Any, low: int, high: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
