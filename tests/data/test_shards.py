from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

from ivm.data.layout import Encoding
from ivm.data.records import Entry, Record
from ivm.data.shards import ShardWriter, read_index, write_shards
from ivm.data.stream import ShardSet
from ivm.errors import DataError, OptionError, OutputError
from ivm.types import Sample


def make(number, uuid=None):
    rng = np.random.default_rng(number)
    image = np.full((6, 8, 3), number % 256, np.uint8)
    heatmap = rng.random((6, 8)) > 0.5 if number % 3 else rng.random((6, 8)).astype(np.float32)
    name = uuid or f"s{number}"
    return Sample(name, image, (f"thing {number}",), heatmap, "made", human=number % 2 == 0)


def entry(number):
    """Three records, of which some are wrong, and one uuid in forty is a duplicate."""

    def load():
        yield Record(make(3 * number))
        if number % 5 == 2:
            yield DataError("no mask")
        else:
            yield Record(make(3 * number + 1, "s0" if number % 40 == 39 else None))
        if number % 7 == 3:
            raise DataError("cut short")
        yield Record(make(3 * number + 2))

    return Entry("made.jsonl", number + 1, load)


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


class StopError(Exception):
    pass


def stopping(entries, after):
    for number, one in enumerate(entries):
        if number == after:
            raise StopError
        yield one


def test_samples_come_back_in_order_and_the_index_counts_them(tmp_path):
    index = write_shards(
        (entry(n) for n in range(40)), tmp_path / "a", {"reader": "made"}, samples_per_shard=10
    )
    store = ShardSet(tmp_path / "a")
    uuids = [store[i].uuid for i in range(len(store))]
    assert len(set(uuids)) == len(uuids) == index.samples
    assert uuids == sorted(uuids, key=lambda u: int(u[1:]))
    assert sum(index.counts.values()) == index.samples
    assert set(index.counts) == {"made, human", "made, machine"}
    for shard in index.shards:
        content = (tmp_path / "a" / f"{shard.name}.tar").read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.bytes, shard.sha256)
        assert shard.samples <= 10
    lines = (tmp_path / "a" / "report.jsonl").read_text().splitlines()
    assert len(lines) == index.skipped == 8 + 6 + 1
    assert json.loads(lines[0]) == {"file": "made.jsonl", "place": 3, "reason": "no mask"}
    assert "uuid 's0' is a duplicate" in lines[-1]


def test_headers_hold_no_time_owner_or_group(tmp_path):
    write_shards([entry(0)], tmp_path / "a")
    with tarfile.open(tmp_path / "a" / "shard-000000.tar") as tar:
        members = tar.getmembers()
    assert [m.name for m in members][:3] == ["s0.png", "s0.heatmap.png", "s0.json"]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


@pytest.mark.parametrize("after", [0, 1, 3, 4, 7, 11, 22, 39])
def test_a_stopped_conversion_goes_on_to_the_same_bytes(tmp_path, after):
    settings = {"recipe": {"reader": "made"}, "samples_per_shard": 8}
    write_shards((entry(n) for n in range(41)), tmp_path / "whole", **settings)
    with pytest.raises(StopError):
        write_shards(stopping((entry(n) for n in range(41)), after), tmp_path / "b", **settings)
    assert not list((tmp_path / "b").glob(".*"))
    with pytest.raises(DataError, match=r"did not finish|but has none"):
        read_index(tmp_path / "b")
    loaded = []

    def watched(number):
        one = entry(number)
        return Entry(one.file, one.place, lambda: loaded.append(number) or one.load())

    write_shards((watched(n) for n in range(41)), tmp_path / "b", **settings)
    assert digests(tmp_path / "b") == digests(tmp_path / "whole")
    assert min(loaded) >= after - 4  # what whole shards hold is not loaded again


def test_a_lost_or_torn_shard_is_written_again_with_all_after_it(tmp_path):
    settings = {"samples_per_shard": 8}
    write_shards((entry(n) for n in range(20)), tmp_path / "a", **settings)
    whole = digests(tmp_path / "a")
    (tmp_path / "a" / "index.json").unlink()
    tar = tmp_path / "a" / "shard-000002.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    write_shards((entry(n) for n in range(20)), tmp_path / "a", **settings)
    assert digests(tmp_path / "a") == whole


