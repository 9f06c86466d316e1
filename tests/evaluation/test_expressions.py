"""RefCOCO in its publisher's form and a store: every sentence is asked, every figure is that of masks."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ivm.data.readers import entries
from ivm.data.records import Entry, Record
from ivm.data.shards import write_shards
from ivm.errors import DataError, OptionError
from ivm.evaluation.expressions import one_each, read_expressions
from ivm.evaluation.masks import TOTAL, evaluate_masks

RED, BLUE = (20, 10, 60, 40), (70, 30, 110, 70)


def corners(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


@pytest.fixture
def refcoco(tmp_path, picture):
    """Two photos with a red and a blue box; three references, one of them without a target."""
    root = tmp_path / "grefcoco"
    (root / "train2014").mkdir(parents=True)
    images, annotations, refs = [], [], []
    for number in (1, 2):
        name = f"COCO_train2014_{number:012}.jpg"
        Image.fromarray(picture(80, 120, red=RED, blue=BLUE)).save(root / "train2014" / name, quality=95)
        images.append({"id": number, "file_name": name, "width": 120, "height": 80})
        annotations.append({"id": 10 * number, "image_id": number, "segmentation": corners(*RED)})
        annotations.append({"id": 10 * number + 1, "image_id": number, "segmentation": corners(*BLUE)})
    plan = [
        (1, 10, ("the red box", "red thing", "box of red")),
        (1, 11, ("the blue box",)),
        (2, -1, ("the green box", "the yellow one")),
    ]
    for number, (image, target, texts) in enumerate(plan):
        sentences = [{"sent": text} for text in texts]
        ref = {"ref_id": number, "image_id": image, "ann_id": [target], "sentences": sentences}
        refs.append(ref | {"split": "val" if image == 1 else "testA"})
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (root / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    return root


def test_every_sentence_is_asked_and_scored(refcoco, colour_masker):
    samples = list(one_each(read_expressions(refcoco, "refer")))
    assert [s.instructions[0] for s in samples] == [
        "the red box", "red thing", "box of red", "the blue box", "the green box", "the yellow one",
    ]  # fmt: skip
    assert len({s.uuid for s in samples}) == 6
    assert samples[0].image is samples[2].image
    report = evaluate_masks(samples, colour_masker, model="colours", data="grefcoco", baselines=False)
    row = report.tables["colours"][TOTAL]
    assert row["n"] == 4
    assert row["giou"][0] > 0.8
    assert row["p_at_50"][0] == row["box_p_at_50"][0] == 1.0
    assert report.tables["colours"]["absent"]["found_accuracy"][0] == 1.0
    assert report.detection["colours"]["giou_of_found"] == pytest.approx((4 * row["giou"][0] + 2) / 6)


def test_the_reader_takes_its_options(refcoco):
    samples = list(read_expressions(refcoco, "refer", {"split": "val"}))
    assert len(samples) == 2
    with pytest.raises(OptionError, match="takes refs"):
        list(read_expressions(refcoco, "refer", {"part": "val"}))
    with pytest.raises(OptionError, match="did you mean 'refer'"):
        list(read_expressions(refcoco, "refe"))


def test_wrong_records_are_left_out_and_told_or_stop(refcoco):
    next((refcoco / "train2014").glob("*2.jpg")).unlink()
    left_out: list[str] = []
    assert len(list(read_expressions(refcoco, "refer", left_out=left_out))) == 2
    assert len(left_out) == 1
    assert "ref 2" in left_out[0]
    with pytest.raises(DataError, match="ref 2"):
        list(read_expressions(refcoco, "refer"))


def test_a_store_gives_the_same_figures_as_its_source(refcoco, colour_masker, tmp_path):
    store = tmp_path / "store"
    write_shards(entries("refer", refcoco), store, {"reader": "refer"})
    reports = [
        evaluate_masks(one_each(source), colour_masker, model="colours", data="x", baselines=False)
        for source in (read_expressions(refcoco, "refer"), read_expressions(store))
    ]
    assert reports[0].tables == reports[1].tables
    with pytest.raises(DataError, match=r"index\.json"):
        next(read_expressions(tmp_path / "nowhere"))


def test_a_damaged_sample_of_a_store_and_one_without_a_mask_are_left_out_and_told(refcoco, tmp_path):
    (sample, *_) = read_expressions(refcoco, "refer")
    given = [replace(sample, uuid=f"s{n}", heatmap=None if n == 1 else sample.heatmap) for n in range(4)]
    store = tmp_path / "store"
    write_shards([Entry("x", 1, lambda: [Record(one) for one in given])], store)
    tar = store / "shard-000000.tar"
    content = tar.read_bytes()
    place = content.index(b"s2.png") + 600  # within the picture
    tar.write_bytes(content[:place] + bytes(2000) + content[place + 2000 :])
    left_out: list[str] = []
    found = [one.uuid for one in read_expressions(store, left_out=left_out)]
    assert found == ["s0", "s3"]
    assert len(left_out) == 2
    assert "sample s1 has no heatmap" in left_out[0]
    assert "s2" in left_out[1]
    with pytest.raises(DataError, match="sample s1 has no heatmap"):
        list(read_expressions(store))


def test_samples_without_a_kind_are_expressions(refcoco):
    (sample, *_) = read_expressions(refcoco, "refer")
    plain = type(sample)("u", sample.image, ("a", "b"), np.ones((80, 120), bool), "mine")
    assert [(s.kind, s.uuid) for s in one_each([plain])] == [("expression", "u#0"), ("expression", "u#1")]
