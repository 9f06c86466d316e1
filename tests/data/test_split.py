from __future__ import annotations

import pytest

from ivm.data.measure import measure
from ivm.data.split import assign, find_leaks, split
from ivm.data.stream import ShardReader, ShardSet
from ivm.errors import OptionError
from ivm.types import Sample

SHARES = {"train": 0.7, "val": 0.3}


@pytest.fixture
def samples(scenery):
    """Forty photos with two samples each; photo 40 + k is photo k under another name."""
    return [
        Sample(f"{k}-{n}", scenery(k % 40), ("x",), None, "x", image_id=f"photo-{k}")
        for k in range(44)
        for n in range(2)
    ]


def measured(folder):
    return list(measure(ShardReader(folder)))


def test_parts_share_no_picture_and_lose_none(make_store, samples, tmp_path):
    parts = split(make_store(samples, samples_per_shard=10), tmp_path / "parts", SHARES, seed=1)
    sets = {name: [s.uuid for s in ShardSet(tmp_path / "parts" / name)] for name in SHARES}
    assert sorted(sets["train"] + sets["val"]) == sorted(s.uuid for s in samples)
    assert parts["train"].samples == len(sets["train"])
    assert 0.5 < len(sets["train"]) / len(samples) < 0.9
    assert find_leaks({name: measured(tmp_path / "parts" / name) for name in SHARES}) == []


def test_an_assignment_does_not_depend_on_order_or_company(make_store, samples):
    everything = measured(make_store(samples))
    whole = assign(everything, SHARES)
    assert assign(everything[::-1], SHARES) == whole
    few = assign([one for one in everything if one.image_id < "photo-2"], SHARES)
    alone = {k: v for k, v in few.items() if int(k[6:]) not in {*range(4), *range(40, 44)}}
    assert alone == {k: whole[k] for k in alone}
    assert all(whole[f"photo-{k}"] == whole[f"photo-{k + 40}"] for k in range(4))
    assert assign(everything, SHARES, seed=1) != whole


def test_leaks_are_found_by_name_and_by_look(make_store, scenery):
    first = [Sample("a", scenery(1), ("x",), None, "x", image_id="p")]
    second = [
        Sample("b", scenery(2), ("x",), None, "x", image_id="p"),
        Sample("c", scenery(1), ("x",), None, "x", image_id="q"),
        Sample("d", scenery(3), ("x",), None, "x", image_id="r"),
    ]
    sets = {"one": measured(make_store(first, "one")), "two": measured(make_store(second, "two"))}
    leaks = {(leak.image_id, leak.other, leak.why) for leak in find_leaks(sets)}
    assert leaks == {("p", "p", "the same picture"), ("p", "q", "look alike")}


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.2, "b": -0.2}])
def test_shares_add_up(shares):
    with pytest.raises(OptionError, match="add up to 1"):
        assign([], shares)


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b"])
def test_names_are_folder_names(make_store, samples, tmp_path, name):
    with pytest.raises(OptionError, match="folder name"):
        split(make_store(samples[:2]), tmp_path, {name: 1.0})


def test_every_frame_of_an_episode_counts(make_store, scenery):
    """Two episodes that begin differently and end alike."""

    def episode(number, seeds):
        return [
            Sample(f"{number}-{seed}", scenery(seed), ("x",), None, "robot", image_id=f"episode-{number}")
            for seed in seeds
        ]

    both = measured(make_store([*episode(1, (1, 2, 3)), *episode(2, (4, 5, 3))]))
    parts = [assign(both, {"a": 0.5, "b": 0.5}, seed) for seed in range(20)]
    assert all(part["episode-1"] == part["episode-2"] for part in parts)
    sets = {str(k): [one for one in both if one.image_id == f"episode-{k}"] for k in (1, 2)}
    (leak,) = find_leaks(sets)
    assert (leak.image_id, leak.other, leak.why) == ("episode-1", "episode-2", "look alike")
