"""What a server does with pictures: take them from data URLs, encode each once, mask, and tell about it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from ivm.errors import ImageError, InputError, OptionError
from ivm.images import read_image
from ivm.masker import ImageFeatures, Masker
from ivm.render import DEFAULT_DILATE, DEFAULT_RADIUS, Rendered, check_options, render
from ivm.types import Heatmap

__all__ = [
    "MAX_LOOKS",
    "MAX_PIXELS",
    "RENDER_OPTIONS",
    "Darkroom",
    "check_allowed",
    "check_looks",
    "check_sent",
    "decode_picture",
    "facts",
]

RENDER_OPTIONS = frozenset(
    "threshold dilate feather colour opacity radius margin min_size aspect longest not_found".split()
)
"""Options of `ivm.render` that a client may set: not `exact`, whose full-resolution blur takes minutes."""

MAX_PIXELS = 25_000_000
"""Larger pictures are refused, and none is enlarged beyond it, unless the server says otherwise."""

LARGEST = 64 * 2**20
"""Bytes of the largest request, and of the pictures that one makes, unless the server says otherwise."""

MAX_LOOKS = 32
"""Instructions about a picture, or pictures of a chat, that one request may hold."""

_MAX_REACH = 1024  # pixels that dilation, feathering and blur may reach: what they cost grows with it


class Darkroom:
    """A masker for many clients: remembers the features of the latest pictures, looks at one at a time.

    Args:
        masker: finds what matters.
        remembered: so many pictures are kept decoded and encoded, the latest used ...
        memory: ... and so many bytes of them; the very latest is kept in any case.
        max_pixels: of a picture that comes or goes.
    """

    def __init__(
        self,
        masker: Masker,
        remembered: int = 16,
        memory: int = 512 * 2**20,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.masker, self.remembered, self.memory, self.max_pixels = masker, remembered, memory, max_pixels
        self._kept: OrderedDict[tuple[str, str], tuple[np.ndarray, ImageFeatures]] = OrderedDict()
        # The model and OpenCV take every core they may: two at once gain nothing, and need twice the memory.
        self._lock = threading.Lock()

    def look(
        self, content: bytes, instruction: str, mode: str, options: Mapping[str, Any], tiles: Any = None
    ) -> tuple[Heatmap, Rendered]:
        """Heatmap and rendered picture of one instruction.

        Args:
            content: an encoded picture.
            instruction: any text.
            mode: deployment mode.
            options: of RENDER_OPTIONS.
            tiles: as in `Masker.encode_image`.

        Raises:
            ImageError: the picture cannot be read.
            InstructionError: the instruction is empty or too long.
            OptionError: an option is unknown, out of range, or takes more than this server gives.
        """
        check_allowed(options)
        check_options(mode, options)
        largest = math.isqrt(self.max_pixels)
        if (options.get("longest") or 0) > largest:
            raise OptionError(
                f"longest must be at most {largest} on this server, but got {options['longest']}"
            )
        with self._lock:
            image, features = self._encode(content, tiles)
            _check_reach(mode, options, image.shape[0])
            heatmap = self.masker(features, instruction)
            return heatmap, render(image, heatmap, mode=mode, **options)

    def _encode(self, content: bytes, tiles: Any) -> tuple[np.ndarray, ImageFeatures]:
        key = hashlib.sha256(content).hexdigest(), repr(tiles)
        if key not in self._kept:
            image = read_image(content, self.max_pixels)
            self._kept[key] = image, self.masker.encode_image(image, tiles=tiles)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and (len(self._kept) > self.remembered or self._memory() > self.memory):
            self._kept.popitem(last=False)
        return self._kept[key]

    def _memory(self) -> int:
        return sum(_bytes((image, seen.whole, seen.tiles)) for image, seen in self._kept.values())


def check_looks(count: int, of: str) -> None:
    """Whether one request may ask for so much.

    Args:
        count: of instructions or pictures.
        of: which of them.

    Raises:
        InputError: they are more than MAX_LOOKS.
    """
    if count > MAX_LOOKS:
        raise InputError(f"a request may hold at most {MAX_LOOKS} {of}, but has {count}")


def check_sent(size: int, largest: int) -> int:
    """Return `size`, the bytes of the masked pictures of one request so far, if they may be so many.

    Raises:
        InputError: they are more than `largest`.
    """
    if size > largest:
        raise InputError(
            f"the masked pictures of a request may have at most {largest} bytes together, but have more: "
            "ask for fewer, or for smaller ones (longest)"
        )
    return size


def check_allowed(options: Mapping[str, Any]) -> None:
    """Refuse options that a client may not set.

    Raises:
        OptionError: one is not of RENDER_OPTIONS.
    """
    if not isinstance(options, Mapping):
        raise OptionError(f"options must be an object, but got {options!r}")
    unknown = sorted(set(map(str, options)) - RENDER_OPTIONS)
    if unknown:
        raise OptionError(
            f"options must be among {', '.join(sorted(RENDER_OPTIONS))}, but got {', '.join(unknown)}"
        )


def decode_picture(url: str) -> bytes:
    """The bytes of a data URL such as "data:image/jpeg;base64,...".

    Raises:
        ImageError: it is an address, or no data URL in base64. Nothing is ever fetched.
    """
    if url.startswith(("http://", "https://")):
        raise ImageError(
            "a picture must be a data URL, but got an address, and this server fetches nothing: "
            "send its bytes"
        )
    head, comma, content = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ImageError(
            f'a picture must be a data URL such as "data:image/jpeg;base64,...", got {url[:40]!r}'
        )
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the base64 of a picture is damaged: {error}") from error


def _check_reach(mode: str, options: Mapping[str, Any], height: int) -> None:
    """Refuse what would dilate, feather or blur a picture too far: these are shares of its height."""
    defaults = {
        "dilate": 0.0 if mode == "heatmap" else DEFAULT_DILATE,
        "feather": 0.0,  # as dilate
        "radius": DEFAULT_RADIUS if mode == "blur" else 0.0,
    }
    for name, default in defaults.items():
        given = options.get(name)
        share = default if given is None else float(given)
        if share * height > _MAX_REACH:
            raise OptionError(
                f"{name} may reach at most {_MAX_REACH} pixels on this server, but {share:g} of a picture "
                f"{height} pixels high is {share * height:.0f}"
            )


def _bytes(held: Any) -> int:
    """Memory of arrays and tensors, in whatever features a model holds them."""
    if hasattr(held, "nbytes"):
        return int(held.nbytes)
    if is_dataclass(held):
        held = vars(held)
    parts = held.values() if isinstance(held, Mapping) else held if isinstance(held, list | tuple) else ()
    return sum(map(_bytes, parts))


def facts(heatmap: Heatmap, rendered: Rendered, threshold: float | None = None) -> dict[str, Any]:
    """Plain JSON values about one masked picture; coordinates are pixels of the original.

    `transform` maps those of the rendered picture, as it was sent, to these.
    """
    return {
        "instruction": heatmap.instruction,
        "found": heatmap.found,
        "score": round(heatmap.score, 4),
        "kept_area": round(heatmap.kept_area(threshold), 4),
        "box": heatmap.box(threshold),
        "point": heatmap.point(),
        "kept_whole": rendered.kept_whole,
        "transform": asdict(rendered.transform),
    }
