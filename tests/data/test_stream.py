from __future__ import annotations

import itertools
import json
import pickle
from collections import Counter

import numpy as np
import pytest

from ivm.data.records import Entry, Record
from ivm.data.shards import write_shards
from ivm.data.stream import ShardReader, ShardSet, ShardStream, torch_stream
from ivm.errors import DataError, OptionError
from ivm.types import Sample

COUNT = 53


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    def load(number):
        image = np.full((4, 5, 3), number, np.uint8)
        yield Record(Sample(f"{number:02}", image, ("x",), np.eye(4, 5) > 0, "made"))

    path = tmp_path_factory.mktemp("store")
    write_shards(
        (Entry("made", n, lambda n=n: load(n)) for n in range(COUNT)), path / "a", samples_per_shard=10
    )
    return path / "a"


def uuids(stream):
    return [sample.uuid for sample in stream]


EVERY = [f"{n:02}" for n in range(COUNT)]


def test_a_set_gives_any_sample(folder):
    store = ShardSet(folder)
    assert len(store) == COUNT
    assert [store[i].uuid for i in (0, 9, 10, 52, -1, -53)] == ["00", "09", "10", "52", "52", "00"]
    for number in (53, -54):
        with pytest.raises(IndexError):
            store[number]


def test_files_stay_few_and_pickles_open_their_own(folder):
    reader = ShardReader(folder, open_shards=2)
    for shard in (0, 1, 2, 0, 3):
        assert reader.keys(shard)[0] == f"{shard}0"
        assert len(reader._open) <= 2
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy._open
    assert copy.members(5, 2)["json"] == reader.members(5, 2)["json"]
    reader.close()
    assert reader.members(0, 0)


