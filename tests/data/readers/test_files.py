from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from ivm.data.readers import entries
from ivm.data.readers.files import (
    below,
    boxes_mask,
    check_size,
    find_file,
    fingerprint,
    grey_pixels,
    load_image,
    mixed_photo_id,
    photo_id,
    polygons_mask,
    segmentation_mask,
    short_name,
)
from ivm.errors import DataError, OptionError


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "a\0b"])
def test_names_do_not_lead_out_of_their_folder(tmp_path, name):
    with pytest.raises(DataError, match="must lie in"):
        below(tmp_path, name)


@pytest.mark.parametrize("name", ["\ud83d.png", "a" * 300, "b/" + "é" * 130 + ".jpg"])
def test_names_that_no_file_can_have_are_told(tmp_path, name):
    with pytest.raises(DataError, match="no file has"):
        below(tmp_path, name)


def test_files_are_found_by_name_or_pattern(tmp_path):
    (tmp_path / "a_train.json").touch()
    assert find_file(tmp_path, ("x.json", "a_*.json"), "x").name == "a_train.json"
    with pytest.raises(DataError, match=r"must hold a table, but has none of: b\.json, c_\*"):
        find_file(tmp_path, ("b.json", "c_*"), "a table")
    (tmp_path / "a_val.json").touch()
    with pytest.raises(DataError, match="several files"):
        find_file(tmp_path, ("a_*.json",), "x")


def test_images_come_with_their_bytes_and_errors_with_their_name(tmp_path, photo):
    pixels = photo(tmp_path / "a" / "b.jpg")
    image, file = load_image(tmp_path / "a" / "b.jpg", tmp_path)
    assert (image == pixels).all()
    assert file == (tmp_path / "a" / "b.jpg").read_bytes()
    with pytest.raises(DataError, match=r"image a/c\.jpg is missing"):
        load_image(tmp_path / "a" / "c.jpg", tmp_path)
    (tmp_path / "bad.jpg").write_bytes(file[:200])
    with pytest.raises(DataError, match=r"image bad\.jpg is damaged"):
        load_image(tmp_path / "bad.jpg", tmp_path)


def test_the_same_photo_has_one_id_in_every_data_set():
    assert photo_id("coco", "COCO_train2014_000000000009.jpg") == "coco/000000000009"
    assert photo_id("ivm-mix/coco", "coco/train2017/000000000009.jpg") == "coco/000000000009"
    assert photo_id("gqa", "12.jpg") == photo_id("phrasecut", "12.jpg") == photo_id("ivm-mix/vg", "12.jpg")
    assert photo_id("mine", "12.jpg") == "mine/12"


def test_a_photo_of_a_mixture_is_known_by_its_data_set_or_by_all_its_folders():
    for name in ("gqa/images/24.jpg", "vg/VG_100K/24.jpg"):
        assert mixed_photo_id("llava", name) == "vg/24"
    assert mixed_photo_id("llava", "textvqa/train_images/0a.jpg") == photo_id("open-images", "0a.jpg")
    assert mixed_photo_id("llava", "coco/train2017/000000000009.jpg") == "coco/000000000009"
    assert mixed_photo_id("llava", "flickr30k/images/7.jpg") == photo_id("flickr30k", "7.jpg")
    for source in ("llava", "coco"):
        assert mixed_photo_id(source, "ocr_vqa/images/7.jpg") != mixed_photo_id(source, "web/images/7.jpg")
    assert mixed_photo_id("llava", "7.jpg") == "llava/7"


def test_short_names(tmp_path):
    assert short_name(tmp_path / "a" / "b", tmp_path) == "a/b"
    assert short_name(tmp_path / "b", tmp_path / "a") == "b"


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "I;16"])
def test_masks_in_any_grey_form(tmp_path, mode):
    values = np.zeros((4, 6), np.uint8)
    values[1:3, 2:5] = 255
    if mode == "I;16":
        Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "m.png")
    else:
        Image.fromarray(values).convert(mode).save(tmp_path / "m.png")
    read = grey_pixels(tmp_path / "m.png", tmp_path)
    assert ((read > 0) == (values > 0)).all()


