"""Photos with masks as training pictures: crops, flips, light, and instructions about what is left in them.

A picture is wholly decided by (seed, index): any number of workers and any restart see the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ivm.data.grammar import Instruction, instructions_for
from ivm.data.kinds import KINDS
from ivm.data.materials import nouns_looked_for
from ivm.data.packs import Pack, Photo, Region
from ivm.data.photo_scenes import labelled_scene, nouns_sought
from ivm.data.scene import Scene
from ivm.errors import OptionError
from ivm.training.names import Named, named_things

__all__ = ["CONTRAST", "PhotoQuestions", "Picture"]

_NAMES = tuple(kind for kind, row in KINDS.items() if row.group == "name")
_ABSENT = tuple(kind for kind, row in KINDS.items() if row.group == "absent")
_OTHERS = tuple(kind for kind, row in KINDS.items() if row.group not in ("name", "absent"))
_SHARES = (0.45, 0.18, 0.37)
"""Of names, of absent targets, and of all else: photos are what teaches names."""
CONTRAST = 0.8
"""How often a training instruction is followed by its contrast (`ivm.data.grammar.instructions_for`)."""


@dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        image: uint8 [S, S, 3].
        texts: one instruction a question.
        targets: float32 [K, S/4, S/4] in [0, 1], the share of each cell that is relevant.
        found: bool [K].
        named: what can be named in the picture, and where.
        human: whether a human made the annotations of this picture's questions.
    """

    image: np.ndarray
    texts: list[str]
    targets: np.ndarray
    found: np.ndarray
    named: Named
    human: bool = True


class PhotoQuestions:
    """`self[index]` -> Picture, for any index >= 0: an endless data set.

    Args:
        packs: packs and their shares of the pictures.
        split: which photos: "train", "val" or "test".
        size: side of the square pictures in pixels, a multiple of 16.
        questions: instructions a picture.
        seed: another seed gives other crops, questions and orders.
    """

    def __init__(
        self,
        packs: Sequence[tuple[Pack, float]],
        split: str = "train",
        size: int = 128,
        questions: int = 3,
        seed: int = 0,
    ) -> None:
        if size % 16 or size <= 0:
            raise OptionError(f"size must be a positive multiple of 16, but got {size}")
        self.size, self.questions, self.seed = size, questions, seed
        self.photos: list[list[Photo]] = [
            [photo for photo in pack.split(split) if photo.regions] for pack, _ in packs
        ]
        if not packs or not all(self.photos):
            raise OptionError(f"every pack must have photos in the split {split!r}")
        self.nouns = [nouns_looked_for(pack) for pack, _ in packs]
        self.shares = np.cumsum([share for _, share in packs]) / sum(share for _, share in packs)
        self._decoded: dict[str, np.ndarray] = {}

    def __getitem__(self, index: int) -> Picture:
        rng = np.random.default_rng((self.seed, index))
        which = int(np.searchsorted(self.shares, rng.random(), side="right"))
        photo = self.photos[which][rng.integers(len(self.photos[which]))]
        image, regions, masks = self._crop(photo, rng)
        nouns = nouns_sought(photo, self.nouns[which])
        scene = labelled_scene(image, regions, masks, nouns)
        asked = self._ask(scene, rng)
        image = _light(image, rng)
        cells = (self.size // 4, self.size // 4)
        targets = [
            cv2.resize(one.mask.astype(np.float32), cells, interpolation=cv2.INTER_AREA) for one in asked
        ]
        found = np.array([one.mask.any() for one in asked])
        named = named_things(scene, nouns)
        return Picture(image, [one.text for one in asked], np.stack(targets), found, named)

    def _ask(self, scene: Scene, rng: np.random.Generator) -> list[Instruction]:
        """Instructions in the shares above as far as the crop allows them; where too few, some twice."""
        wanted = rng.multinomial(self.questions, _SHARES)
        if not scene.things:
            wanted = np.array([0, self.questions, 0])
        asked: list[Instruction] = []
        for kinds, count in zip((_OTHERS, _ABSENT, _NAMES), wanted[[2, 1, 0]], strict=True):
            if kinds is _NAMES and scene.things:  # names fill up what other kinds left open
                count = self.questions - len(asked)
            if count:
                asked += instructions_for(scene, rng, kinds, int(count), contrast=CONTRAST)
        if not asked:  # what is left is too small or too doubtful to be asked for
            asked = instructions_for(scene, rng, ("absent",), self.questions)
        return [asked[k % len(asked)] for k in range(self.questions)]

    def _crop(
        self, photo: Photo, rng: np.random.Generator
    ) -> tuple[np.ndarray, Sequence[Region], list[np.ndarray]]:
        """A random part of the photo, perhaps mirrored, squashed to the square: at least a region in it."""
        full = self._decoded.get(photo.image_id)
        if full is None:  # decoded photos of all packs together take about 1.2 GB
            full = self._decoded[photo.image_id] = photo.image()
        whole = [region.mask().astype(np.uint8) for region in photo.regions]
        height, width = full.shape[:2]
        mirror = rng.random() < 0.5
        for attempt in range(5):
            area = rng.uniform(0.3, 1.0) if attempt < 4 else 1.0
            aspect = np.exp(rng.uniform(-0.3, 0.3)) if attempt < 4 else 1.0
            w = min(width, round(width * np.sqrt(area * aspect)))
            h = min(height, round(height * np.sqrt(area / aspect)))
            x, y = rng.integers(width - w + 1), rng.integers(height - h + 1)
            masks = [self._square(mask[y : y + h, x : x + w] * 255, mirror) >> 7 for mask in whole]
            shares = [mask.mean() for mask in masks]
            if max(shares) > 0.005:
                break
        image = self._square(full[y : y + h, x : x + w], mirror)
        return image, photo.regions, masks

    def _square(self, array: np.ndarray, mirror: bool) -> np.ndarray:
        size = (self.size, self.size)
        shrinks = array.shape[0] > self.size
        array = cv2.resize(array, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.ascontiguousarray(array[:, ::-1]) if mirror else array


def _light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and a slight cast: little enough that colour words stay true."""
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)
    shift = rng.uniform(-20, 20)
    out: np.ndarray = (image.astype(np.float32) - 128) * gain + 128 + shift
    if rng.random() < 0.2:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.2:
        out = out + rng.normal(0, rng.uniform(2, 8), out.shape)
    return np.clip(out, 0, 255).astype(np.uint8)
