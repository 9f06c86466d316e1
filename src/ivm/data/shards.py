"""The store: tar shards in the layout of WebDataset, written whole or not at all, the same bytes every time.

    folder/
      shard-000000.tar   the samples, as `layout` says
      shard-000000.json  where each sample lies in it, its checksum, and where the source goes on after it
      index.json         counts, sizes, checksums; written last: a folder without it is unfinished
      report.jsonl       what was wrong in the source: file, place, reason

Plain webdataset reads the shards. They are written by a few lines of our own, because webdataset's writer
stamps the time of day into the headers and cannot go on after a kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ivm.data.layout import Encoding, encode_sample, key_of, member_header, to_json
from ivm.data.records import Entry, Problem, Report, load
from ivm.errors import DataError, OptionError, OutputError
from ivm.files import UNFINISHED, whole, write_bytes
from ivm.types import Sample

__all__ = ["OWN_FILES", "Index", "Shard", "ShardWriter", "read_index", "write_shards"]

VERSION = 1
# How the names begin of all that a store writes, finished or stopped at any point.
OWN_FILES = ("shard-", ".shard-", "report.jsonl", "index.json", UNFINISHED)


@dataclass(frozen=True)
class Shard:
    """One tar file of a store: its name, number of samples, size in bytes and SHA-256."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """What a finished store holds.

    Attributes:
        folder: where it is.
        samples: samples in all shards.
        shards: in order.
        counts: samples by source and kind of annotation, such as "coco, human".
        skipped: records of the source that were wrong; report.jsonl says which.
        recipe: what was asked for when it was written: reader, options, settings of the writer.
    """

    folder: Path
    samples: int
    shards: tuple[Shard, ...]
    counts: Mapping[str, int]
    skipped: int
    recipe: Mapping[str, Any]


def read_index(folder: str | os.PathLike[str]) -> Index:
    """The index of a finished store.

    Raises:
        DataError: there is none, the store is unfinished, or the index is damaged or of a later version.
    """
    folder = Path(folder)
    path = folder / "index.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any(folder.glob("shard-*.tar")):
            raise DataError(
                f"{folder} has shards but no index.json: its conversion did not finish; run it again"
            ) from None
        raise DataError(f"{folder} must hold shards and index.json, but has none") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise DataError(f"{path} must be an index of version {VERSION}, but is not")
    try:
        shards = tuple(Shard(**shard) for shard in content["shards"])
        if not all(isinstance(n, int) for shard in shards for n in (shard.samples, shard.bytes)):
            raise TypeError("samples and bytes of a shard must be whole numbers")
        return Index(
            folder, content["samples"], shards, content["counts"], content["skipped"], content["recipe"]
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


class ShardWriter:
    """Writes samples to a store; started again on an unfinished one, it goes on after the last whole shard.

    Use it as a context manager: leaving it normally writes the index; leaving it by an exception keeps the
    whole shards and drops the unfinished one. `position` tells where to go on in the source. Whoever has
    entries calls `write_shards`, which does all of this.

    Args:
        folder: made if absent.
        recipe: plain JSON values that decide what is written: reader, paths, options. A folder begun with
            another recipe is refused, because its shards would not fit.
        encoding: how pixels are written.
        samples_per_shard: most samples in a shard.
        bytes_per_shard: a shard is closed once it has so many bytes.

    Raises:
        OptionError: a setting is out of range.
        DataError: the folder holds a finished store, or shards of another recipe.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        recipe: Mapping[str, Any] | None = None,
        encoding: Encoding | None = None,
        samples_per_shard: int = 1000,
        bytes_per_shard: int = 512 * 1024 * 1024,
    ) -> None:
        if samples_per_shard < 1 or bytes_per_shard < 1:
            raise OptionError(
                "a shard must take at least one sample and one byte, "
                f"but got {samples_per_shard} samples, {bytes_per_shard} bytes"
            )
        self.folder = Path(folder)
        self._samples_per_shard, self._bytes_per_shard = samples_per_shard, bytes_per_shard
        self._encoding = encoding or Encoding()
        self._recipe = _full_recipe(recipe, self._encoding, samples_per_shard, bytes_per_shard)
        self._shards: list[Shard] = []
        self._counts: Counter[str] = Counter()
        self._known: set[int] = set()  # 64-bit hashes of uuids: a seventh of the uuids' own memory
        self._skipped = 0
        self._problems: list[Problem] = []  # since the last whole shard
        self._file: BinaryIO | None = None
        self._start_shard()
        self.position: tuple[int, int] = (0, 0)
        """(entry, record in it) that comes next in the source: (0, 0) for a new store."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror or error}") from error
        if (self.folder / "index.json").exists():
            other = _difference(read_index(self.folder).recipe, self._recipe) or "the same"
            raise DataError(
                f"{self.folder} already holds a finished store ({other}): choose another folder or delete it"
            )
        self._resume()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif self._file is not None:
            self._file.close()
            with suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            self._file = None

    @property
    def samples(self) -> int:
        """Samples written so far, those of an earlier start included."""
        return sum(shard.samples for shard in self._shards) + len(self._keys)

    def write(
        self,
        sample: Sample,
        file: bytes | None = None,
        position: tuple[int, int] = (0, 0),
        more: Mapping[str, bytes] | None = None,
    ) -> None:
        """Store one sample.

        Args:
            sample: what to store.
            file: the image's own file, where there is one.
            position: where the source goes on after this sample.
            more: further members, suffix -> bytes, which readers of samples pass over.

        Raises:
            DataError: the uuid is a duplicate or empty, or the sample cannot be stored; nothing was written.
            OutputError: the disk does not take it.
        """
        members = encode_sample(sample, file, self._encoding) | dict(more or {})
        self.write_members(sample.uuid, members, _count_key(sample.source, sample.human), position)

    def write_members(
        self, uuid: str, members: Mapping[str, bytes], counted: str, position: tuple[int, int] = (0, 0)
    ) -> None:
        """Store one sample already encoded, as `encode_sample` makes it or another store has it.

        Args:
            uuid: of the sample.
            members: suffix -> bytes.
            counted: under what the index counts it: "coco, human".
            position: where the source goes on after this sample.
        """
        key = key_of(uuid)
        digest = _digest(key)
        if digest in self._known:
            raise DataError(f"uuid {uuid!r} is a duplicate: it is already in the store")
        try:
            if self._file is None:
                self._file = self._temporary.open("wb")
            offset = self._size
            for suffix, content in members.items():
                self._append(member_header(f"{key}.{suffix}", len(content)))
                self._append(content + bytes(-len(content) % tarfile.BLOCKSIZE))
            self._known.add(digest)
            self._keys.append(key)
            self._offsets.append(offset)
            self._tally[counted] += 1
            self.position = position
            if len(self._keys) >= self._samples_per_shard or self._size >= self._bytes_per_shard:
                self._end_shard()
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {self._temporary}: {error.strerror or error}") from error

    def note(self, problem: Problem) -> None:
        """Take a problem of the source into report.jsonl."""
        self._problems.append(problem)

    def finish(self) -> Index:
        """Close the last shard and write index.json and report.jsonl."""
        if self._keys:
            self._end_shard()
        tail = [_problem_dict(problem) for problem in self._problems]
        recorded = (line for shard in self._shards for line in self._sidecar(shard.name)["skipped"])
        with whole(self.folder / "report.jsonl", sync=True) as temporary, temporary.open("wb") as file:
            file.writelines(to_json(line) + b"\n" for line in chain(recorded, tail))
        content = {
            "version": VERSION,
            "samples": self.samples,
            "bytes": sum(shard.bytes for shard in self._shards),
            "counts": dict(sorted(self._counts.items())),
            "skipped": self._skipped + len(tail),
            "recipe": self._recipe,
            "shards": [vars(shard) for shard in self._shards],
        }
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        write_bytes(self.folder / "index.json", text.encode(), sync=True)
        return read_index(self.folder)

    def _start_shard(self) -> None:
        self._size, self._sha = 0, hashlib.sha256()
        self._keys: list[str] = []
        self._offsets: list[int] = []
        self._tally: Counter[str] = Counter()

    @property
    def _name(self) -> str:
        return f"shard-{len(self._shards):06}"

    @property
    def _temporary(self) -> Path:
        return self.folder / f".{self._name}-{os.getpid()}.tmp"

    def _append(self, content: bytes) -> None:
        assert self._file is not None
        self._file.write(content)
        self._sha.update(content)
        self._size += len(content)

    def _end_shard(self) -> None:
        assert self._file is not None
        end = self._size
        self._append(bytes(2 * tarfile.BLOCKSIZE + -(end + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._temporary.replace(self.folder / f"{self._name}.tar")
        shard = Shard(self._name, len(self._keys), self._size, self._sha.hexdigest())
        sidecar = {
            "version": VERSION,
            **vars(shard),
            "counts": dict(self._tally),
            "next": self.position,
            "recipe": self._recipe,
            "skipped": [_problem_dict(problem) for problem in self._problems],
            "keys": self._keys,
            "offsets": [*self._offsets, end],
        }
        # From here on the shard counts.
        write_bytes(self.folder / f"{self._name}.json", to_json(sidecar), sync=True)
        self._shards.append(shard)
        self._counts.update(self._tally)
        self._skipped += len(self._problems)
        self._problems.clear()
        self._start_shard()

    def _sidecar(self, name: str) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise DataError(f"{path} is of version {content['version']}, but {VERSION} is written here")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}; delete the folder and convert again") from error
        return content

    def _resume(self) -> None:
        for leftover in (*self.folder.glob(".shard-*.tmp"), *self.folder.glob(f"{UNFINISHED}*")):
            leftover.unlink(missing_ok=True)
        while (self.folder / f"{self._name}.json").exists():
            name = self._name
            content = self._sidecar(name)
            if content["recipe"] != self._recipe:
                raise DataError(
                    f"{self.folder} holds shards of another conversion "
                    f"({_difference(content['recipe'], self._recipe)}): "
                    "give the same options to go on with it, or choose another folder"
                )
            shard = Shard(name, content["samples"], content["bytes"], content["sha256"])
            tar = self.folder / f"{name}.tar"
            if not tar.exists() or tar.stat().st_size != shard.bytes:
                break  # lost or cut short: this shard and all after it are written again
            self._shards.append(shard)
            self._counts.update(content["counts"])
            self._skipped += len(content["skipped"])
            self._known.update(map(_digest, content["keys"]))
            self.position = (content["next"][0], content["next"][1])
        for stale in self.folder.glob("shard-*.json"):
            if stale.stem >= self._name:
                stale.unlink()


def write_shards(
    entries: Iterable[Entry],
    folder: str | os.PathLike[str],
    recipe: Mapping[str, Any] | None = None,
    strict: bool = False,
    encoding: Encoding | None = None,
    samples_per_shard: int = 1000,
    bytes_per_shard: int = 512 * 1024 * 1024,
    progress: Callable[[int], object] | None = None,
) -> Index:
    """Write the samples of a source to a store; killed, the same call goes on and ends in the same bytes.

    Args:
        entries: the source, in an order that never changes; those already written are not loaded again.
        folder: of the store; one that is finished and has this recipe is returned as it is.
        recipe: what decides the entries, in plain JSON values.
        strict: stop at the first wrong record; otherwise it goes to report.jsonl.
        encoding, samples_per_shard, bytes_per_shard: as in `ShardWriter`.
        progress: called with the number of samples in the store after each.

    Raises:
        DataError: a record is wrong and `strict`, or the folder holds another conversion.
        OutputError: the store cannot be written.
    """
    folder = Path(folder)
    if (folder / "index.json").exists():
        done = read_index(folder)
        full = _full_recipe(recipe, encoding or Encoding(), samples_per_shard, bytes_per_shard)
        if done.recipe == full:
            return done
    with ShardWriter(folder, recipe, encoding, samples_per_shard, bytes_per_shard) as writer:
        first, within = writer.position
        for number, entry in enumerate(entries):
            if number < first:
                continue
            report = Report(strict)
            noted = 0
            for item, record in load(entry, report):
                if number == first and item < within:
                    report.problems.clear()  # noted with the shard that has the records before it
                    continue
                noted = _note(writer, report, noted)
                try:
                    writer.write(record.sample, record.file, (number, item + 1), record.more)
                except DataError as error:
                    report.add(Problem(entry.file, entry.place, str(error)))
                if progress is not None:
                    progress(writer.samples)
            _note(writer, report, noted)
    return read_index(folder)


def _note(writer: ShardWriter, report: Report, noted: int) -> int:
    for problem in report.problems[noted:]:
        writer.note(problem)
    return len(report.problems)


def _count_key(source: str, human: bool) -> str:
    return f"{source}, {'human' if human else 'machine'}"


def _full_recipe(
    recipe: Mapping[str, Any] | None, encoding: Encoding, samples_per_shard: int, bytes_per_shard: int
) -> dict[str, Any]:
    writer = {
        **asdict(encoding),
        "samples_per_shard": samples_per_shard,
        "bytes_per_shard": bytes_per_shard,
    }
    try:
        return json.loads(to_json({**dict(recipe or {}), "writer": writer}))
    except (TypeError, ValueError) as error:
        raise OptionError(f"a recipe must be plain JSON values: {error}") from error


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _problem_dict(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "place": problem.place, "reason": problem.reason}


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key)!r} there, {new.get(key)!r} here" for key in keys)
