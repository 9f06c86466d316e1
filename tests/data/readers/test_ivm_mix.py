from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from ivm.data.readers.ivm_mix import normalise_heatmap, read_ivm_mix
from ivm.data.records import Report, samples
from ivm.errors import DataError, OptionError


def reference(bgr):
    """The arithmetic of the publisher's reader, written from its description."""
    grey = np.rint(0.299 * bgr[:, :, 0] + 0.587 * bgr[:, :, 1] + 0.114 * bgr[:, :, 2])
    grey = np.clip(np.rint(grey * 1.5), 0, 255)
    if grey.max() - grey.min() >= 1e-4:
        return (grey - grey.min()) / (grey.max() - grey.min())
    return grey / grey.max()


def test_normalisation_is_the_reference():
    rng = np.random.default_rng(0)
    for low, high in ((0, 256), (40, 90), (0, 3), (200, 256)):
        grey = np.repeat(rng.integers(low, high, (30, 40, 1), dtype=np.uint8), 3, axis=2)
        assert np.abs(normalise_heatmap(grey) - reference(grey)).max() < 1e-6
    colour = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert np.abs(normalise_heatmap(colour) - reference(colour)).max() < 0.02  # halves may round otherwise


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (90, 1.0), (255, 1.0), (0, 0.0)])
def test_a_constant_heatmap_keeps_all_or_nothing(value, expected):
    assert (normalise_heatmap(np.full((4, 5, 3), value, np.uint8)) == expected).all()


@pytest.fixture
def source(tmp_path, photo):
    root = tmp_path / "HumanLabelData"
    lines = []
    for uuid in ("a1", "b2"):
        photo(root / f"img_{uuid}.jpg", 24, 16)
        ramp = np.repeat(np.arange(24, dtype=np.uint8)[None] * 7, 16, axis=0)
        cv2.imwrite(str(root / f"mask_{uuid}.jpg"), ramp, [cv2.IMWRITE_JPEG_QUALITY, 95])
        lines.append({"uuid": uuid, "instruction": ["find the cup", "the cup"]})
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


def test_a_human_part(source):
    one, two = samples(read_ivm_mix(source))
    assert (one.uuid, two.uuid) == ("a1", "b2")
    assert one.instructions == ("find the cup", "the cup")
    assert one.human
    assert one.source == "ivm-mix/human"
    expected = reference(cv2.imread(str(source / "mask_a1.jpg")).astype(float))
    assert np.abs(one.heatmap - expected).max() < 1e-6
    assert one.heatmap.min() == 0.0
    assert one.heatmap.max() == 1.0


def test_a_vqa_part_finds_its_photos_in_other_data_sets(tmp_path, source, photo):
    part = tmp_path / "VQAMachineData"
    (part / "masks").mkdir(parents=True)
    (source / "mask_a1.jpg").rename(part / "masks" / "mask_v.jpg")
    photo(part / "images" / "coco" / "train2017" / "000000000009.jpg", 24, 16)
    line = {"uuid": "v", "image": "coco/train2017/000000000009.jpg", "instruction": ["how many?"]}
    (part / "vqa.jsonl").write_text(json.dumps(line))
    (sample,) = samples(read_ivm_mix(part))
    assert sample.source == "ivm-mix/coco"
    assert sample.image_id == "coco/000000000009"
    assert not sample.human


def test_each_wrong_line_is_told_and_the_others_read(source, photo):
    lines = (source / "data.jsonl").read_text().splitlines()
    photo(source / "img_small.jpg", 10, 10)
    (source / "mask_small.jpg").write_bytes((source / "mask_a1.jpg").read_bytes())
    photo(source / "img_cut.jpg", 24, 16)
    (source / "mask_cut.jpg").write_bytes((source / "mask_a1.jpg").read_bytes()[:300])
    bad = [
        "{not json",
        json.dumps({"uuid": "none", "instruction": ["x"]}),
        json.dumps({"uuid": "a1", "instruction": "x"}),
        json.dumps({"uuid": "a1", "instruction": []}),
        json.dumps({"uuid": "small", "instruction": ["x"]}),
        json.dumps({"uuid": "cut", "instruction": ["x"]}),
        json.dumps({"instruction": ["x"]}),
        json.dumps({"uuid": "a1", "instruction": ["x"], "image": "../../secret.jpg"}),
        json.dumps({"uuid": "a1", "instruction": [" "]}),
    ]
    (source / "data.jsonl").write_text("\n".join([lines[0], *bad, lines[1]]))
    report = Report()
    assert [s.uuid for s in samples(read_ivm_mix(source), report)] == ["a1", "b2"]
    words = (
        "not JSON|img_none.jpg is missing|must be a list|list of texts|must be 10x10|damaged|must have 'uuid'"
    )
    for number, (problem, word) in enumerate(
        zip(report.problems, [*words.split("|"), "must lie in", "must contain text"], strict=True), start=2
    ):
        assert (problem.file, problem.place) == ("data.jsonl", number)
        assert word in problem.reason


def test_what_is_missing_is_told(tmp_path, source):
    with pytest.raises(DataError, match="must hold JSON lines"):
        list(read_ivm_mix(tmp_path / "none"))
    with pytest.raises(OptionError, match="part must be one of human, robot, vqa"):
        list(read_ivm_mix(source, part="other"))
