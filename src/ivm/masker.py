"""From images and instructions to heatmaps: `load` a model, then call the `Masker`.

    masker = load("compact")
    heatmap = masker("photo.jpg", "pick up the red cup")
    features = masker.encode_image("photo.jpg")             # once ...
    heatmaps = masker.batch([features], ["the cup", "the plate"])  # ... for many instructions

The masker owns what is the same for every model: reading images, batching, encoding each image once,
bringing logits to the image's own size, and the tiles for high resolution. The model is a `Backend`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np
from PIL import Image

from ivm.errors import ImageError, InputError, InstructionError, ModelError, OptionError
from ivm.images import ImageLike, read_image
from ivm.models.config import KINDS, check_device, locate
from ivm.tiles import Tile, Tiles, fuse, grid_shape, lay_tiles
from ivm.types import Heatmap, check_instruction

__all__ = ["DEFAULT_BATCH_SIZE", "Backend", "ImageFeatures", "Masker", "Origin", "load"]

DEFAULT_BATCH_SIZE = 8
"""How many images, tiles or pairs go through a model at once: bounds memory; a CPU gains little from more."""

_HASHED = 64 << 20  # bytes of the largest file that a fingerprint reads

_MAX_LOGIT = 30.0  # sigmoid is 0 or 1 in float32 long before; keeps exp from overflowing


@runtime_checkable
class Backend(Protocol):
    """A model as the masker sees it.

    Attributes:
        name: for people, such as "compact".
        threshold: heatmap values strictly above this belong to the mask, in [0, 1].
        found_threshold: a found probability of at least this means that the target is there, in [0, 1].
    """

    name: str
    threshold: float
    found_threshold: float

    def encode_images(self, images: list[np.ndarray]) -> list[Any]:
        """Features of uint8 [H, W, 3] images of any sizes, one object each, independent of instructions."""
        ...

    def decode(self, features: list[Any], instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 [B, h, w] over the whole image each, and found probabilities float32 [B] in [0, 1].

        `features` and `instructions` have the length B; one features object may come many times.
        """
        ...


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """An encoded image: goes wherever an image goes, into the masker that made it.

    Attributes:
        size: (H, W) of the image in pixels.
        whole: the backend's features of the whole image.
        tiles: the tiles with their features; empty if the image was encoded without.
        backend: the backend that made them.
    """

    size: tuple[int, int]
    whole: Any
    tiles: tuple[tuple[Tile, Any], ...]
    backend: Backend


MaskerInput: TypeAlias = ImageLike | ImageFeatures


@dataclass(frozen=True)
class Origin:
    """What a backend was loaded from.

    Attributes:
        folder: holds its files; where there is no such folder, the name says all.
        options: what it was loaded with, beside device and threads.
    """

    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)


