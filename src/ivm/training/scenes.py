"""Synthetic scenes as training pictures, and several sources in fixed shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np

from ivm.data.synthesis import Synthesis
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.errors import OptionError
from ivm.training.names import named_things
from ivm.training.photos import Picture

__all__ = ["Mixture", "Pictures", "SceneQuestions"]


class Pictures(Protocol):
    """An endless data set: any index from 0 on gives a picture, always the same one."""

    def __getitem__(self, index: int) -> Picture: ...


class SceneQuestions:
    """`self[index]` -> Picture of synthetic scene `index`, mirrored never: "left" stays true.

    Args:
        spec: what is synthesised; its size is the pictures', its instructions the questions a picture.
        seed: another seed gives other scenes.
    """

    def __init__(self, spec: SynthesisSpec, seed: int = 0) -> None:
        if spec.size % 16:
            raise OptionError(f"size must be a multiple of 16, but got {spec.size}")
        if spec.shares.get("photo"):
            raise OptionError(
                "scenes must be square: leave photo out of shares, photos have a data set of their own"
            )
        self.spec, self.seed = spec, seed
        self._synthesis: Synthesis | None = None  # opened in the process that draws: it may hold a GL context

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_synthesis": None}

    def __getitem__(self, index: int) -> Picture:
        if self._synthesis is None:
            self._synthesis = Synthesis(self.spec, self.seed)
        scene, source, instructions = self._synthesis.scene(index)
        cells = self.spec.size // 4
        # A scene that allows fewer questions asks the first ones again.
        asked = [instructions[k % len(instructions)] for k in range(self.spec.instructions)]
        targets = [
            cv2.resize(item.mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
            for item in asked
        ]
        found = np.array([item.mask.any() for item in asked])
        looked_for = scene.vocabulary
        if looked_for is None:  # all that is in the scene is known, but not by every noun of other pictures
            looked_for = frozenset(self._synthesis.others(source))
        named = named_things(scene, looked_for)
        return Picture(scene.image, [item.text for item in asked], np.stack(targets), found, named)


class Mixture:
    """Several sources in whole-numbered shares, evenly interleaved; the indices of each run without gaps.

    `Mixture([(a, 3), (b, 1)])` gives a, a, a and b in a cycle of four, spread as evenly as they can be.
    """

    def __init__(self, parts: Sequence[tuple[Pictures, int]]) -> None:
        if not parts or any(not isinstance(share, int) or share < 1 for _, share in parts):
            raise OptionError("a mixture needs parts with whole shares of at least 1")
        self.parts = [part for part, _ in parts]
        self.shares = [share for _, share in parts]
        places = [((k + 0.5) / share, i) for i, share in enumerate(self.shares) for k in range(share)]
        self._cycle = [i for _, i in sorted(places)]
        counts = [0] * len(parts)
        self._nth = []
        for i in self._cycle:
            self._nth.append(counts[i])
            counts[i] += 1

    def __getitem__(self, index: int) -> Picture:
        turn, place = divmod(index, len(self._cycle))
        part = self._cycle[place]
        return self.parts[part][turn * self.shares[part] + self._nth[place]]
