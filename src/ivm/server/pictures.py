"""What a server does with pictures: take them from data URLs, encode each once, mask, and tell about it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ivm.errors import ImageError, OptionError
from ivm.images import read_image
from ivm.masker import ImageFeatures, Masker
from ivm.render import Rendered, render
from ivm.types import Heatmap

__all__ = ["RENDER_OPTIONS", "Darkroom", "decode_picture", "facts"]

RENDER_OPTIONS = frozenset(
    "threshold dilate feather colour opacity radius margin min_size aspect longest not_found exact".split()
)
"""Options of `ivm.render` that a client may set."""


class Darkroom:
    """A masker for many clients: remembers the features of the latest pictures, looks at one at a time.

    Args:
        masker: finds what matters.
        remembered: so many pictures are kept encoded (a few megabytes each), the latest used.
    """

    def __init__(self, masker: Masker, remembered: int = 16) -> None:
        self.masker, self.remembered = masker, remembered
        self._features: OrderedDict[tuple[str, str], tuple[np.ndarray, ImageFeatures]] = OrderedDict()
        self._lock = threading.Lock()  # the model takes every core it may: two at once gain nothing

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
            OptionError: an option is unknown or out of range.
        """
        unknown = sorted(set(options) - RENDER_OPTIONS)
        if unknown:
            raise OptionError(
                f"options must be among {', '.join(sorted(RENDER_OPTIONS))}, but got {', '.join(unknown)}"
            )
        image, features = self._encode(content, tiles)
        with self._lock:
            heatmap = self.masker(features, instruction)
        return heatmap, render(image, heatmap, mode=mode, **options)

    def _encode(self, content: bytes, tiles: Any) -> tuple[np.ndarray, ImageFeatures]:
        key = hashlib.sha256(content).hexdigest(), repr(tiles)
        with self._lock:
            if key not in self._features:
                image = read_image(content)
                self._features[key] = image, self.masker.encode_image(image, tiles=tiles)
            self._features.move_to_end(key)
            while len(self._features) > max(1, self.remembered):
                self._features.popitem(last=False)
            return self._features[key]


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


def facts(heatmap: Heatmap, rendered: Rendered, threshold: float | None = None) -> dict[str, Any]:
    """Plain JSON values about one masked picture; coordinates are pixels of the original."""
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
