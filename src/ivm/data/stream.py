"""Reading a store: as a stream in a shuffled order, or by number.

The order of an epoch is a function of (seed, epoch) alone: shards in random order, then samples in random
order within a window of some shards. Ranks and workers take turns in that order, so that each sample comes
once an epoch whatever their number, and the state is one number, from which any number of ranks and workers
can go on. It is computed from the index before a pixel is read; webdataset's shuffle buffer holds the samples
themselves and cannot be saved, which is why its reader is not used here.
"""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ivm.data.layout import decode_sample, read_members
from ivm.data.shards import Index, read_index
from ivm.errors import DataError, OptionError, require
from ivm.types import Sample

__all__ = ["ShardReader", "ShardSet", "ShardStream", "shuffled", "torch_stream"]

T = TypeVar("T")
Decode = Callable[[Mapping[str, bytes]], Any]


class ShardReader:
    """Random access to the samples of a store, with few files open.

    Args:
        folder: of a finished store.
        open_shards: most shards whose file and offsets are held at a time.

    Raises:
        DataError: the folder holds no finished store.
    """

    def __init__(self, folder: str | os.PathLike[str], open_shards: int = 32) -> None:
        self.index: Index = read_index(folder)
        self._most = open_shards
        self._open: OrderedDict[int, tuple[int, list[str], np.ndarray]] = OrderedDict()
        self._owner = os.getpid()

    def keys(self, shard: int) -> list[str]:
        """The keys of a shard's samples, in order (`layout.uuid_of` gives the uuid)."""
        return self._shard(shard)[1]

    def members(self, shard: int, number: int) -> dict[str, bytes]:
        """The encoded members of sample `number` of shard `shard`, both from 0.

        Raises:
            DataError: the shard is missing or damaged.
        """
        file, _, offsets = self._shard(shard)
        start, stop = int(offsets[number]), int(offsets[number + 1])
        block = os.pread(file, stop - start, start)
        name = self.index.shards[shard].name
        if len(block) != stop - start:
            raise DataError(f"{self.index.folder / name}.tar is cut short at sample {number}")
        try:
            return read_members(block)
        except DataError as error:
            raise DataError(f"{self.index.folder / name}.tar, sample {number}: {error}") from error

    def close(self) -> None:
        """Close every file; the next access opens what it needs."""
        for file, _, _ in self._open.values():
            os.close(file)
        self._open.clear()

    def __getstate__(self) -> dict[str, Any]:  # files do not travel to another process
        return {"index": self.index, "_most": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _open=OrderedDict(), _owner=os.getpid())

    def __del__(self) -> None:
        if getattr(self, "_open", None):
            self.close()

    def _shard(self, number: int) -> tuple[int, list[str], np.ndarray]:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self.index.shards[number]
        path = self.index.folder / f"{shard.name}.tar"
        try:
            content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            keys, offsets = content["keys"], np.array(content["offsets"], np.int64)
            if not len(keys) == len(offsets) - 1 == shard.samples:
                raise DataError(f"{path.with_suffix('.json')} must list {shard.samples} samples")
            if offsets[0] < 0 or offsets[-1] > shard.bytes or (np.diff(offsets) < 0).any():
                raise DataError(f"{path.with_suffix('.json')} has offsets outside of the shard")
            file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError(f"{path.with_suffix('.json')} is damaged: {error}") from error
        self._open[number] = (file, keys, offsets)
        if len(self._open) > self._most:
            _, (old, _, _) = self._open.popitem(last=False)
            os.close(old)
        return self._open[number]


