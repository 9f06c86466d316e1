from __future__ import annotations

import json

import numpy as np
import pytest

from ivm.data.layout import encode_sample
from ivm.data.shards import ShardWriter
from ivm.data.verify import verify
from ivm.errors import DataError
from ivm.types import Sample


@pytest.fixture
def store(make_store, scenery):
    samples = [Sample(f"s{k}", scenery(k), ("x",), np.eye(48, 64) > 0, "x") for k in range(7)]
    return make_store(samples, samples_per_shard=3)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_good_store_has_no_problem(store, workers):
    seen = []
    found = verify(store, workers, progress=seen.append)
    assert found.problems == ()
    assert (found.samples, seen) == (7, [3, 6, 7])
    assert found.bytes == sum(p.stat().st_size for p in store.glob("*.tar"))


def test_a_changed_byte_is_seen_and_the_sample_named(store):
    path = store / "shard-000001.tar"
    content = bytearray(path.read_bytes())
    content[700] ^= 255  # in the first picture of the shard
    path.write_bytes(content)
    found = verify(store).problems
    assert [(p.file, p.place) for p in found] == [
        ("shard-000001.tar", "checksum"),
        ("shard-000001.tar", "s3"),
    ]
    assert [p.place for p in verify(store, checksums_only=True).problems] == ["checksum"]


def test_lost_and_cut_shards_are_seen(store):
    path = store / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:-512])
    (store / "shard-000002.tar").unlink()
    reasons = [str(p) for p in verify(store).problems]
    assert any("shard-000000.tar: size: must be" in r for r in reasons)
    assert any("shard-000002.tar: file: cannot be read" in r for r in reasons)
    assert any("says 7 samples, but the shards have 6" in r for r in reasons)


def test_damaged_offsets_are_seen(store):
    (store / "shard-000000.json").write_text("{}")
    assert verify(store).problems[0].place == "offsets"


def test_samples_under_wrong_names_and_twice_are_seen(store, tmp_path, scenery):
    sample = Sample("inner", scenery(0), ("x",), None, "x")
    with ShardWriter(tmp_path / "b", samples_per_shard=1) as writer:
        writer.write_members("outer", encode_sample(sample), "x, human")
        writer.write(sample)
        writer.write(Sample("c", scenery(1), ("x",), None, "x"))
    assert [p.reason for p in verify(tmp_path / "b").problems] == [
        "its members are named otherwise than its uuid 'inner'"
    ]
    index = json.loads((tmp_path / "b" / "index.json").read_text())
    for suffix in ("tar", "json"):
        content = (tmp_path / "b" / f"shard-000001.{suffix}").read_bytes()
        (tmp_path / "b" / f"shard-000002.{suffix}").write_bytes(content)
    index["shards"][2] |= {key: index["shards"][1][key] for key in ("bytes", "sha256")}
    (tmp_path / "b" / "index.json").write_text(json.dumps(index))
    assert "duplicate: it is in shard-000001.tar, too" in verify(tmp_path / "b").problems[-1].reason


def test_a_folder_without_a_store_is_told(tmp_path):
    with pytest.raises(DataError, match="must hold shards"):
        verify(tmp_path)
