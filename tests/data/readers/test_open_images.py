from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ivm.data.readers.open_images import read_open_images
from ivm.data.records import Report, samples
from ivm.errors import DataError

HEAD = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


@pytest.fixture
def root(tmp_path, photo):
    photo(tmp_path / "images" / "0a.jpg")
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/01,Dog\n/m/02,Office building\n")
    return tmp_path


def row(label, x0, x1, y0, y1, image="0a"):
    return f"{image},xclick,{label},1,{x0},{x1},{y0},{y1},0,0,0,0,0\n"


def test_boxes_of_a_class_are_one_target(root):
    text = HEAD + row("/m/01", 0, 0.1, 0, 0.2) + row("/m/02", 0, 1, 0, 1) + row("/m/01", 0.5, 0.6, 0.5, 1)
    (root / "train-annotations-bbox.csv").write_text(text)
    dog, building = samples(read_open_images(root))
    assert dog.instructions == ("dog",)
    assert dog.heatmap.sum() == 2 * 2 + 2 * 5
    assert building.heatmap.all()
    assert dog.image_id == "openimages/0a"
    assert dog.uuid == "open-images-0a-m_01"


def test_wrong_rows_leave_their_class_out(root):
    text = HEAD + row("/m/01", 0, 0.1, 0, 0.2) + row("/m/01", "x", 1, 0, 1) + row("/m/02", 0, 1, 0, 1)
    (root / "boxes.csv").write_text(text + row("/m/09", 0, 1, 0, 1) + row("/m/01", 0, 1, 0, 1, image="0b"))
    report = Report()
    assert [s.instructions[0] for s in samples(read_open_images(root, "boxes.csv"), report)] == [
        "office building"
    ]
    words = ("line 3", "has no name", "'dog' is left out", "0b.jpg is missing")
    assert all(word in str(p) for p, word in zip(report.problems, words, strict=True))


def test_masks_are_found_and_scaled(root):
    (root / "masks" / "A").mkdir(parents=True)
    mask = np.zeros((20, 40), np.uint8)
    mask[:10] = 255
    Image.fromarray(mask).convert("1").save(root / "masks" / "A" / "a1.png")
    head = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
    (root / "val-annotations-object-segmentation.csv").write_text(head + "a1.png,0a,/m/01,b,0,1,0,1,1,\n")
    (dog,) = samples(read_open_images(root))
    assert dog.heatmap[:5].all()
    assert not dog.heatmap[5:].any()
    Image.fromarray(mask[:, :20]).save(root / "masks" / "A" / "a1.png")
    report = Report()
    assert not list(samples(read_open_images(root), report))
    assert "is 20x20, but its image 20x10" in report.problems[0].reason


def test_tables_without_the_columns_are_refused(root):
    (root / "x-annotations-bbox.csv").write_text("ImageID,LabelName\n")
    with pytest.raises(DataError, match="must have the columns"):
        list(read_open_images(root))


def test_a_table_in_another_encoding_is_told(root):
    (root / "boxes.csv").write_text(HEAD + row("/m/01", 0, 0.1, 0, 0.2))
    names = root / "class-descriptions-boxable.csv"
    names.write_bytes("/m/01,Caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"class-descriptions-boxable\.csv is not CSV in UTF-8"):
        list(read_open_images(root, "boxes.csv"))
    names.write_text("/m/01,Dog\n")
    (root / "boxes.csv").write_bytes((HEAD + row("/m/01", 0, 0.1, 0, 0.2, "\u00e9")).encode("latin-1"))
    with pytest.raises(DataError, match=r"boxes\.csv is not CSV in UTF-8"):
        list(read_open_images(root, "boxes.csv"))