class Masker:
    """Heatmaps from images and instructions, by one model; a `Masking`. Holds no state between calls.

    Args:
        backend: the model.
        origin: where it comes from; None for one made in memory.
    """

    def __init__(self, backend: Backend, origin: Origin | None = None) -> None:
        self.backend = backend
        self.origin = origin

    def __repr__(self) -> str:
        return f"Masker({self.backend.name!r})"

    @property
    def name(self) -> str:
        """The model's name."""
        return self.backend.name

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the model's name, thresholds, files and options.

        What was made with a model of another fingerprint is made again. Files above 64 MB go by their size
        and time instead of their content. Of a model made in memory only name and thresholds are known.
        """
        backend = self.backend
        facts: list[Any] = [backend.name, backend.threshold, backend.found_threshold]
        if self.origin is not None:
            facts += [dict(self.origin.options), _contents(self.origin.folder)]
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def threshold(self) -> float:
        """The model's default threshold in [0, 1]."""
        return self.backend.threshold

    def __call__(self, image: MaskerInput, instruction: str, tiles: Tiles = None) -> Heatmap:
        """Heatmap of one instruction, float32 [H, W] in [0, 1] at the image's own size.

        Args:
            image: path, encoded bytes, PIL image, uint8 [H, W, 3] RGB array, or features of `encode_image`.
            instruction: any text.
            tiles: look at overlapping tiles besides the whole image, for targets that are small in a large
                image: "auto" (tiles of about 1,024 pixels; none for an image not much larger than that), a
                number of tiles along the longer side, or (rows, columns). None: the whole image alone, or the
                tiles that the features already hold. See `ivm.tiles.fuse` for how both become one heatmap.

        Raises:
            ImageError: the image cannot be read.
            InstructionError: the instruction is empty, too long or not text.
            InputError: the features come from another masker.
            OptionError: `tiles` is none of the above, or too many for the image or for its features.
        """
        return self.batch([image], [instruction], tiles=tiles)[0]

    def batch(
        self,
        images: Sequence[MaskerInput],
        instructions: Sequence[str],
        batch_size: int = DEFAULT_BATCH_SIZE,
        tiles: Tiles = None,
    ) -> list[Heatmap]:
        """One heatmap an instruction, in their order.

        An image that comes several times (the same object, or the same path) is read and encoded once.

        Args:
            images: as many as instructions, or one for all of them.
            instructions: texts.
            batch_size: how many images, tiles or pairs go through the model at once, at least 1.
            tiles: as in a call; for every image.

        Raises:
            ImageError: as a call does, naming the index of the image.
            InstructionError: as a call does, naming the index of the instruction.
            InputError: as a call does, and where the numbers of images and instructions do not fit.
            OptionError: as a call does.
        """
        one = str | bytes | Path | Image.Image | ImageFeatures
        if isinstance(images, one) or isinstance(instructions, str):
            raise InputError("images and instructions must be sequences; for one of each, call the masker")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise OptionError(f"batch_size must be an integer of at least 1, but got {batch_size!r}")
        sources, count = list(images), len(instructions)
        if len(sources) not in (1, count):
            raise InputError(
                "images must be as many as instructions, or one, "
                f"but there are {len(sources)} images and {count} instructions"
            )
        texts = [_check_at(index, text, count > 1) for index, text in enumerate(instructions)]
        indices_of: dict[object, list[int]] = {}  # of the pairs of one image; images as they come first
        for index in range(count):
            source = sources[index if len(sources) > 1 else 0]
            indices_of.setdefault(_identity(source), []).append(index)
        heatmaps: dict[int, Heatmap] = {}
        for chunk in _chunks(list(indices_of.values()), batch_size):
            pictures = [self._read_at(indices[0], sources) for indices in chunk]
            if tiles is None and not any(_has_tiles(picture) for picture in pictures):
                features = self._encode(pictures)
                pairs = [(features[place], index) for place in range(len(chunk)) for index in chunk[place]]
                for part in _chunks(pairs, batch_size):
                    answers = self._decode(
                        [pair[0].whole for pair in part], [texts[pair[1]] for pair in part]
                    )
                    for (pair_features, index), (logits_hw, score) in zip(part, answers, strict=True):
                        heatmaps[index] = self._heatmap(logits_hw, score, pair_features.size, texts[index])
                continue
            for indices, picture in zip(chunk, pictures, strict=True):
                if isinstance(picture, np.ndarray) and len(indices) > batch_size:
                    picture = self.encode_image(picture, tiles)  # else each part would encode the tiles anew
                for part in _chunks(indices, batch_size):
                    found = self._with_tiles(picture, [texts[index] for index in part], tiles, batch_size)
                    heatmaps.update(zip(part, found, strict=True))
        return [heatmaps[index] for index in range(count)]

    def encode_image(self, image: ImageLike, tiles: Tiles = None) -> ImageFeatures:
        """Encode an image once, for any number of instructions.

        Args:
            image: as in a call.
            tiles: as in a call; the features then hold those of the tiles, too.

        Raises:
            ImageError: the image cannot be read.
            OptionError: `tiles` does not fit the image.
        """
        if isinstance(image, ImageFeatures):
            raise InputError("encode_image needs an image, but got features: they are encoded already")
        pixels = read_image(image)
        size = (pixels.shape[0], pixels.shape[1])
        whole = self.backend.encode_images([pixels])[0]
        held = tuple(self._encode_tiles(pixels, lay_tiles(size, tiles), DEFAULT_BATCH_SIZE))
        return ImageFeatures(size, whole, held, self.backend)

    def _read_at(self, index: int, sources: list[MaskerInput]) -> np.ndarray | ImageFeatures:
        image = sources[index if len(sources) > 1 else 0]
        if isinstance(image, ImageFeatures):
            if image.backend is not self.backend:
                raise InputError(
                    f"the features must come from this masker ({self.name}), but come from another one "
                    f"({image.backend.name}): encode the image with the masker that is to use them"
                )
            return image
        try:
            return read_image(image)
        except ImageError as error:
            if len(sources) == 1:
                raise
            raise ImageError(f"image {index}: {error}") from error

    def _encode(self, pictures: list[np.ndarray | ImageFeatures]) -> list[ImageFeatures]:
        fresh = [picture for picture in pictures if isinstance(picture, np.ndarray)]
        encoded = iter(self.backend.encode_images(fresh) if fresh else [])
        return [
            picture
            if isinstance(picture, ImageFeatures)
            else ImageFeatures((picture.shape[0], picture.shape[1]), next(encoded), (), self.backend)
            for picture in pictures
        ]

    def _encode_tiles(
        self, pixels: np.ndarray, tiles: list[Tile], batch_size: int
    ) -> Iterator[tuple[Tile, Any]]:
        """Tiles with their features, one batch of crops in memory at a time."""
        for part in _chunks(tiles, batch_size):
            crops = [np.ascontiguousarray(pixels[t.box[1] : t.box[3], t.box[0] : t.box[2]]) for t in part]
            yield from zip(part, self.backend.encode_images(crops), strict=True)

    def _decode(self, features: list[Any], instructions: list[str]) -> list[tuple[np.ndarray, float]]:
        """Logits float32 [h, w] and found probability of each pair."""
        logits_Bhw, found_B = self.backend.decode(features, instructions)
        if not (np.isfinite(logits_Bhw).all() and np.isfinite(found_B).all()):
            raise ModelError(f"the model {self.name} answered with NaN or infinity: its weights are damaged")
        scores = np.clip(found_B, 0.0, 1.0).tolist()
        return list(zip(np.asarray(logits_Bhw, np.float32), scores, strict=True))

    def _with_tiles(
        self, picture: np.ndarray | ImageFeatures, instructions: list[str], tiles: Tiles, batch_size: int
    ) -> list[Heatmap]:
        """Heatmaps of up to `batch_size` instructions on one image, each tile encoded once."""
        features = self._encode([picture])[0]
        if isinstance(picture, ImageFeatures):
            if tiles is not None and [t for t, _ in picture.tiles] != lay_tiles(picture.size, tiles):
                raise OptionError(
                    f"tiles={tiles!r} cannot be had from features encoded with other tiles, or none: "
                    "give the same tiles to encode_image"
                )
            stream: Iterator[tuple[Tile, Any]] = iter(picture.tiles)
        else:
            stream = self._encode_tiles(picture, lay_tiles(features.size, tiles), batch_size)
        count = len(instructions)
        whole = self._decode([features.whole] * count, instructions)
        # Only logits are kept of a tile, which are small: features and pixels go with their batch.
        views: list[list[tuple[Tile, np.ndarray, float]]] = [[] for _ in instructions]
        while part := list(islice(stream, max(1, batch_size // count))):
            answers = iter(self._decode([f for _, f in part for _ in instructions], instructions * len(part)))
            for tile, _ in part:
                for seen in views:
                    seen.append((tile, *next(answers)))
        heatmaps = []
        for text, (logits_hw, score), seen in zip(instructions, whole, views, strict=True):
            if seen:
                limit = self.backend.found_threshold
                logits_hw, score = fuse(logits_hw, score, seen, grid_shape(features.size), limit)
            heatmaps.append(self._heatmap(logits_hw, score, features.size, text))
        return heatmaps

    def _heatmap(
        self, logits_hw: np.ndarray, score: float, size: tuple[int, int], instruction: str
    ) -> Heatmap:
        """Bilinear (align_corners false) to the image's size (H, W), then sigmoid, in one array."""
        bounded = np.clip(logits_hw, -_MAX_LOGIT, _MAX_LOGIT)
        values_HW = cv2.resize(bounded, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        np.negative(values_HW, out=values_HW)
        np.exp(values_HW, out=values_HW)
        values_HW += 1.0
        np.reciprocal(values_HW, out=values_HW)
        return Heatmap(
            values_HW, score, score >= self.backend.found_threshold, self.backend.threshold, instruction
        )


def load(
    name: str | Path = "compact", device: str = "auto", threads: int | None = None, **options: Any
) -> Masker:
    """Load a model.

    Args:
        name: a preset of `ivm.PRESETS` (what comes with the package is not fetched), a folder with a
            config.json, or a hub id "organisation/name".
        device: "auto", "cpu" or "cuda".
        threads: CPU threads for the model, at least 1; None: as many as there are cores.
        options: further options of this kind of model, such as dtype="bfloat16"; see the class that runs it.

    Raises:
        OptionError: there is no such preset, folder, device or number of threads, or the kind of model has
            no such option.
        ModelError: the model cannot be found, fetched or read.
        MissingExtraError: the model or the device needs a part that is not installed.
    """
    check_device(device)
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise OptionError(f"threads must be an integer of at least 1, or None, but got {threads!r}")
    kind_name, folder = locate(name)
    kind = KINDS[kind_name]
    loader = getattr(importlib.import_module(kind.module), kind.loader)
    known = sorted(set(inspect.signature(loader).parameters) - {"folder", "device", "threads"})
    if unknown := sorted(set(options) - set(known)):
        raise OptionError(
            f"{name} has no option {', '.join(unknown)}: "
            + (f"it has {', '.join(known)}" if known else "it has none beside device and threads")
        )
    backend = loader(folder, device=device, threads=threads, **options)
    if not Path(name).is_dir():  # the cache's folders are called by their commits
        backend.name = str(name)
    return Masker(backend, Origin(folder, options))


def _contents(folder: Path) -> list[tuple[str, Any]]:
    """(name, SHA-256) of each file in a folder and its folders, or (name, size, time) of a large one."""
    found: list[tuple[str, Any]] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        state = path.stat()
        if state.st_size > _HASHED:
            known: Any = [state.st_size, state.st_mtime_ns]
        else:
            known = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append((path.relative_to(folder).as_posix(), known))
    return found


def _has_tiles(picture: np.ndarray | ImageFeatures) -> bool:
    return isinstance(picture, ImageFeatures) and bool(picture.tiles)


def _identity(image: MaskerInput) -> object:
    """Equal for what is surely the same picture: one object (alive in the caller's list), or one path."""
    return image if isinstance(image, str | Path) else id(image)


def _check_at(index: int, instruction: str, many: bool) -> str:
    try:
        return check_instruction(instruction)
    except InstructionError as error:
        raise (InstructionError(f"instruction {index}: {error}") if many else error) from None


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
