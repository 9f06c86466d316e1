from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ivm.data.readers import READERS, entries, reader
from ivm.data.readers.folder import read_csv
from ivm.data.records import Report, samples
from ivm.errors import DataError, OptionError


@pytest.fixture
def root(tmp_path, photo):
    home = tmp_path / "mine"
    photo(home / "a.jpg")
    photo(home / "sub" / "b.jpg")
    mask = np.zeros((10, 20), np.uint8)
    mask[2:4, 5:9] = 1
    Image.fromarray(mask).save(home / "m.png")
    Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20)).save(home / "h.png")
    return home


def write(root, text):
    (root / "table.csv").write_text(text, encoding="utf-8")


def test_rows_become_samples(root):
    write(
        root,
        "\ufeffimage, instruction,mask,human,uuid,kind\n"
        'a.jpg,"the red cup, please",m.png,,,colour\n'
        "sub/b.jpg,one|two,h.png,no,b-1,\n"
        "a.jpg,what time is it?,,,,\n",
    )
    one, two, three = samples(read_csv(root))
    assert one.instructions == ("the red cup, please",)
    assert (one.uuid, one.source, one.kind, one.human) == ("mine-2", "mine", "colour", True)
    assert one.heatmap.dtype == bool
    assert one.heatmap.sum() == 8
    assert two.instructions == ("one", "two")
    assert not two.human
    assert two.heatmap.dtype == np.float32
    assert np.isclose(two.heatmap.max(), 199 / 255)
    assert three.heatmap is None
    assert one.image_id == three.image_id == "mine/a"


def test_wrong_rows_are_told_with_their_line(root):
    rows = "a.jpg,,,|none.jpg,x,,|/etc/x.jpg,x,,|a.jpg,x,n.png,|a.jpg,x|a.jpg,x,,perhaps|a.jpg,x,m.png,yes"
    write(root, "image,instruction,mask,human\n" + rows.replace("|", "\n"))
    report = Report()
    assert len(list(samples(read_csv(root), report))) == 1
    assert [p.place for p in report.problems] == [2, 3, 4, 5, 6, 7]
    words = ("must have an instruction", "missing", "must lie in", "missing", "as many cells", "yes or no")
    assert all(word in p.reason for p, word in zip(report.problems, words, strict=True))


@pytest.mark.parametrize("header", ["", "image\n", "image,instruction,colour\n", "image;instruction\n"])
def test_tables_without_the_columns_are_refused(root, header):
    write(root, header)
    with pytest.raises(DataError, match="must have the columns image and instruction"):
        list(read_csv(root))


def test_readers_are_chosen_by_name(root):
    assert all(callable(reader(name)) for name in READERS)
    with pytest.raises(OptionError, match="did you mean 'coco'"):
        reader("cocoo")
    write(root, "image,instruction\na.jpg,x\n")
    assert len(list(entries("csv", root, {"table": "table.csv"}))) == 1
    with pytest.raises(OptionError, match="'csv' takes table, but got 'tabel'"):
        entries("csv", root, {"tabel": "x"})


def test_pictures_without_a_suffix_have_ids_of_their_own(root, photo):
    for name in ("abc", "d.v1/abc", "a.1.jpg"):
        photo(root / "made.png").tofile(root / "unused")
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes((root / "made.png").read_bytes())
    write(root, "image,instruction\nabc,x\nd.v1/abc,x\na.1.jpg,x\nsub/b.jpg,x\n")
    found = [sample.image_id for sample in samples(read_csv(root))]
    assert found == ["mine/abc", "mine/d.v1-abc", "mine/a.1", "mine/sub-b"]
