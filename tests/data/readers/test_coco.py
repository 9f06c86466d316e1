from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivm.data.readers.coco import read_coco, read_coco_panoptic
from ivm.data.records import Report, samples
from ivm.data.shards import write_shards
from ivm.errors import DataError


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 2, "name": "wall-brick"}]


@pytest.fixture
def official(tmp_path, photo, write_json):
    photo(tmp_path / "train2017" / "000000000009.jpg")
    content = {
        "images": [{"id": 9, "file_name": "000000000009.jpg", "width": 20, "height": 10}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 1, "segmentation": box(0, 0, 4, 4), "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 1, "segmentation": box(8, 2, 12, 6), "iscrowd": 0},
            {
                "id": 3,
                "image_id": 9,
                "category_id": 2,
                "segmentation": {"size": [10, 20], "counts": [150, 50]},
            },
        ],
        "categories": CATEGORIES,
    }
    write_json(tmp_path / "annotations" / "instances_train2017.json", content)
    return tmp_path, content


def test_all_of_a_name_is_one_target(official):
    root, _ = official
    wall, dogs = samples(read_coco(root))
    assert (wall.instructions, dogs.instructions) == (("brick wall",), ("dog",))
    assert dogs.heatmap.sum() == 32
    assert dogs.heatmap.dtype == bool
    assert wall.heatmap[:, 15:].all()
    assert dogs.image_id == "coco/000000000009"
    assert dogs.provenance["annotations"] == [1, 2]


def test_wrong_annotations_are_told_and_their_name_left_out(official, write_json):
    root, content = official
    content["annotations"] += [
        {"id": 4, "image_id": 9, "category_id": 1, "segmentation": [[1, 2]]},
        {"id": 5, "image_id": 9, "category_id": 7, "segmentation": box(0, 0, 4, 4)},
        {"id": 6, "image_id": 10, "category_id": 1, "segmentation": box(0, 0, 4, 4)},
        {"id": 8, "image_id": [9], "category_id": 1, "segmentation": box(0, 0, 4, 4)},
    ]
    write_json(root / "annotations" / "instances_train2017.json", content)
    report = Report()
    assert [s.instructions[0] for s in samples(read_coco(root), report)] == ["brick wall"]
    reasons = [str(p) for p in report.problems]
    assert "annotations/instances_train2017.json: annotation 6: refers to an unknown image 10" in reasons[0]
    assert "annotation 8: refers to an unknown image [9]" in reasons[1]
    assert "annotation 4: a polygon" in reasons[2]
    assert "unknown category 7" in reasons[3]
    assert "'dog' is left out" in reasons[4]


def test_a_photo_of_another_size_is_told(official, photo):
    root, _ = official
    photo(root / "train2017" / "000000000009.jpg", 30, 10)
    report = Report()
    assert not list(samples(read_coco(root), report))
    assert "say 20x10, but 000000000009.jpg is 30x10" in report.problems[0].reason


@pytest.mark.parametrize(("height", "width"), [(-5, 20), (0, 20), (10**8, 10**8), (10**30, 1)])
def test_a_photo_of_no_possible_size_is_told(official, write_json, height, width):
    root, content = official
    content["images"].append({"id": 10, "file_name": "x.jpg", "width": width, "height": height})
    content["annotations"].append(
        {"id": 9, "image_id": 10, "category_id": 1, "segmentation": box(0, 0, 4, 4), "iscrowd": 0}
    )
    write_json(root / "annotations" / "instances_train2017.json", content)
    report = Report()
    assert [s.instructions[0] for s in samples(read_coco(root), report)] == ["brick wall", "dog"]
    assert "image 10: an image must have 1 to 120,000,000 pixels" in str(report.problems[0])


def test_files_that_are_no_coco_are_told(tmp_path, write_json):
    with pytest.raises(DataError, match="must hold annotations"):
        list(read_coco(tmp_path))
    (tmp_path / "images").mkdir()
    for content, word in (([], "must be an object"), ({}, "'categories'"), ({"categories": [{}]}, "'id'")):
        write_json(tmp_path / "annotations.json", content)
        with pytest.raises(DataError, match=word):
            list(read_coco(tmp_path))


def test_panoptic_segments(tmp_path, photo, write_json):
    photo(tmp_path / "val2017" / "000000000001.jpg")
    numbers = np.zeros((10, 20), np.int32)
    numbers[:, :5], numbers[:, 5:9], numbers[:, 9:] = 70_000, 300, 7
    png = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2).astype(np.uint8)
    folder = tmp_path / "annotations" / "panoptic_val2017"
    folder.mkdir(parents=True)
    Image.fromarray(png).save(folder / "000000000001.png")
    segments = [
        {"id": 70_000, "category_id": 1},
        {"id": 300, "category_id": 1},
        {"id": 7, "category_id": 2},
    ]
    content = {
        "images": [{"id": 1, "file_name": "000000000001.jpg", "width": 20, "height": 10}],
        "annotations": [{"image_id": 1, "file_name": "000000000001.png", "segments_info": segments}],
        "categories": CATEGORIES,
    }
    file = write_json(tmp_path / "annotations" / "panoptic_val2017.json", content)
    wall, dogs = samples(read_coco_panoptic(tmp_path))
    assert dogs.heatmap[:, :9].all()
    assert not dogs.heatmap[:, 9:].any()
    assert (wall.heatmap == ~dogs.heatmap).all()
    content["annotations"][0]["segments_info"].append({"id": 8, "category_id": 2})
    content["annotations"].append({"image_id": 5, "file_name": "x.png", "segments_info": []})
    write_json(file, content)
    report = Report()
    assert [s.instructions[0] for s in samples(read_coco_panoptic(tmp_path), report)] == ["dog"]
    assert "segment 8 has no pixels" in report.problems[0].reason
    assert "unknown image" in report.problems[2].reason
    for size, reason in (((30, 10), "are 30x10, but the image 20x10"), ((200_000, 1000), "exceeds limit")):
        Image.new("1", size).save(folder / "000000000001.png")
        report = Report()
        assert not list(samples(read_coco_panoptic(tmp_path), report))
        assert reason in report.problems[0].reason


@pytest.mark.skipif("IVM_DATA" not in os.environ, reason="IVM_DATA does not name the packs")
def test_the_packs_convert_without_a_problem(tmp_path):
    root = Path(os.environ["IVM_DATA"]) / "coco"
    entries = [entry for _, entry in zip(range(20), read_coco(root), strict=False)]
    index = write_shards(entries, tmp_path / "store", strict=True)
    assert index.samples > 60
    first = (tmp_path / "store" / "shard-000000.tar").read_bytes()
    assert (root / "images" / "000000000009.jpg").read_bytes() in first  # photos stay as they are