@pytest.mark.parametrize("window", [0, 1, 15, 10_000])
def test_each_sample_comes_once_an_epoch_in_another_order(folder, window):
    stream = ShardStream(folder, window=window)
    first, second = uuids(stream), uuids(stream)
    assert sorted(first) == sorted(second) == EVERY
    assert (first == EVERY) == (window == 0)
    assert (first == second) == (window == 0)
    assert first == uuids(ShardStream(folder, window=window))
    assert (first == uuids(ShardStream(folder, window=window, seed=1))) == (window == 0)


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_ranks_share_an_epoch_without_loss_or_doubles(folder, world):
    parts = [uuids(ShardStream(folder, rank=rank, world=world)) for rank in range(world)]
    assert sorted(itertools.chain(*parts)) == EVERY
    assert [len(part) for part in parts] == [
        len(ShardStream(folder, rank=rank, world=world)) for rank in range(world)
    ]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    equal = [uuids(ShardStream(folder, rank=rank, world=world, equal=True)) for rank in range(world)]
    assert {len(part) for part in equal} == {COUNT // world}
    assert max(Counter(itertools.chain(*equal)).values()) == 1


@pytest.mark.parametrize("stop", [0, 1, 17, 52, 53])
def test_resuming_in_mid_epoch_is_exact(folder, stop):
    whole = ShardStream(folder, seed=3, window=20)
    expected = uuids(whole) + uuids(whole)
    stream = ShardStream(folder, seed=3, window=20)
    seen = [sample.uuid for sample in itertools.islice(iter(stream), stop)]
    resumed = ShardStream(folder, seed=3, window=20)
    resumed.load_state_dict(stream.state_dict())
    rest = uuids(resumed)
    if stop < COUNT:
        rest += uuids(resumed)
    assert seen + rest == expected


def test_resuming_with_another_number_of_ranks_loses_nothing(folder):
    seen, states = [], []
    for rank in range(2):
        stream = ShardStream(folder, rank=rank, world=2)
        seen += [sample.uuid for sample in itertools.islice(iter(stream), 8)]
        states.append(stream.state_dict())
    assert states[0] == states[1]
    for rank in range(3):
        stream = ShardStream(folder, rank=rank, world=3)
        stream.load_state_dict(states[0])
        seen += uuids(stream)
    assert sorted(seen) == EVERY


def test_a_state_of_another_order_is_refused(folder):
    state = ShardStream(folder, seed=1).state_dict()
    with pytest.raises(DataError, match="seed 1, but this one has 2"):
        ShardStream(folder, seed=2).load_state_dict(state)


def test_a_transform_gets_the_same_seed_whoever_reads(folder):
    def collect(**options):
        return dict(
            itertools.chain(
                *(
                    ShardStream(folder, transform=lambda s, seed: (s.uuid, seed), **o)
                    for o in options["parts"]
                )
            )
        )

    alone = collect(parts=[{}])
    shared = collect(parts=[{"rank": 0, "world": 2}, {"rank": 1, "world": 2}])
    assert alone == shared
    assert len(set(alone.values())) == COUNT


def uuid_and_seed(sample, seed):
    return sample.uuid, int(np.random.default_rng(seed).integers(1000))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_a_loader_gives_the_same_batches_for_any_number_of_workers(folder, workers):
    torch = pytest.importorskip("torch")

    def batches(number, state=None):
        stream = ShardStream(folder, batch_size=4, transform=uuid_and_seed)
        if state:
            stream.load_state_dict(state)
        loader = torch.utils.data.DataLoader(
            torch_stream(stream), batch_size=4, num_workers=number, collate_fn=list
        )
        return stream, loader

    alone = list(batches(0)[1])
    assert sorted(uuid for batch in alone for uuid, _ in batch) == EVERY
    stream, loader = batches(workers)
    seen = []
    for batch in itertools.islice(loader, 5):
        seen.append(batch)
        if workers:
            stream.advance(len(batch))
    state = stream.state_dict()
    assert state["used"] == 20
    assert seen + list(batches(workers, state)[1]) == alone


@pytest.mark.parametrize("world", [2, 3, 7])
def test_a_rank_that_used_its_share_goes_on_to_the_next_epoch(folder, world):
    """53 samples do not go round: later ranks get one less."""
    for rank in range(world):
        stream = ShardStream(folder, rank=rank, world=world)
        stream.advance(len(stream) - 1)
        assert stream.epoch == 0
        stream.advance(1)
        assert (stream.epoch, len(uuids(stream))) == (1, len(stream))


def test_a_set_serves_as_a_data_set_of_torch(folder):
    torch = pytest.importorskip("torch")
    loader = torch.utils.data.DataLoader(ShardSet(folder), batch_size=10, num_workers=1, collate_fn=list)
    assert [sample.uuid for batch in loader for sample in batch] == EVERY


@pytest.mark.parametrize("wrong", [{"rank": 2, "world": 2}, {"rank": -1}, {"window": -1}, {"batch_size": 0}])
def test_options_are_checked(folder, wrong):
    with pytest.raises(OptionError):
        ShardStream(folder, **wrong)


def test_damage_names_shard_and_sample(tmp_path):
    def load():
        yield Record(Sample("abc", np.zeros((4, 5, 3), np.uint8), ("x",), None, "made"))

    write_shards([Entry("made", 1, load)], tmp_path)
    tar = tmp_path / "shard-000000.tar"
    good = tar.read_bytes()
    tar.write_bytes(good[:520] + b"????" + good[524:])
    with pytest.raises(DataError, match=r"shard-000000\.tar, abc: "):
        ShardSet(tmp_path)[0]
    tar.write_bytes(good[:600])
    with pytest.raises(DataError, match="cut short at sample 0"):
        ShardSet(tmp_path)[0]
    tar.unlink()
    with pytest.raises(DataError, match="cannot read"):
        ShardSet(tmp_path)[0]
    sidecar = tmp_path / "shard-000000.json"
    content = json.loads(sidecar.read_text())
    tar.write_bytes(good)
    for offsets in ([-5, 10], [10, 5], [0, 10**15], [0, 10**30]):
        sidecar.write_text(json.dumps(content | {"offsets": offsets}))
        with pytest.raises(DataError, match=r"outside of the shard|is damaged"):
            ShardSet(tmp_path)[0]
    sidecar.write_text("{}")
    with pytest.raises(DataError, match="is damaged"):
        ShardSet(tmp_path)[0]
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["bytes"] = "9"
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="whole numbers"):
        ShardSet(tmp_path)


def test_an_empty_store_has_nothing_to_stream(tmp_path):
    write_shards([], tmp_path)
    assert len(ShardSet(tmp_path)) == 0
    with pytest.raises(DataError, match="holds no samples"):
        ShardStream(tmp_path)
