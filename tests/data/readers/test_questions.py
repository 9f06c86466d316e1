from __future__ import annotations

import json

import pytest

from ivm.data.readers.questions import read_gqa, read_llava, read_textvqa, read_vsr
from ivm.data.records import Report, samples
from ivm.errors import DataError


def test_textvqa(tmp_path, photo, write_json):
    photo(tmp_path / "train_images" / "0a.jpg")
    data = [{"question_id": 3, "image_id": "0a", "question": "what does it say?", "answers": ["no"]}, {}]
    write_json(tmp_path / "TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": data})
    report = Report()
    (sample,) = samples(read_textvqa(tmp_path), report)
    assert sample.heatmap is None
    assert sample.instructions == ("what does it say?",)
    assert sample.image_id == "openimages/0a"
    assert report.problems[0].place == "question 1"


def test_gqa(tmp_path, photo, write_json):
    photo(tmp_path / "images" / "24.jpg")
    good = {"imageId": "24", "question": "Is it red?", "answer": "yes"}
    write_json(tmp_path / "val_balanced_questions.json", {"07": good, "08": {"imageId": "24"}})
    report = Report()
    (sample,) = samples(read_gqa(tmp_path), report)
    assert (sample.uuid, sample.image_id) == ("gqa-07", "vg/24")
    assert "must have 'question'" in report.problems[0].reason


def test_vsr(tmp_path, photo):
    photo(tmp_path / "images" / "000000050403.jpg")
    line = {
        "image": "000000050403.jpg",
        "caption": "The cat is under the bed.",
        "label": 0,
        "relation": "under",
    }
    (tmp_path / "dev.jsonl").write_text(json.dumps(line) + "\n{\n")
    report = Report()
    (sample,) = samples(read_vsr(tmp_path), report)
    assert sample.provenance["label"] == 0
    assert sample.image_id == "coco/000000050403"
    assert report.problems[0].place == 2


def turns(*texts):
    return [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_conversations(tmp_path, photo, suffix):
    photo(tmp_path / "coco" / "train2017" / "000000033471.jpg")
    image = "coco/train2017/000000033471.jpg"
    items = [
        {
            "id": "a",
            "image": image,
            "conversations": turns("<image>\nWhat colour?", "Red.", "And now?", "Blue."),
        },
        {"id": "b", "conversations": turns("Hello", "Hi")},
        {"id": "a", "image": image, "conversations": turns("Where?\n<image>")},
        {"id": "c", "image": image, "conversations": turns("<image>", "x")},
        {"id": "d", "image": "x.jpg", "conversations": turns("y")},
    ]
    text = json.dumps(items) if suffix == "json" else "\n".join(map(json.dumps, items))
    (tmp_path / f"chat.{suffix}").write_text(text)
    report = Report()
    one, two = samples(read_llava(tmp_path), report)
    assert one.instructions == ("What colour?", "And now?")
    assert one.uuid != two.uuid  # published ids repeat
    assert two.instructions == ("Where?",)
    assert len(report.problems) == 2


@pytest.mark.parametrize(
    ("read", "name"),
    [(read_textvqa, "TextVQA_0.5.1_val.json"), (read_gqa, "questions.json"), (read_llava, "x.json")],
)
def test_files_of_another_form_are_told(tmp_path, write_json, read, name):
    (tmp_path / "images").mkdir()
    write_json(tmp_path / name, "text")
    with pytest.raises(DataError, match="must"):
        list(read(tmp_path))
