from __future__ import annotations

import json

import pytest

from ivm.data.readers.polygons import read_phrasecut, read_reasonseg
from ivm.data.records import Report, samples
from ivm.errors import DataError


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def test_phrases_with_all_their_regions(tmp_path, photo, write_json):
    photo(tmp_path / "images" / "5.jpg")
    task = {
        "task_id": "5__1",
        "image_id": 5,
        "ann_ids": [1, 2],
        "instance_boxes": [[0, 0, 3, 3], [10, 0, 3, 3]],
        "Polygons": [[square(0, 0, 2)], [square(10, 0, 2)]],
        "phrase": "wipers on trains",
        "phrase_structure": {"name": "wipers", "type": "relation"},
    }
    bad = [
        {**task, "task_id": "b", "Polygons": []},
        {**task, "task_id": "c", "image_id": 6},
        7,
        {**task, "Polygons": [5]},
    ]
    write_json(tmp_path / "refer_miniv.json", [task, *bad])
    report = Report()
    (sample,) = samples(read_phrasecut(tmp_path), report)
    assert sample.heatmap.sum() == 18
    assert sample.kind == "phrase, relation"
    assert sample.targets == ("wipers",)
    assert sample.image_id == "vg/5"
    assert [p.place for p in report.problems] == ["task b", "task c", "item 3", "task 5__1"]


def shapes(*given):
    return [{"label": label, "labels": [label], "shape_type": "polygon", "points": p} for label, p in given]


def test_reasoning_with_ignored_and_left_over_shapes(tmp_path, photo):
    folder = tmp_path / "train"
    photo(folder / "a.jpg")
    content = {
        "text": ["what keeps the rain off?", "the umbrella"],
        "is_sentence": True,
        "shapes": shapes(
            ("target", square(0, 0, 7)), ("ignore", square(2, 2, 1)), ("flag", square(15, 5, 2))
        ),
    }
    (folder / "a.json").write_text(json.dumps(content))
    photo(folder / "b.jpg")
    latin = json.dumps({**content, "text": "caf\u00e9"}, ensure_ascii=False).encode("cp1252")
    (folder / "b.json").write_bytes(latin)
    one, two = samples(read_reasonseg(tmp_path, split="train"))
    assert one.heatmap.sum() == 64 - 4
    assert one.provenance["ignored"] == 4 / 200
    assert one.kind == "reasoning"
    assert one.instructions == ("what keeps the rain off?", "the umbrella")
    assert two.instructions == ("café",)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"text": [], "shapes": []}', '{"text": ["x"], "shapes": [{}]}']
)
def test_wrong_files_are_told(tmp_path, photo, content):
    photo(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(content)
    report = Report()
    assert not list(samples(read_reasonseg(tmp_path), report))
    assert report.problems[0].file == "a.json"


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="name the split"):
        list(read_reasonseg(tmp_path))
