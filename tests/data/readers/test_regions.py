from __future__ import annotations

import pytest

from ivm.data.readers.regions import read_flickr30k, read_visual_genome
from ivm.data.records import Report, samples
from ivm.errors import DataError


def region(number, phrase="a red cup", x=1, y=2, width=4, height=3, **more):
    return {"region_id": number, "image_id": 5, "phrase": phrase, "x": x, "y": y, "width": width,
            "height": height, **more}  # fmt: skip


def test_visual_genome_regions(tmp_path, photo, write_json):
    photo(tmp_path / "VG_100K_2" / "5.jpg")
    five = [region(1), region(2, x=50), region(3, phrase=""), region(4, x=None)]
    content = [
        {"id": 5, "regions": five},
        {"regions": [region(9)]},
        {"id": 6, "regions": [region(7)]},
        {"id": 8, "regions": []},
    ]
    write_json(tmp_path / "region_descriptions.json", content)
    report = Report()
    one, old = samples(read_visual_genome(tmp_path), report)
    assert one.instructions == ("a red cup",)
    assert one.heatmap.sum() == 12
    assert one.heatmap[2:5, 1:5].all()
    assert one.image_id == "vg/5"
    assert old.uuid == "vg-9"  # the older form has no "id" beside the regions
    words = (
        "region 2: a box must lie",
        "region 3",
        "region 4: a record must have 'x'",
        "must hold the photo",
    )
    assert all(word in p.reason for p, word in zip(report.problems, words, strict=True))
    write_json(tmp_path / "region_descriptions.json", {})
    with pytest.raises(DataError, match="must hold a list"):
        list(read_visual_genome(tmp_path))


XML = """<annotation><size><width>20</width><height>10</height><depth>3</depth></size>
<object><name>11</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>2</ymax></bndbox></object>
<object><name>11</name><name>12</name>
<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>20</xmax><ymax>10</ymax></bndbox></object>
<object><name>13</name><scene>1</scene><nobndbox>0</nobndbox></object></annotation>"""


@pytest.fixture
def flickr(tmp_path, photo):
    photo(tmp_path / "flickr30k-images" / "77.jpg")
    for folder in ("Sentences", "Annotations"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Sentences" / "77.txt").write_text(
        "[/EN#11/people Two men] watch [/EN#12/animals/other a dog] in [/EN#13/scene a park] .\n"
        "[/EN#0/notvisual It] is [/EN#11/people the men] .\n"
    )
    (tmp_path / "Annotations" / "77.xml").write_text(XML)
    return tmp_path


def test_flickr_chains(flickr):
    men, dog = samples(read_flickr30k(flickr))
    assert men.instructions == ("Two men", "the men")
    assert men.heatmap.sum() == 4 * 2 + 11 * 6  # counted from 1, right and bottom inclusive
    assert men.heatmap[0, 0]
    assert men.heatmap[9, 19]
    assert dog.instructions == ("a dog",)
    assert dog.provenance["type"] == "animals"
    (flickr / "val.txt").write_text("77\n")
    assert len(list(samples(read_flickr30k(flickr, split="val")))) == 2


@pytest.mark.parametrize(
    ("xml", "word"),
    [
        (XML[:60], "malformed"),
        (XML.replace(">20<", ">x<"), "malformed"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + XML, "must not define entities"),
        (XML.replace("<xmax>4<", "<xmax>0<"), "a box must lie"),
    ],
)
def test_wrong_boxes_are_told(flickr, xml, word):
    (flickr / "Annotations" / "77.xml").write_text(xml)
    report = Report()
    list(samples(read_flickr30k(flickr), report))
    assert word in str(report.problems[0])
    assert "77" in report.problems[0].file
