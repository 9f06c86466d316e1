"""Verification of a store: every byte, every member, every sample."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ivm.data.layout import decode_sample, key_of
from ivm.data.measure import over_shards
from ivm.data.records import Problem
from ivm.data.stream import ShardReader
from ivm.errors import DataError

__all__ = ["Verified", "verify"]

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Verified:
    """What was checked, and what was wrong.

    Attributes:
        samples: samples looked at.
        bytes: bytes read.
        problems: file, place (a sample's key, or what was compared) and reason.
    """

    samples: int
    bytes: int
    problems: tuple[Problem, ...]


def verify(
    folder: str | os.PathLike[str],
    workers: int = 1,
    checksums_only: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Verified:
    """Check a store: sizes and checksums, each sample decoded in full, its key, and that no uuid comes twice.

    Args:
        folder: of the store.
        workers: processes; shards are shared among them.
        checksums_only: read the bytes, decode nothing.
        progress: called with the number of samples checked so far, after each shard.

    Raises:
        DataError: the folder holds no finished store.
    """
    reader = ShardReader(folder)
    seen: dict[str, str] = {}
    problems: list[Problem] = []
    samples = size = 0
    for shard, (found, keys, read) in enumerate(
        over_shards(partial(_verify_shard, checksums_only=checksums_only), reader, workers)
    ):
        name = f"{reader.index.shards[shard].name}.tar"
        problems += found
        samples, size = samples + len(keys), size + read
        for key in keys:
            if key in seen:
                problems.append(Problem(name, key, f"the uuid is a duplicate: it is in {seen[key]}, too"))
            seen.setdefault(key, name)
        if progress is not None:
            progress(samples)
    if samples != reader.index.samples:
        reason = f"says {reader.index.samples} samples, but the shards have {samples}"
        problems.append(Problem("index.json", "samples", reason))
    return Verified(samples, size, tuple(problems))


def _verify_shard(
    reader: ShardReader, shard: int, checksums_only: bool
) -> tuple[list[Problem], list[str], int]:
    described = reader.index.shards[shard]
    name = f"{described.name}.tar"
    problems: list[Problem] = []
    sha, size = hashlib.sha256(), 0
    try:
        with (reader.index.folder / name).open("rb") as file:
            while block := file.read(_BLOCK):
                sha.update(block)
                size += len(block)
        keys = reader.keys(shard)
    except OSError as error:
        return [Problem(name, "file", f"cannot be read: {error.strerror or error}")], [], size
    except DataError as error:
        return [Problem(name, "offsets", str(error))], [], size
    if size != described.bytes:
        problems.append(Problem(name, "size", f"must be {described.bytes:,} bytes, but is {size:,}"))
    elif sha.hexdigest() != described.sha256:
        problems.append(Problem(name, "checksum", "is another than in index.json: the shard was changed"))
    if checksums_only:
        return problems, keys, size
    for number, key in enumerate(keys):
        try:
            members = reader.members(shard, number)
            sample = decode_sample(members)
            if key_of(sample.uuid) != key or json.loads(members["json"])["uuid"] != sample.uuid:
                raise DataError(f"its members are named otherwise than its uuid {sample.uuid!r}")
        except DataError as error:
            problems.append(Problem(name, key, str(error)))
    return problems, keys, size
