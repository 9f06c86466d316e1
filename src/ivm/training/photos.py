"""Photos with masks as training pictures: crops, flips, light, pasted cut-outs, and questions about them.

A picture is wholly decided by (seed, index): any number of workers and any restart see the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ivm.data.cutouts import Cutout
from ivm.data.packs import Pack, Photo
from ivm.data.phrases import Question, absent_question, attribute_questions, category_questions
from ivm.errors import OptionError

__all__ = ["PhotoQuestions", "Picture"]


@dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        image: uint8 [S, S, 3].
        texts: one instruction a question.
        targets: float32 [K, S/4, S/4] in [0, 1], the share of each cell that is relevant.
        found: bool [K].
        human: whether a human made the annotations of this picture's questions.
    """

    image: np.ndarray
    texts: list[str]
    targets: np.ndarray
    found: np.ndarray
    human: bool = True


class PhotoQuestions:
    """`self[index]` -> Picture, for any index >= 0: an endless data set.

    Args:
        packs: packs and their shares of the pictures.
        split: which photos: "train", "val" or "test".
        size: side of the square pictures in pixels, a multiple of 4.
        questions: instructions a picture.
        cutouts: objects to paste; none are pasted if empty.
        paste: share of pictures with pasted objects.
        seed: another seed gives other crops, questions and orders.
    """

    def __init__(
        self,
        packs: Sequence[tuple[Pack, float]],
        split: str = "train",
        size: int = 128,
        questions: int = 3,
        cutouts: Sequence[Cutout] = (),
        paste: float = 0.35,
        seed: int = 0,
    ) -> None:
        if size % 4 or size <= 0:
            raise OptionError(f"size must be a positive multiple of 4, but got {size}")
        self.size, self.questions, self.paste, self.seed = size, questions, paste, seed
        self.packs = [pack for pack, _ in packs]
        self.photos: list[list[Photo]] = [
            [photo for photo in pack.split(split) if photo.regions] for pack, _ in packs
        ]
        if not packs or not all(self.photos):
            raise OptionError(f"every pack must have photos in the split {split!r}")
        self.shares = np.cumsum([share for _, share in packs]) / sum(share for _, share in packs)
        self.cutouts = list(cutouts)
        self._decoded: dict[str, np.ndarray] = {}

    def __getitem__(self, index: int) -> Picture:
        rng = np.random.default_rng((self.seed, index))
        which = int(np.searchsorted(self.shares, rng.random(), side="right"))
        photo = self.photos[which][rng.integers(len(self.photos[which]))]
        image, names, masks, instance = self._crop(photo, rng)
        vocabulary: Sequence[str] = self.packs[which].names
        if self.cutouts and rng.random() < self.paste:
            image, names, masks, instance = self._paste(image, names, masks, instance, rng)
            if rng.random() < 0.5:
                vocabulary = [self.cutouts[i].name for i in rng.integers(len(self.cutouts), size=20)]
        questions = self._ask(image, names, masks, instance, vocabulary, rng)
        image = _light(image, rng)
        cells = self.size // 4
        targets = np.stack(
            [
                cv2.resize(q.mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
                for q in questions
            ]
        )
        found = np.array([bool(q.targets) for q in questions])
        return Picture(image, [_vary(q.text, rng) for q in questions], targets, found)

    def _ask(
        self,
        image: np.ndarray,
        names: list[str],
        masks: np.ndarray,
        instance: list[bool],
        vocabulary: Sequence[str],
        rng: np.random.Generator,
    ) -> list[Question]:
        by_name = category_questions(names, masks, rng) if names else []
        by_look = attribute_questions(names, masks, instance, image, rng) if names else []
        contrast = [q for q in by_look if q.kind != "described"]
        chosen: list[Question] = []
        while len(chosen) < self.questions:
            draw = rng.random()
            absent = absent_question(names, vocabulary, masks.shape[1:], rng) if draw < 0.2 else None
            pool = contrast if contrast and draw < 0.5 else by_look if by_look and draw < 0.6 else by_name
            pool = [q for q in pool if not any(q is other for other in chosen)] or pool
            if absent is not None:
                chosen.append(absent)
            elif pool:
                chosen.append(pool[rng.integers(len(pool))])
            else:  # nothing is left in the crop
                empty = absent_question(names, vocabulary, masks.shape[1:], rng)
                assert empty is not None
                chosen.append(empty)
        return chosen

    def _crop(
        self, photo: Photo, rng: np.random.Generator
    ) -> tuple[np.ndarray, list[str], np.ndarray, list[bool]]:
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
            masks = np.stack([self._square(mask[y : y + h, x : x + w] * 255, mirror) > 127 for mask in whole])
            shares = masks.mean(axis=(1, 2))
            if (shares > 0.005).any():
                break
        image = self._square(full[y : y + h, x : x + w], mirror)
        keep = [i for i in range(len(whole)) if shares[i] > 0.0012]
        names = [photo.regions[i].name for i in keep]
        return image, names, masks[keep], [photo.regions[i].instance for i in keep]

    def _square(self, array: np.ndarray, mirror: bool) -> np.ndarray:
        size = (self.size, self.size)
        shrinks = array.shape[0] > self.size
        array = cv2.resize(array, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.ascontiguousarray(array[:, ::-1]) if mirror else array

    def _paste(
        self,
        image: np.ndarray,
        names: list[str],
        masks: np.ndarray,
        instance: list[bool],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, list[str], np.ndarray, list[bool]]:
        image, names, instance = image.copy(), list(names), list(instance)
        layers = [mask.copy() for mask in masks]
        first = self.cutouts[rng.integers(len(self.cutouts))]
        wanted = [first]
        for _ in range(rng.integers(0, 3)):  # half the time a second one of the same name, to tell apart
            wanted.append(first if rng.random() < 0.5 else self.cutouts[rng.integers(len(self.cutouts))])
        taken = set(names)
        for cutout in wanted:
            if cutout.name in taken:
                continue
            rgba = self._cutout(cutout)
            if rng.random() < 0.4:
                hsv = cv2.cvtColor(rgba[..., :3], cv2.COLOR_RGB2HSV)
                hsv[..., 0] = (hsv[..., 0].astype(np.int32) + rng.integers(180)) % 180
                rgba = np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), rgba[..., 3]])
            scale = self.size * rng.uniform(0.15, 0.55) / max(rgba.shape[:2])
            w, h = (max(2, round(side * scale)) for side in (rgba.shape[1], rgba.shape[0]))
            rgba = cv2.resize(rgba, (w, h), interpolation=cv2.INTER_AREA)
            if rng.random() < 0.5:
                rgba = rgba[:, ::-1]
            x = int(rng.integers(-w // 5, self.size - w + w // 5 + 1))
            y = int(rng.integers(-h // 5, self.size - h + h // 5 + 1))
            x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, self.size), min(y + h, self.size)
            part = rgba[y0 - y : y1 - y, x0 - x : x1 - x]
            alpha = part[..., 3:].astype(np.float32) / 255.0
            spot = image[y0:y1, x0:x1]
            gain = rng.uniform(0.7, 1.1)
            spot[:] = np.clip(spot * (1 - alpha) + part[..., :3] * (alpha * gain), 0, 255).astype(np.uint8)
            solid = alpha[..., 0] > 0.5
            for mask in layers:
                mask[y0:y1, x0:x1] &= ~solid
            mine = np.zeros(image.shape[:2], bool)
            mine[y0:y1, x0:x1] = solid
            layers.append(mine)
            names.append(cutout.name)
            instance.append(True)
        stack = np.stack(layers) if layers else np.zeros((0, self.size, self.size), bool)
        keep = [i for i in range(len(stack)) if stack[i].mean() > 0.0012]
        return image, [names[i] for i in keep], stack[keep], [instance[i] for i in keep]

    def _cutout(self, cutout: Cutout) -> np.ndarray:
        key = str(cutout.path)
        if key not in self._decoded:
            self._decoded[key] = cutout.rgba()
        return self._decoded[key]


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


def _vary(text: str, rng: np.random.Generator) -> str:
    """The same instruction as somebody else would type it."""
    if rng.random() < 0.15:
        text = ("please " + text) if rng.random() < 0.5 else (text.rstrip("?") + " please")
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.15 and text[-1].isalpha():
        text += "."
    return text
