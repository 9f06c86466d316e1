"""From stores to batches: human and machine annotations in fixed shares, in an order that is a function of
(seed, step) alone, for any number of processes, workers and restarts.

Each kind of annotation is an endless sequence of its own: epoch after epoch, each in a new order
(`ivm.data.stream.shuffled`). Batch n takes the next few of both. So the position in the data is the number of
the step, and each sample of a kind comes once an epoch of that kind.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ivm.data.stream import ShardReader, ShardSet, shuffled
from ivm.data.transforms import Augment, resize
from ivm.errors import DataError, IVMError, OptionError
from ivm.training.config import Augmentation, Data
from ivm.training.trainee import View
from ivm.types import Sample

__all__ = ["Failure", "Feed", "Place", "Viewer", "open_feed", "validation_places", "worker_context"]


_ANY = 0.1  # a target is there if a pixel is so relevant: a small one is diluted where a JPEG is read small


class Place(NamedTuple):
    """A sample: number of the store, of the shard in it, of the sample in that; and the epoch."""

    store: int
    shard: int
    number: int
    epoch: int


class Failure(NamedTuple):
    """What went wrong in a worker: an error does not travel from there without a page of traces."""

    error: IVMError


class Feed(NamedTuple):
    """What is in the stores.

    Attributes:
        folders: of the stores.
        human, machine: for each shard of each store its (store, shard, numbers of the samples of that kind).
        seed, window: of the order.
    """

    folders: tuple[str, ...]
    human: tuple[tuple[int, int, np.ndarray], ...]
    machine: tuple[tuple[int, int, np.ndarray], ...]
    seed: int
    window: int

    def sizes(self) -> tuple[int, int]:
        """Numbers of human and of machine annotations."""
        return _size(self.human), _size(self.machine)

    def order(self, human: bool, start: int = 0) -> Iterator[Place]:
        """The endless sequence of one kind, from its `start`-th on."""
        shards = self.human if human else self.machine
        counts = [len(numbers) for _, _, numbers in shards]
        first, skip = divmod(start, sum(counts))
        for epoch in count(first):
            rng = np.random.default_rng((self.seed, int(human), epoch))
            for k, within in islice(shuffled(counts, rng, self.window), skip, None):
                store, shard, numbers = shards[k]
                yield Place(store, shard, int(numbers[within]), epoch)
            skip = 0

    def batches(
        self, size: int, human_share: float, step: int = 0, parts: int = 1, mine: Sequence[int] = (0,)
    ) -> Iterator[list[Place]]:
        """From step `step` on, batches of `size` places, each in `parts` parts; yields those in `mine`.

        Every part has the same number of both kinds, so that its mean loss counts as much as another's.

        Raises:
            OptionError: a batch does not split evenly.
        """
        humans = round(size * human_share)
        machines = size - humans
        if humans % parts or machines % parts:
            raise OptionError(
                f"a batch of {humans} human and {machines} machine annotations does not split into {parts} "
                f"equal parts: choose optimise.batch_size so that both are multiples of {parts}"
            )
        streams = [
            (self.order(human, number * step), number)
            for human, number in ((True, humans), (False, machines))
            if number
        ]
        while True:
            taken = [list(islice(stream, number)) for stream, number in streams]
            for part in mine:
                yield [place for places in taken for place in places[part::parts]]

    def loader(
        self,
        batches: Iterator[list[Place]] | Sequence[list[Place]],
        collate: Callable[[Sequence[View]], Any],
        view: Viewer,
        workers: int,
        pin: bool = False,
    ) -> Iterator[Any]:
        """What `collate` makes of each batch, in order, by worker processes; a `Failure` where it cannot."""
        with warnings.catch_warnings():  # more workers than cores are slow, not wrong
            warnings.filterwarnings("ignore", "This DataLoader will create")
            loader: DataLoader[Any] = DataLoader(
                _Views(self.folders, view),
                batch_sampler=_Sampler(batches),
                collate_fn=_Collate(collate),
                num_workers=workers,
                prefetch_factor=4 if workers else None,
                worker_init_fn=_begin_worker,
                multiprocessing_context=worker_context() if workers else None,
                pin_memory=pin,
                generator=torch.Generator(),  # else making a loader draws from the generator of the run
            )
            return iter(loader)


def open_feed(data: Data, seed: int) -> Feed:
    """Look into the stores. Shards that hold both kinds of annotation are read once to tell which is which.

    Raises:
        DataError: a store is unfinished or damaged, or a kind of annotation that is asked for is not there.
    """
    human: list[tuple[int, int, np.ndarray]] = []
    machine: list[tuple[int, int, np.ndarray]] = []
    for store, folder in enumerate(data.stores):
        reader = ShardReader(folder)
        kinds = {name.rpartition(", ")[2] for name, number in reader.index.counts.items() if number}
        for shard, described in enumerate(reader.index.shards):
            if len(kinds) == 1:
                flags = np.full(described.samples, kinds == {"human"})
            else:
                flags = np.array([_human(reader, shard, n) for n in range(described.samples)])
            for rows, wanted in ((human, True), (machine, False)):
                numbers = np.flatnonzero(flags == wanted)
                if numbers.size:
                    rows.append((store, shard, numbers))
        reader.close()
    feed = Feed(data.stores, tuple(human), tuple(machine), seed, data.window)
    for name, size, share, instead in (
        ("human", feed.sizes()[0], data.human_share, 0),
        ("machine", feed.sizes()[1], 1 - data.human_share, 1),
    ):
        if share > 0 and not size:
            raise DataError(
                f"the set of {name} annotations is empty: none of the {sum(feed.sizes()):,} samples in "
                f"{', '.join(data.stores)} is one, but data.human_share is {data.human_share:g}; add a store "
                f"that has some, or set data.human_share = {instead} to train without (of a generator, "
                f"loss.weights must not be {name!r} then)"
            )
    return feed


def _human(reader: ShardReader, shard: int, number: int) -> bool:
    try:
        return bool(json.loads(reader.members(shard, number)["json"])["human"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{reader.index.folder}, shard {shard}, sample {number}: the description is damaged: {error!r}"
        ) from error


def _size(shards: Sequence[tuple[int, int, np.ndarray]]) -> int:
    return sum(len(numbers) for _, _, numbers in shards)


def validation_places(folders: Sequence[str], most: int) -> list[Place]:
    """At most `most` samples of the stores together, spread evenly.

    Raises:
        DataError: a store is unfinished, or all are empty.
    """
    every = [
        Place(store, shard, number, 0)
        for store, folder in enumerate(folders)
        for shard, described in enumerate(ShardReader(folder).index.shards)
        for number in range(described.samples)
    ]
    if not every:
        raise DataError(f"data.validation holds no samples: {', '.join(folders)}")
    chosen = np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int))
    return [every[int(k)] for k in chosen]


class Viewer:
    """(sample, place) -> View: augmented, by a seed made of `seed` and the place; without `augment`, whole.

    Args:
        size: side of the square in pixels.
        augment: how views vary; None for validation: no crop, the first instruction.
        seed: of the run.
    """

    def __init__(self, size: int, augment: Augmentation | None, seed: int = 0) -> None:
        self.size, self.seed = size, seed
        self.least: int | None = size  # pictures may be decoded smaller, but never have to be enlarged
        self.augment: Augment | None = None
        if augment is not None:
            scale, flip = (augment.crop, 1.0), augment.flip
            self.augment = Augment(size=size, scale=scale, flip=flip, colour=augment.colour)
            self.least = self.augment.least

    def __call__(self, sample: Sample, place: Place) -> View:
        if sample.heatmap is None:
            raise DataError(f"sample {sample.uuid} has no heatmap: annotate it, or leave it out of the store")
        found = bool(sample.heatmap.max() > _ANY)
        if self.augment is None:
            return View(resize(sample, (self.size, self.size)), sample.instructions[0], found)
        seed = (self.seed, *place)
        shown = self.augment(sample, seed)
        pick = int(np.random.default_rng((*seed, 1)).integers(len(shown.instructions)))
        return View(shown, shown.instructions[pick], found)


class _Views(Dataset[View | Failure]):
    def __init__(self, folders: Sequence[str], view: Viewer) -> None:
        self.folders, self.view = folders, view
        self._sets: dict[int, ShardSet] = {}  # opened where they are read

    def __getitem__(self, place: Place) -> View | Failure:
        try:
            if place.store not in self._sets:
                self._sets[place.store] = ShardSet(self.folders[place.store], self.view.least)
            return self.view(self._sets[place.store].get(place.shard, place.number), place)
        except IVMError as error:
            return Failure(error)


class _Sampler:
    def __init__(self, batches: Iterator[list[Place]] | Sequence[list[Place]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Place]]:
        return iter(self.batches)


class _Collate:
    def __init__(self, collate: Callable[[Sequence[View]], Any]) -> None:
        self.collate = collate

    def __call__(self, views: Sequence[View | Failure]) -> Any:
        for view in views:
            if isinstance(view, Failure):
                return view
        return self.collate(views)  # type: ignore[arg-type]


def worker_context() -> BaseContext:
    """How worker processes of a loader are started: never as a copy of this one.

    A forked copy has the locks of OpenCV's and OpenMP's threads but not the threads, and waits for them for
    ever. A fork server has no such threads; it imports torch once for all workers.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ivm.training.feed"])
    return context


def _begin_worker(worker: int) -> None:
    cv2.setNumThreads(1)
    # Ctrl-C reaches every process of a terminal: the run decides when to stop, and needs them till then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
