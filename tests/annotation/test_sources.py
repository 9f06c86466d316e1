from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from ivm.annotation.sources import open_source
from ivm.data.records import Entry, Record, samples
from ivm.data.shards import write_shards
from ivm.data.stream import ShardSet
from ivm.errors import DataError, InputError, OptionError
from ivm.types import Sample


def test_a_folder_of_pictures_is_asked_every_instruction(pictures):
    source = open_source(pictures, ["red", "blue", "red"])
    found = list(samples(source.entries))
    assert source.count == 3
    assert [sample.provenance["image"] for sample in found] == ["a.png", "b.png", "more/c.png"]
    assert all(sample.instructions == ("red", "blue") and sample.heatmap is None for sample in found)
    assert not any(sample.human for sample in found)
    assert len({sample.uuid for sample in found}) == 3


def test_long_names_of_any_script_are_stored(pictures, tmp_path):
    for sign in "照片":
        shutil.copy(pictures / "b.png", pictures / f"{sign * 25}.png")
    shutil.copy(
        pictures / "b.png", os.fsencode(pictures) + b"/\xff.png"
    )  # no text, which a store cannot tell
    index = write_shards(open_source(pictures, ["red", "blue"]).entries, tmp_path / "store")
    assert (index.samples, index.skipped) == (5, 1)
    images = {sample.provenance["image"] for sample in ShardSet(tmp_path / "store")}
    assert {"a.png", "照" * 25 + ".png", "片" * 25 + ".png"} < images


def test_a_table_is_read(pictures):
    (pictures / "all.csv").write_text(
        "image,instruction\na.png,the red one\nmore/c.png,green|the green one\n"
    )
    source = open_source(pictures)
    assert source.count is None
    assert [sample.instructions for sample in samples(source.entries)] == [
        ("the red one",), ("green", "the green one"),
    ]  # fmt: skip


def test_a_data_set_is_read_by_its_reader(pictures):
    (pictures / "q.csv").write_text("image,instruction\nb.png,red\n")
    (pictures / "other.csv").write_text("image,instruction\na.png,red\n")
    source = open_source(pictures, reader="csv", options={"table": "q.csv"})
    assert [sample.provenance["image"] for sample in samples(source.entries)] == ["b.png"]
    assert source.recipe["options"] == {"table": "q.csv"}


def test_a_store_keeps_its_files(pictures, tmp_path):
    file = (pictures / "a.png").read_bytes()
    image = next(samples(open_source(pictures, ["x"]).entries)).image
    given = [Sample(f"s{n}", image, ("red",), np.eye(96, 128) > 0 if n else None, "mine") for n in range(3)]
    entries = [Entry("x", n, lambda s=s: [Record(s, file)]) for n, s in enumerate(given)]
    write_shards(entries, tmp_path / "store", samples_per_shard=2)
    source = open_source(tmp_path / "store")
    listed = list(source.entries)
    assert source.count == 3
    assert [entry.place for entry in listed] == ["s0", "s1", "s2"]
    (first,), (second,) = (list(entry.load()) for entry in listed[:2])
    assert first.file == file
    assert first.sample.heatmap is None
    assert second.sample.heatmap.sum() == 96


def test_what_cannot_be_a_source_is_told(pictures, tmp_path):
    with pytest.raises(OptionError, match="give --instruction for a folder of pictures"):
        open_source(pictures)
    with pytest.raises(OptionError, match="not both"):
        open_source(pictures, ["red"], reader="csv")
    with pytest.raises(OptionError, match="--set needs --reader"):
        open_source(pictures, ["red"], options={"a": "b"})
    with pytest.raises(DataError, match="must be a folder"):
        open_source(pictures / "a.png", ["red"])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="but has none"):
        open_source(tmp_path / "none", ["red"])
    write_shards([], tmp_path / "store")
    with pytest.raises(OptionError, match="is a store"):
        open_source(tmp_path / "store", ["red"])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "shard-000000.tar").touch()
    with pytest.raises(DataError, match="did not finish"):
        open_source(tmp_path / "begun")


def test_the_recipe_changes_with_the_files_and_not_with_the_place(pictures, tmp_path):
    (pictures / "q.csv").write_text("image,instruction\nb.png,red\n")
    shutil.copytree(pictures, tmp_path / "elsewhere" / "pictures")

    def recipes(folder):
        output = folder / "out"
        output.mkdir(exist_ok=True)
        (output / "answers.jsonl").write_text(str(folder))
        (output / "d.png").write_text("a picture that a run wrote")
        ways = ({}, {"reader": "csv"}, {"instructions": ["red"]})
        return [open_source(folder, **way, output=output).recipe for way in ways]

    first = recipes(pictures)
    assert first[:2] == recipes(tmp_path / "elsewhere" / "pictures")[:2]
    (pictures / "q.csv").write_text("image,instruction\na.png,red\n")
    second = recipes(pictures)
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, False, True]
    (pictures / "more" / "c.png").unlink()
    assert not any(a == b for a, b in zip(second, recipes(pictures), strict=True))
