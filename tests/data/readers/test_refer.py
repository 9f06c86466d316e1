from __future__ import annotations

import collections
import io
import json
import os
import pickle

import numpy as np
import pytest

from ivm.data.readers.refer import load_plain_pickle, read_refer
from ivm.data.records import Report, samples
from ivm.errors import DataError, OptionError


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def ref(ref_id, ann_id, *texts, image_id=9, split="train"):
    sentences = [{"sent_id": k, "sent": t, "raw": t, "tokens": t.split()} for k, t in enumerate(texts)]
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "file_name": "COCO_train2014_000000000009_1.jpg",
        "sentences": sentences,
        "sent_ids": list(range(len(texts))),
        "split": split,
    }


@pytest.fixture
def root(tmp_path, photo, write_json):
    folder = tmp_path / "refcoco"
    photo(tmp_path / "images" / "mscoco" / "images" / "train2014" / "COCO_train2014_000000000009.jpg")
    write_json(
        folder / "instances.json",
        {
            "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 20, "height": 10}],
            "annotations": [
                {"id": 1, "image_id": 9, "segmentation": box(0, 0, 4, 4)},
                {"id": 2, "image_id": 9, "segmentation": box(8, 2, 12, 6)},
            ],
        },
    )
    return folder


REFS = [ref(5, 1, "left dog", "dog on the left", "left dog"), ref(6, 2, "right one", split="val")]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_of_references(root, protocol):
    (root / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol))
    left, right = samples(read_refer(root))
    assert left.instructions == ("left dog", "dog on the left")
    assert left.uuid == "refcoco-5"
    assert left.image_id == "coco/000000000009"
    assert left.heatmap.sum() == 16
    assert left.heatmap[:4, :4].all()
    assert right.provenance["split"] == "val"
    assert [s.uuid for s in samples(read_refer(root, split="val"))] == ["refcoco-6"]


def test_a_split_that_does_not_exist_is_refused(root):
    (root / "refs(unc).p").write_bytes(pickle.dumps(REFS))
    with pytest.raises(OptionError, match="split must be one of train, val, but got 'test'"):
        list(read_refer(root, split="test"))


def test_several_targets_and_none(root, write_json):
    write_json(root / "grefs(unc).json", [ref(1, [1, 2], "both"), ref(2, [-1], "the cat")])
    both, none = samples(read_refer(root))
    assert both.heatmap.sum() == 32
    assert not none.heatmap.any()
    assert (both.kind, none.kind) == ("expression", "absent")


def test_wrong_references_are_told(root, write_json):
    write_json(root / "refs(unc).json", [ref(1, 7, "x"), ref(2, 1, "x", image_id=3), "text", ref(4, 1)])
    report = Report()
    assert not list(samples(read_refer(root), report))
    assert [p.place for p in report.problems] == ["ref 1", "ref 2", "item 2", "ref 4"]
    words = ("unknown annotation 7", "unknown image 3", "JSON object", "one or more")
    assert all(word in p.reason for p, word in zip(report.problems, words, strict=True))


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (Evil(), "system"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (np.float64(1), "scalar"),
        (print, "print"),
    ],
)
def test_a_pickle_with_a_foreign_class_is_refused_by_name(content, named, protocol):
    with pytest.raises(DataError, match=f"class .*{named}"):
        load_plain_pickle(io.BytesIO(pickle.dumps([content], protocol)))


def test_plain_values_come_back():
    value = [{"a": (1, 2.5, None, True, "é", {3}, frozenset([4]), b"x")}]
    for protocol in range(5):
        assert load_plain_pickle(io.BytesIO(pickle.dumps(value[:0], protocol))) == []
    assert load_plain_pickle(io.BytesIO(pickle.dumps(value, 4))) == value
    python2 = b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9'\np3\nsa."
    assert load_plain_pickle(io.BytesIO(python2)) == [{"sent": "café"}]


@pytest.mark.parametrize("content", [b"", b"\x80", b"garbage", pickle.dumps([1])[:-1], b"\x80\x04h\x09."])
def test_damaged_pickles_are_data_errors(content):
    with pytest.raises(DataError):
        load_plain_pickle(io.BytesIO(content))


def test_the_file_with_the_class_is_named(root):
    (root / "refs(unc).p").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: it holds an object of the class posix\.system"):
        list(read_refer(root))
    (root / "refs(unc).p").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="must hold a list"):
        list(read_refer(root))


def test_a_photo_of_no_possible_size_is_told(root, write_json):
    content = json.loads((root / "instances.json").read_text())
    content["images"][0]["width"] = 10**9
    write_json(root / "instances.json", content)
    write_json(root / "refs(unc).json", [ref(1, 1, "x")])
    report = Report()
    assert not list(samples(read_refer(root), report))
    assert "an image must have 1 to 120,000,000 pixels" in report.problems[0].reason
