"""The panel of experts: each is a `Masking`, and proposes a heatmap for each phrase."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ivm.annotation.fuse import Proposal
from ivm.errors import InputError, OptionError
from ivm.masker import Masker, load
from ivm.tiles import Tiles, parse_tiles
from ivm.types import Masking

__all__ = ["Expert", "Panel", "open_expert"]


@dataclass(frozen=True, eq=False)
class Expert:
    """One member of the panel.

    Attributes:
        name: unlike every other member's.
        masking: who answers.
        weight: of its vote, above 0.
        tiles: as in a call of `Masker`; for a `Masker` only.

    Raises:
        OptionError: the weight is out of range, or tiles are asked of something that is no `Masker`.
    """

    name: str
    masking: Masking
    weight: float = 1.0
    tiles: Tiles = None

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise OptionError(f"the weight of {self.name} must be above 0 and finite, but is {self.weight}")
        if self.tiles is not None and not isinstance(self.masking, Masker):
            raise OptionError(f"{self.name} must be a Masker to look at tiles")


def open_expert(text: str, device: str = "auto", threads: int | None = None) -> Expert:
    """The expert that people write as "compact", "clipseg,weight=0.5" or "compact,tiles=2".

    Args:
        text: what `ivm.load` takes (preset, folder or hub id), then options.
        device, threads: as in `ivm.load`.

    Raises:
        OptionError: an option is unknown or out of range, or there is no such model.
        ModelError, MissingExtraError: as `ivm.load` raises them.
    """
    name, *options = (part.strip() for part in text.split(","))
    given = dict(option.partition("=")[::2] for option in options)
    if not name or set(given) - {"weight", "tiles"} or not all(given.values()) or len(given) < len(options):
        raise OptionError(f"an expert must be such as compact,weight=0.5,tiles=2, but got {text!r}")
    try:
        weight = float(given.get("weight", 1.0))
    except ValueError:
        raise OptionError(f"the weight of {name} must be a number, but is {given['weight']!r}") from None
    tiles = parse_tiles(given.get("tiles"))
    label = name if tiles is None else f"{name},tiles={given['tiles']}"
    return Expert(label, load(name, device=device, threads=threads), weight, tiles)


class Panel:
    """All experts. Holds the last picture's features, because many instructions are often about one.

    Args:
        experts: one or more, each with a name of its own.

    Raises:
        OptionError: there is none, or two have one name.
    """

    def __init__(self, experts: Sequence[Expert]) -> None:
        names = [expert.name for expert in experts]
        if not names or len(set(names)) != len(names):
            raise OptionError(f"experts must be one or more, each once, but got {', '.join(names) or 'none'}")
        self.experts = tuple(experts)
        self._held: tuple[bytes, dict[str, Any]] = (b"", {})

    def propose(self, image: np.ndarray, phrases: Sequence[str]) -> list[Proposal]:
        """What each expert says about each phrase: the first expert's proposals, then the next one's.

        Args:
            image: uint8 [H, W, 3].
            phrases: one or more.

        Raises:
            InputError: an expert cannot take a phrase or the image; the message names it.
        """
        content = np.ascontiguousarray(image).tobytes()
        digest = hashlib.blake2b(content, digest_size=16, key=b"%d" % image.shape[1]).digest()
        if self._held[0] != digest:
            self._held = (digest, {})
        pictures = self._held[1]
        proposals = []
        for expert in self.experts:
            try:
                if isinstance(expert.masking, Masker):
                    if expert.name not in pictures:
                        pictures[expert.name] = expert.masking.encode_image(image, tiles=expert.tiles)
                    heatmaps = expert.masking.batch([pictures[expert.name]], phrases)
                else:
                    heatmaps = expert.masking.batch([image], phrases)
            except InputError as error:
                raise InputError(f"expert {expert.name}: {error}") from error
            proposals += [
                Proposal(expert.name, phrase, heatmap, expert.weight)
                for phrase, heatmap in zip(phrases, heatmaps, strict=True)
            ]
        return proposals