def test_bad_masks_are_told(tmp_path):
    with pytest.raises(DataError, match="missing"):
        grey_pixels(tmp_path / "m.png", tmp_path)
    (tmp_path / "m.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="damaged"):
        grey_pixels(tmp_path / "m.png", tmp_path)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "m.tiff")
    with pytest.raises(DataError, match="must be grey"):
        grey_pixels(tmp_path / "m.tiff", tmp_path)
    with pytest.raises(DataError, match="must be 3x2 like its image, but is 3x3"):
        check_size(np.zeros((3, 3), bool), np.zeros((2, 3, 3), np.uint8), "the mask")


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_come_back_compressed_or_not(mask):
    height, width = mask.shape
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed = {"size": [height, width], "counts": encoded["counts"].decode()}
    assert (segmentation_mask(compressed, height, width) == mask).all()
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    plain = {"size": [height, width], "counts": np.diff([0, *edges, flat.size]).tolist()}
    assert (segmentation_mask(plain, height, width) == mask).all()


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, float("nan"), 5, 6]],
        [["a"] * 6],
        {"size": [3, 3], "counts": [9]},
        {"size": [4, 4], "counts": [3]},
        {"size": [4, 4], "counts": [-1, 17]},
        {"size": [4, 4], "counts": "o"},
        {"size": [4, 4], "counts": "zzzzzzzzzzzzz"},
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4]},
        {"size": [4, 4], "counts": [10**30]},
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [[0, 0, 10**400, 0, 1, 1]],
        7,
    ],
)
def test_malformed_segmentations_are_data_errors(segmentation):
    with pytest.raises(DataError):
        segmentation_mask(segmentation, 4, 4)


def test_polygons_and_boxes():
    assert segmentation_mask([[1, 1, 4, 1, 4, 3, 1, 3]], 6, 6).sum() == 6
    assert polygons_mask([[[1, 1], [3, 1], [3, 2], [1, 2]]], 6, 6).sum() == 6  # the outline belongs to it
    mask = boxes_mask([(1, 1, 3, 2.2), (-5, 4, 2, 99)], 6, 6)
    assert mask.sum() == 2 * 2 + 2 * 2
    for bad in ([[1, 2]], [[["a", "b"]]], [[[1, float("inf")]]], [[]]):
        with pytest.raises(DataError):
            polygons_mask(bad, 6, 6)
    for box in ((1, 1, 1, 2), (7, 0, 9, 2), (0, float("nan"), 1, 1), (0, 0, 1)):
        with pytest.raises(DataError):
            boxes_mask([box], 6, 6)


def test_a_source_is_a_folder_that_exists(tmp_path):
    with pytest.raises(DataError, match=r"must be the folder of the source, but does not exist"):
        entries("coco", tmp_path / "none")
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(DataError, match=r"but is a file"):
        entries("coco", tmp_path / "file.json")


def test_a_fingerprint_changes_with_what_is_read(tmp_path, photo):
    root = tmp_path / "mine"
    photo(root / "images" / "a.jpg")
    (root / "table.csv").write_text("image,instruction\na.jpg,x\n")
    first = fingerprint(root)
    assert first["files"] == 2
    for name in ("p.html", ".hidden.csv", "out/index.json", "store/shard-000000.tar", "store/report.jsonl"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("{}")
    assert fingerprint(root, root / "out") == first
    assert fingerprint(root) != first
    shutil.copytree(root, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy", tmp_path / "copy" / "out") == first
    seen = [first]
    for name, content in (("table.csv", "image,instruction\na.jpg,y\n"), ("b.png", "12"), ("b.png", "123")):
        (root / name).write_text(content)
        seen.append(fingerprint(root, root / "out"))
    (root / "b.png").rename(root / "c.png")
    seen.append(fingerprint(root, root / "out"))
    assert len({one["sha256"] for one in seen}) == len(seen)
    assert seen[0]["bytes"] == seen[1]["bytes"]  # a table counts by its content


def test_links_are_followed_and_never_round(tmp_path, photo):
    photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images").symlink_to(tmp_path / "photos")
    (tmp_path / "mine" / "again").symlink_to(tmp_path / "mine")
    (tmp_path / "mine" / "gone.json").symlink_to(tmp_path / "nowhere")
    assert fingerprint(tmp_path / "mine")["files"] == 2


def test_a_source_is_not_written_into_itself(tmp_path):
    """Nothing would count, and a change of the source would go unnoticed."""
    (tmp_path / "t.csv").write_text("image,instruction\n")
    with pytest.raises(OptionError, match="another folder than the source"):
        fingerprint(tmp_path, tmp_path)
    assert fingerprint(tmp_path, tmp_path / "store")["files"] == 1
