from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ivm.data.measure import HASH_BITS, look_alikes, measure, over_shards, plain_text
from ivm.data.records import Record
from ivm.data.shards import write_shards
from ivm.data.stream import ShardReader
from ivm.errors import OptionError
from ivm.types import Sample


def box(shape, x0, y0, x1, y1):
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_sample_is_measured(make_store, scenery):
    mask = box((48, 64), 0, 0, 32, 24)
    soft = np.where(mask, 0.8, 0.3).astype(np.float32)
    given = [
        Sample("a", scenery(0), ("The  red cup!", "a cup"), mask, "x", targets=("cup",), image_id="p"),
        Sample("b", scenery(1), ("x y z",), soft, "x", human=False),
        Sample("c", np.full((48, 64, 3), 9, np.uint8), ("x",), None, "y", kind="question"),
    ]
    a, b, c = measure(ShardReader(make_store(given)))
    assert (a.area, a.pixels, a.targets, a.words, a.letters) == (0.25, 768, 1, 3, 13)
    assert a.texts == ("the red cup", "a cup")
    assert a.inside == pytest.approx(31 * 23 / 768)
    assert b.area == 0.25  # what is above the threshold
    assert b.group == "x, machine"
    assert c.area is None
    assert c.hash == b""  # a plain picture has no structure
    assert len(a.hash) == HASH_BITS // 8
    assert not a.fault


def test_processes_measure_the_same(make_store, scenery):
    given = [Sample(str(k), scenery(k), ("x",), None, "x") for k in range(7)]
    reader = ShardReader(make_store(given, samples_per_shard=3))
    assert list(measure(reader, workers=2)) == list(measure(reader))
    with pytest.raises(OptionError, match="workers must be at least 1"):
        list(over_shards(print, reader, 0))


def jpeg(image, quality):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return out.getvalue()


def test_the_same_photo_at_another_size_and_quality_looks_alike(tmp_path, scenery):
    from ivm.data.records import Entry
    from ivm.images import read_image

    photos = [scenery(k, 240, 320) for k in range(6)]
    records = []
    for k, photo in enumerate(photos):
        small = np.array(Image.fromarray(photo).resize((200, 150), Image.Resampling.LANCZOS))
        for name, file in ((f"big{k}", jpeg(photo, 95)), (f"small{k}", jpeg(small, 60))):
            records.append(Record(Sample(name, read_image(file), ("x",), None, "x"), file))
    write_shards([Entry("m", 1, lambda: records)], tmp_path, strict=True)
    found = list(measure(ShardReader(tmp_path)))
    pairs = {(found[i].uuid, found[j].uuid) for i, j in look_alikes([one.hash for one in found])}
    assert pairs == {(f"big{k}", f"small{k}") for k in range(6)}


@pytest.mark.parametrize("within", [0, 1, 5, 12])
def test_look_alikes_are_those_of_a_full_comparison(within):
    rng = np.random.default_rng(within)
    hashes = []
    for _ in range(12):
        one = int.from_bytes(rng.bytes(HASH_BITS // 8), "big")
        for flips in rng.integers(0, 2 * within + 3, 3):
            other = one
            for bit in rng.choice(HASH_BITS, flips, replace=False):
                other ^= 1 << int(bit)
            hashes.append(other.to_bytes(HASH_BITS // 8, "big"))
    hashes += [b"", hashes[0], b""]
    numbers = [int.from_bytes(h, "big") for h in hashes]
    first = {h: hashes.index(h) for h in hashes}
    expected = {
        (i, j)
        for j in range(len(hashes))
        for i in range(j)
        if hashes[i] and hashes[j] and (numbers[i] ^ numbers[j]).bit_count() <= within
        if first[hashes[i]] == i and first[hashes[j]] in (j, i)
    }
    assert set(look_alikes(hashes, within)) == expected


def test_plain_text():
    assert plain_text("  What's  THE Straße-number?") == "what s the strasse number"