def test_a_finished_store_is_returned_and_another_one_refused(tmp_path):
    def never(number):
        raise AssertionError("read again")

    first = write_shards([entry(0)], tmp_path / "a", {"reader": "x"})
    assert write_shards(map(never, [0]), tmp_path / "a", {"reader": "x"}).shards == first.shards
    with pytest.raises(DataError, match=r"a finished store \(reader: 'x' there, 'y' here\)"):
        write_shards([entry(0)], tmp_path / "a", {"reader": "y"})
    with pytest.raises(DataError, match="already holds a finished store"):
        write_shards([entry(0)], tmp_path / "a", {"reader": "x"}, encoding=Encoding("jpeg"))
    (tmp_path / "a" / "index.json").unlink()
    with pytest.raises(DataError, match=r"another conversion \(reader: 'x' there, 'y' here\)"):
        write_shards([entry(0)], tmp_path / "a", {"reader": "y"})


def test_strict_stops_at_the_first_wrong_record(tmp_path):
    with pytest.raises(DataError, match=r"made\.jsonl:3: no mask"):
        write_shards((entry(n) for n in range(10)), tmp_path / "a", strict=True)
    two = [Entry("x", n, lambda: [Record(make(1))]) for n in (1, 2)]
    with pytest.raises(DataError, match=r"x:2: uuid 's1' is a duplicate"):
        write_shards(two, tmp_path / "b", strict=True)


def test_a_sample_that_cannot_be_stored_is_reported_not_replaced(tmp_path):
    bad = Sample("n", np.zeros((2, 2, 3), np.uint8), ("x",), np.full((2, 2), np.nan, np.float32), "made")
    index = write_shards([Entry("x", 1, lambda: [Record(bad)]), entry(0)], tmp_path / "a")
    assert index.samples == 3
    assert "must be in [0, 1]" in (tmp_path / "a" / "report.jsonl").read_text()


def test_shards_close_at_their_bytes(tmp_path):
    index = write_shards((entry(n) for n in range(10)), tmp_path / "a", bytes_per_shard=20_000)
    assert len(index.shards) > 2
    assert all(shard.bytes < 40_000 for shard in index.shards)


def test_an_empty_source_gives_an_empty_store(tmp_path):
    assert write_shards([], tmp_path / "a").samples == 0


@pytest.mark.parametrize("wrong", [{"samples_per_shard": 0}, {"bytes_per_shard": 0}, {"recipe": {"x": {1}}}])
def test_settings_are_checked(tmp_path, wrong):
    with pytest.raises(OptionError):
        ShardWriter(tmp_path / "a", **wrong)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        ShardWriter(tmp_path / "file" / "a")


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 9}', '{"version": 1}'])
def test_a_damaged_index_is_told(tmp_path, content):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(DataError, match=r"index\.json"):
        read_index(tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_plain_webdataset_reads_the_shards(tmp_path):
    wds = pytest.importorskip("webdataset")
    write_shards((entry(n) for n in range(12)), tmp_path / "a", samples_per_shard=9)
    urls = sorted(map(str, (tmp_path / "a").glob("*.tar")))
    dataset = wds.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "heatmap.png", "json")
    store = ShardSet(tmp_path / "a")
    count = 0
    for (image, heatmap, described), sample in zip(dataset, store, strict=True):
        assert (np.array(image) == sample.image).all()
        assert described["uuid"] == sample.uuid
        assert np.allclose(np.array(heatmap)[:, :, 0] / 255.0, sample.heatmap)  # it makes everything RGB
        count += 1
    assert count == len(store) > 9


KILLED = """
import sys
import numpy as np
from ivm.data.layout import Encoding
from ivm.data.records import Entry, Record
from ivm.data.shards import write_shards
from ivm.types import Sample

def load(number):
    image = np.full((4, 4, 3), number % 251, np.uint8)
    mask = np.arange(16).reshape(4, 4) < number % 17
    yield Record(Sample(f"s{number}", image, (f"thing {number}",), mask, "made"))

count = int(sys.argv[2])
entries = (Entry("made", n, lambda n=n: load(n)) for n in range(count))
write_shards(entries, sys.argv[1], {"count": count}, samples_per_shard=500)
"""


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_killed_process_started_again_gives_the_same_bytes(tmp_path, count):
    def start(folder):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / folder), str(count)])

    began = time.monotonic()
    assert start("whole").wait() == 0
    took = time.monotonic() - began
    kills = random.Random()
    for _ in range(2):
        process = start("killed")
        time.sleep(kills.uniform(0.2, 0.8) * took)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert read_index(tmp_path / "killed").samples == count