class ShardSet:
    """A store as a sequence: `len(set)`, `set[i]` -> Sample; for small sets and for single samples.

    It serves as a map-style data set of torch as it is.

    Args:
        folder: of a finished store.
        least: as in `layout.decode_sample`.

    Raises:
        DataError: the folder holds no finished store.
    """

    def __init__(self, folder: str | os.PathLike[str], least: int | None = None) -> None:
        self.reader = ShardReader(folder)
        self.least = least
        counts = [shard.samples for shard in self.reader.index.shards]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return self.reader.index.samples

    def __getitem__(self, number: int) -> Sample:
        """Sample `number`; negative numbers count from the end.

        Raises:
            IndexError: there is no such sample.
            DataError: it is damaged.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        number %= len(self)
        shard = int(np.searchsorted(self._ends, number, side="right"))
        first = int(self._ends[shard - 1]) if shard else 0
        return self.get(shard, number - first)

    def get(self, shard: int, number: int) -> Sample:
        """Sample `number` of shard `shard`."""
        members = self.reader.members(shard, number)
        try:
            return decode_sample(members, self.least)
        except DataError as error:
            name = self.reader.index.shards[shard].name
            key = self.reader.keys(shard)[number]
            raise DataError(f"{self.reader.index.folder / name}.tar, {key}: {error}") from error


class ShardStream:
    """The samples of a store in a shuffled order; each `iter` is an epoch, or the rest of one.

        stream = ShardStream("shards", seed=0, rank=rank, world=world)
        for sample in stream: ...
        state = stream.state_dict()  # in the middle of it; later, in a new process:
        stream.load_state_dict(state)

    In the workers of a torch DataLoader (`torch_stream`) each worker takes whole batches in turn, so the
    batches are the same for any number of workers. The loader reads ahead, so only the training loop knows
    what it has used: call `advance(samples)` after each batch there; else the stream counts.

    Args:
        folder: of a finished store.
        seed: another seed gives another order.
        window: samples are mixed within so many neighbours, in an order of shards that is random, too; 0
            keeps the order of the store. Nothing is held in memory but their numbers.
        rank, world: this process takes every `world`-th sample from the `rank`-th on.
        batch_size: of the loader whose workers share the work.
        equal: leave out the last samples of an epoch that do not go round, so that every rank has as many.
        least: as in `layout.decode_sample`.
        transform: called with (sample, seed) for each sample; the seed is made of the stream's seed, the
            epoch and the sample's place in the store, for `np.random.default_rng`.

    Raises:
        DataError: the folder holds no finished store.
        OptionError: rank, world, window or batch_size is out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        seed: int = 0,
        window: int = 10_000,
        rank: int = 0,
        world: int = 1,
        batch_size: int = 1,
        equal: bool = False,
        least: int | None = None,
        transform: Callable[[Sample, tuple[int, ...]], Any] | None = None,
    ) -> None:
        if not 0 <= rank < world:
            raise OptionError(f"rank must be in 0 to world - 1, but got rank {rank}, world {world}")
        if window < 0 or batch_size < 1:
            raise OptionError(f"window must be >= 0 and batch_size >= 1, but got {window} and {batch_size}")
        self.set = ShardSet(Path(folder), least)
        if self.set.reader.index.samples == 0:
            raise DataError(f"{folder} holds no samples")
        self.seed, self.window, self.rank, self.world = seed, window, rank, world
        self.batch_size, self.equal, self.transform = batch_size, equal, transform
        self.epoch, self._used = 0, 0

    def __len__(self) -> int:
        """Samples that this rank gets in an epoch."""
        total = self._total()
        return (total - self.rank + self.world - 1) // self.world

    def __iter__(self) -> Iterator[Any]:
        workers, worker, in_worker = _workers()
        epoch, start = self.epoch, self._used
        number = 0  # among this rank's samples of what is left of the epoch
        for ordinal, (shard, within) in enumerate(self.order(epoch)):
            if ordinal < start or ordinal >= self._total() or (ordinal - start) % self.world != self.rank:
                continue
            mine = number // self.batch_size % workers == worker
            number += 1
            if not mine:
                continue
            # No name is bound to the sample: its pixels are freed before the next ones are decoded.
            view = self._view(shard, within, epoch)
            if not in_worker:
                self._used += self.world
            yield view
            del view
        self.epoch, self._used = epoch + 1, 0

    def _view(self, shard: int, number: int, epoch: int) -> Any:
        if self.transform is None:
            return self.set.get(shard, number)
        return self.transform(self.set.get(shard, number), (self.seed, epoch, shard, number))

    def order(self, epoch: int) -> Iterator[tuple[int, int]]:
        """(shard, number in it) of every sample, in the order of an epoch, over all ranks."""
        shards = self.set.reader.index.shards
        rng = np.random.default_rng((self.seed, epoch))
        yield from shuffled([one.samples for one in shards], rng, self.window)

    def advance(self, samples: int) -> None:
        """Count `samples` of this rank as used; for loops over a DataLoader with workers."""
        self._used += samples * self.world
        if self._used + self.rank >= self._total():  # a later rank may get one less than the first
            self.epoch, self._used = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands, over all ranks: they are taken to be equally far."""
        done = self._used >= self._total()
        epoch, used = (self.epoch + 1, 0) if done else (self.epoch, self._used)
        return {"seed": self.seed, "window": self.window, "epoch": epoch, "used": used}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from `state_dict()`: the next `iter` gives the rest of that epoch, exactly.

        The numbers of ranks and workers may have changed.

        Raises:
            DataError: the state is of a stream with another seed or window, whose order is another.
        """
        for name in ("seed", "window"):
            if state[name] != getattr(self, name):
                raise DataError(
                    f"the state is of a stream with {name} {state[name]}, "
                    f"but this one has {getattr(self, name)}"
                )
        self.epoch, self._used = int(state["epoch"]), int(state["used"])

    def _total(self) -> int:
        total = self.set.reader.index.samples
        return total - total % self.world if self.equal else total


def shuffled(samples: Sequence[int], rng: np.random.Generator, window: int) -> Iterator[tuple[int, int]]:
    """(shard, number in it) of every sample: shards in random order, samples mixed within some of them.

    Args:
        samples: how many each shard has.
        rng: decides the order.
        window: samples are mixed within so many neighbours; 0 keeps the order of the shards.
    """
    if window == 0:
        for shard, many in enumerate(samples):
            yield from ((shard, number) for number in range(many))
        return
    waiting: list[np.ndarray] = []
    count = 0
    for shard in rng.permutation(len(samples)):
        many = samples[shard]
        waiting.append(np.stack([np.full(many, shard), np.arange(many)], axis=1))
        count += many
        if count >= window:
            for one in rng.permutation(np.concatenate(waiting)):
                yield int(one[0]), int(one[1])
            waiting, count = [], 0
    if waiting:
        for one in rng.permutation(np.concatenate(waiting)):
            yield int(one[0]), int(one[1])


def torch_stream(stream: ShardStream) -> Any:
    """`stream` as a torch IterableDataset, for `DataLoader(..., batch_size=stream.batch_size)`.

    Raises:
        MissingExtraError: torch is not installed.
    """
    data = require("torch.utils.data", "train")

    class _Stream(data.IterableDataset):  # type: ignore[name-defined]
        def __iter__(self) -> Iterator[Any]:
            return iter(stream)

        def __len__(self) -> int:
            return len(stream)

    return _Stream()


def _workers() -> tuple[int, int, bool]:
    """(number of workers, number of this one, whether this is the worker of a DataLoader)."""
    data = sys.modules.get("torch.utils.data")  # in a worker torch is loaded; elsewhere it need not be
    info = data.get_worker_info() if data is not None else None
    return (info.num_workers, info.id, True) if info is not None else (1, 0, False)
