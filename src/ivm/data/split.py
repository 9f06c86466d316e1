"""Splitting a store by picture, and the check that no picture is on both sides."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ivm.data.clean import copy_samples, identity
from ivm.data.measure import Measured, look_alikes, measure
from ivm.data.shards import Index
from ivm.data.stream import ShardReader
from ivm.errors import OptionError

__all__ = ["Leak", "assign", "find_leaks", "split"]


@dataclass(frozen=True)
class Leak:
    """Two sets share a picture.

    Attributes:
        first, second: names of the sets.
        image_id, other: the picture in each.
        why: "the same picture" or "look alike".
    """

    first: str
    second: str
    image_id: str
    other: str
    why: str


def assign(samples: Iterable[Measured], shares: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """image_id -> name of its part.

    Pictures that look alike go together. A part is drawn from a hash of the picture and the seed, so that a
    picture stays where it is when others come or go.

    Args:
        samples: of one store, or of all that are to be split alike.
        shares: name -> share of the pictures; they add up to 1.
        seed: another seed draws another assignment.

    Raises:
        OptionError: the shares are not positive, or do not add up to 1.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise OptionError(f"shares must be positive and add up to 1, but are {dict(shares)}")
    looks = list(dict.fromkeys((one.image_id, one.hash) for one in samples))
    parent = {name: name for name, _ in looks}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for i, j in look_alikes([seen for _, seen in looks]):
        a, b = root(looks[i][0]), root(looks[j][0])
        parent[max(a, b)] = min(a, b)  # by name, not by place: the order of the store must not matter
    return {name: _part(root(name), shares, seed) for name in parent}


def _part(image_id: str, shares: Mapping[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}/{image_id}".encode()).digest()
    place, reached = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for name, share in shares.items():
        reached += share
        if place < reached:
            return name
    return name  # the shares' sum fell short of 1 by rounding


def split(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    shares: Mapping[str, float],
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Index]:
    """Write each part of a store as a store of its own, `output`/{name}; the source is only read.

    Raises:
        OptionError: as `assign`; a name is no folder name.
        DataError: the source is no finished store; a part's folder holds another store.
    """
    for name in shares:
        if not name or Path(name).name != name or name.startswith("."):
            raise OptionError(f"the name of a part must be a folder name, but got {name!r}")
    reader = ShardReader(source)
    measured = list(measure(reader, workers))
    part_of = assign(measured, shares, seed)
    parts = {}
    for name in shares:
        places = [(one.shard, one.number) for one in measured if part_of[one.image_id] == name]
        recipe = {
            "reader": "split",
            "source": identity(reader),
            "shares": dict(shares),
            "seed": seed,
            "part": name,
        }
        parts[name] = copy_samples(reader, places, Path(output) / name, recipe)
    return parts


def find_leaks(sets: Mapping[str, Iterable[Measured]]) -> list[Leak]:
    """Pictures that are in two of the sets: by their image_id, or because they look alike."""
    owner: dict[str, str] = {}
    leaks: dict[tuple[str, str, str, str], Leak] = {}
    looks: dict[tuple[str, str, bytes], None] = {}  # a set that keeps its order
    for name, samples in sets.items():
        for one in samples:
            looks[name, one.image_id, one.hash] = None
            first = owner.setdefault(one.image_id, name)
            if first != name:
                leak = Leak(first, name, one.image_id, one.image_id, "the same picture")
                leaks.setdefault((first, name, one.image_id, one.image_id), leak)
    places = list(looks)
    for i, j in look_alikes([seen for _, _, seen in places]):
        (first, one_id, _), (second, other, _) = places[i], places[j]
        if first != second and one_id != other:
            leaks.setdefault((first, second, one_id, other), Leak(first, second, one_id, other, "look alike"))
    return list(leaks.values())
