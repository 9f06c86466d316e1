"""What is measured of each sample of a store, in one pass, for statistics, cleaning and splitting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2
import numpy as np

from ivm.data.layout import IMAGE_MEMBERS, decode_heatmap, decode_image
from ivm.data.stream import ShardReader
from ivm.errors import DataError, ImageError, OptionError
from ivm.types import DEFAULT_THRESHOLD

__all__ = ["HASH_BITS", "NEAR_BITS", "Measured", "look_alikes", "measure", "over_shards", "plain_text"]

HASH_BITS = 256
"""Bits of the perceptual hash: for a 17 x 16 grey thumbnail, whether each pixel is darker than its right
neighbour (the difference hash of N. Krawetz, "Kind of Like That", 2013, four times as fine)."""

NEAR_BITS = 12
"""Pictures whose hashes differ in at most so many bits look alike: the same photo at another size or quality
differs in a few; different photos in about half of them."""

_THUMB = 32
_FLAT = 3.0  # grey levels: a picture with less contrast has no structure to compare

Result = TypeVar("Result")


@dataclass(frozen=True)
class Measured:
    """One sample, without its pixels.

    Attributes:
        shard, number: where it is in the store.
        uuid, source, human, image_id, kind: as in `Sample`.
        texts: its instructions, by `plain_text`.
        letters: longest instruction, in characters.
        words: longest instruction, in words.
        targets: how many names it has.
        size: (H, W) of the image.
        area: share of pixels of the heatmap above the threshold, in [0, 1]; None if it has no heatmap.
        pixels: how many that are.
        inside: share of those that do not lie in the outermost 2 % of the picture, in [0, 1].
        thumb: which cells of a 32 x 32 grid the mask touches, packed to 128 bytes; empty if it has no
        heatmap.
        hash: the perceptual hash, 32 bytes; empty for a picture without contrast.
        picture: (image_id, digest of the picture's file): equal for samples of one picture. An image_id alone
        is what a split keeps together, and the frames of a robot episode share one.
        fault: why it cannot be used, such as a heatmap of another size; empty if it can.
    """

    shard: int
    number: int
    uuid: str
    source: str
    human: bool
    image_id: str
    kind: str
    texts: tuple[str, ...]
    letters: int
    words: int
    targets: int
    size: tuple[int, int]
    area: float | None
    pixels: int
    inside: float
    thumb: bytes
    hash: bytes
    picture: tuple[str, bytes]
    fault: str

    @property
    def group(self) -> str:
        """Source and kind of annotation: "coco, human"."""
        return f"{self.source}, {'human' if self.human else 'machine'}"


def plain_text(text: str) -> str:
    """An instruction for comparison: lower case, letters and digits, single spaces."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def measure(reader: ShardReader, workers: int = 1) -> Iterator[Measured]:
    """Measure every sample of a store, in its order.

    Args:
        reader: of the store.
        workers: processes.

    Raises:
        DataError: a shard is missing or damaged.
    """
    return chain.from_iterable(over_shards(_measure_shard, reader, workers))


def over_shards(
    work: Callable[[ShardReader, int], Result], reader: ShardReader, workers: int = 1
) -> Iterator[Result]:
    """`work(reader, shard)` for each shard, in order, by `workers` processes.

    Raises:
        OptionError: workers is not positive.
    """
    if workers < 1:
        raise OptionError(f"workers must be at least 1, but got {workers}")
    count = len(reader.index.shards)
    if workers == 1 or count < 2:
        for shard in range(count):
            yield work(reader, shard)
        return
    # Not forked: the parent may have threads (OpenCV, a progress bar), whose locks a fork would copy.
    pool = ProcessPoolExecutor(min(workers, count), get_context("spawn"), initializer=_one_thread)
    try:
        yield from pool.map(work, [reader] * count, range(count))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _measure_shard(reader: ShardReader, shard: int) -> list[Measured]:
    return [_measure(reader, shard, number) for number in range(reader.index.shards[shard].samples)]


def _measure(reader: ShardReader, shard: int, number: int) -> Measured:
    members = reader.members(shard, number)
    try:
        described: dict[str, Any] = json.loads(members["json"])
        texts = [str(text) for text in described["instructions"]]
        size = (int(described["height"]), int(described["width"]))
        known = (described["uuid"], described["source"], bool(described["human"]), described["image_id"])
        more = (described["kind"], tuple(map(plain_text, texts)))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{reader.keys(shard)[number]}: the description is damaged: {error!r}") from error
    file = next((members[suffix] for suffix in IMAGE_MEMBERS if suffix in members), b"")
    fault, looks, heatmap = "", b"", None
    try:
        image = decode_image(members, least=64)
        looks = _hash(image)
        heatmap = decode_heatmap(members, described["annotation"])
        if heatmap is not None and heatmap.shape != size:
            fault = f"the heatmap is {heatmap.shape[1]}x{heatmap.shape[0]}, the image {size[1]}x{size[0]}"
        elif abs(image.shape[0] * size[1] - image.shape[1] * size[0]) > max(image.shape) * 8:
            fault = f"the image has not the shape {size[1]}x{size[0]}"  # at an eighth sides are rounded
    except (DataError, ImageError) as error:
        fault = str(error)
    area, pixels, inside, thumb = None, 0, 0.0, b""
    if heatmap is not None:
        mask = heatmap > DEFAULT_THRESHOLD if heatmap.dtype != bool else heatmap
        pixels = int(np.count_nonzero(mask))
        area = pixels / mask.size
        top, left = max(1, round(mask.shape[0] * 0.02)), max(1, round(mask.shape[1] * 0.02))
        inside = np.count_nonzero(mask[top:-top, left:-left]) / max(1, pixels)
        small = cv2.resize(mask.astype(np.float32), (_THUMB, _THUMB), interpolation=cv2.INTER_AREA)
        thumb = np.packbits(small > 0.0).tobytes()
    return Measured(
        shard,
        number,
        *known,
        *more,
        letters=max(map(len, texts), default=0),
        words=max((len(text.split()) for text in texts), default=0),
        targets=len(described["targets"]),
        size=size,
        area=area,
        pixels=pixels,
        inside=inside,
        thumb=thumb,
        hash=looks,
        picture=(described["image_id"], hashlib.blake2b(file, digest_size=16).digest()),
        fault=fault,
    )


def _hash(image: np.ndarray) -> bytes:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    if small.std() < _FLAT:
        return b""
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def look_alikes(hashes: Sequence[bytes], within: int = NEAR_BITS) -> Iterable[tuple[int, int]]:
    """Pairs (i, j), i < j, of hashes that differ in at most `within` bits; empty hashes have no like.

    Of several equal hashes each is paired with the first only. A hash is cut into `within` + 1 parts: of two
    that differ in so few bits one part is equal, and only those with an equal part are compared.
    """
    first: dict[bytes, int] = {}
    parts: dict[tuple[int, int], list[int]] = {}
    values = [int.from_bytes(one, "big") for one in hashes]
    edges = [HASH_BITS * k // (within + 1) for k in range(within + 2)]
    for j, one in enumerate(hashes):
        if not one:
            continue
        if one in first:
            yield first[one], j
            continue
        value = values[j]
        seen: set[int] = set()
        for k, (low, high) in enumerate(pairwise(edges)):
            bucket = parts.setdefault((k, (value >> low) & ((1 << (high - low)) - 1)), [])
            for i in bucket:
                if i not in seen:
                    seen.add(i)
                    if (value ^ values[i]).bit_count() <= within:
                        yield i, j
            bucket.append(j)
        first[one] = j
