from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ivm.data.cutouts import plain_ground_alpha, read_cutouts, spoken_name
from ivm.errors import DataError


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("banana", "banana"),
        ("closed mailbox with raised flag", "mailbox"),
        ("dog face", "dog"),
        ("face with tears of joy", "smiley"),
        ("cat face with wry smile", "smiley cat"),
        ("large red circle", "ball"),
        ("blue heart", "heart"),
        ("Arla Medium Fat Milk", "milk carton"),
        ("red_bell_pepper", "bell pepper"),
        ("clock face one oclock", None),
        ("no entry sign", None),
        ("peace symbol", None),
        ("leftwards black arrow", None),
        ("waving white flag", None),
        ("negative squared latin capital letter a", None),
        ("thumbs up sign", None),
        ("waving hand sign type-3", None),
        ("aries", None),
        ("sunrise", None),
    ],
)
def test_names_as_people_say_them(raw, name):
    assert spoken_name(raw) == name


def write(folder, name, alpha=True, size=(40, 30)):
    pixels = np.full((*size, 4), 255, np.uint8)
    pixels[8:-8, 6:-6] = (200, 30, 35, 255)
    if alpha:
        pixels[:8, :, 3] = pixels[-8:, :, 3] = 0
        pixels[:, :6, 3] = pixels[:, -6:, 3] = 0
    Image.fromarray(pixels if alpha else pixels[:, :, :3]).save(folder / name)


def test_reads_names_splits_and_pixels(tmp_path):
    for k in range(40):
        write(tmp_path, f"a{k:02}.png")
    write(tmp_path, "bad.png")
    names = {f"a{k:02}": "red apple" for k in range(40)} | {"bad": "peace symbol"}
    (tmp_path / "names.json").write_text(json.dumps(names))
    everything = read_cutouts(tmp_path)
    assert [cutout.file_name for cutout in everything] == [f"a{k:02}.png" for k in range(40)]
    assert {cutout.name for cutout in everything} == {"apple"}
    parts = [
        cutout.file_name
        for split in ("train", "val", "test")
        for cutout in everything
        if cutout.split == split
    ]
    assert sorted(parts) == [cutout.file_name for cutout in everything]  # every file in exactly one split
    train = read_cutouts(tmp_path, "train")
    assert {cutout.split for cutout in train} == {"train"}
    rgba = everything[0].rgba()
    assert rgba.shape == (24, 18, 4)  # cropped to what is opaque
    assert rgba.min(axis=(0, 1)).tolist() == [200, 30, 35, 255]
    assert max(everything[0].rgba(12).shape) == 12


def test_plain_ground_is_removed(tmp_path):
    write(tmp_path, "plum.png", alpha=False)
    rgba = read_cutouts(tmp_path)[0].rgba()
    assert abs(rgba.shape[0] - 24) <= 2
    assert (rgba[6:-6, 6:-6, 3] == 255).all()


def test_a_hole_in_the_thing_stays_where_it_does_not_reach_the_border():
    rgb = np.full((60, 60, 3), 250, np.uint8)
    rgb[10:50, 10:50] = (20, 90, 30)
    rgb[25:35, 25:35] = 250  # a white label
    alpha = plain_ground_alpha(rgb)
    assert alpha[30, 30] == 255
    assert alpha[2, 2] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1, 2]", "must map"), ("{", "is not JSON"), ('{"a": 3}', "must map")],
)
def test_a_wrong_names_file_is_told(tmp_path, content, message):
    write(tmp_path, "a.png")
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_cutouts(tmp_path)


def test_missing_folder_empty_folder_and_damaged_file_are_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_cutouts(tmp_path / "no")
    with pytest.raises(DataError, match="no usable cut-out"):
        read_cutouts(tmp_path)
    (tmp_path / "pear.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"pear\.png"):
        read_cutouts(tmp_path)[0].rgba()
    Image.new("RGBA", (20, 20)).save(tmp_path / "plum.png")
    with pytest.raises(DataError, match="no opaque part"):
        read_cutouts(tmp_path)[1].rgba()
