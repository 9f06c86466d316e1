import json

import numpy as np
import pytest
from PIL import Image

from ivm.data.packs import clean_name, data_folder, read_pack, split_of
from ivm.errors import DataError


def test_reads_photos_names_and_masks(pack_folder):
    pack = read_pack(pack_folder)
    assert pack.name == "shapes"
    assert pack.names == ("cup", "dog", "zebra")
    photo = pack.photos[0]
    assert [region.name for region in photo.regions] == ["cup", "cup", "dog"]
    assert all(region.instance for region in photo.regions)
    image, mask = photo.image(), photo.regions[0].mask()
    assert image.shape == (64, 96, 3)
    assert mask.shape == (64, 96)
    assert mask.dtype == bool
    assert (image[mask] == (205, 35, 35)).all()
    assert photo.image_id == "shapes/0001.png"


def test_one_region_a_class_is_no_instance(tmp_path, write_pack):
    folder = write_pack(tmp_path / "classes", [[("dog", (9, 9, 9), (0, 0, 20, 20))]])
    assert not read_pack(folder).photos[0].regions[0].instance


def test_scenery_is_unsought_where_only_things_are_annotated(mixed_pack, pack_folder):
    pack = read_pack(mixed_pack)
    assert "brick wall" in pack.names
    assert [photo.unsought for photo in pack.photos] == [()] * 5 + [("brick wall",)] * 5
    assert not any(photo.unsought for photo in read_pack(pack_folder).photos)  # no scenery anywhere


def test_polygons_are_read(tmp_path, write_pack):
    folder = write_pack(tmp_path / "polygons", [[("dog", (9, 9, 9), (0, 0, 20, 20))]])
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["segmentation"] = [[0, 0, 30, 0, 30, 20, 0, 20]]
    file.write_text(json.dumps(content))
    assert read_pack(folder).photos[0].regions[0].mask().sum() == pytest.approx(600, rel=0.05)


def test_splits_are_fixed_disjoint_and_near_their_shares(pack_folder):
    pack = read_pack(pack_folder)
    parts = {split: {photo.file_name for photo in pack.split(split)} for split in ("train", "val", "test")}
    assert set().union(*parts.values()) == {photo.file_name for photo in pack.photos}
    assert sum(map(len, parts.values())) == len(pack.photos)
    counted = [split_of("any", f"{i}.jpg") for i in range(4000)]
    assert 0.12 < counted.count("test") / 4000 < 0.18
    assert split_of("voc", "2007_000175.jpg") == split_of("voc", "2007_000175.jpg")


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [("sky-other-merged", "sky"), ("wall-brick", "brick wall"), ("t-shirt", "t-shirt"), ("Dog ", "dog")],
)
def test_names_are_what_people_say(raw, spoken):
    assert clean_name(raw) == spoken


def test_errors_name_the_file_and_the_annotation(tmp_path, write_pack):
    with pytest.raises(DataError, match=r"annotations\.json"):
        read_pack(tmp_path / "nothing")
    folder = write_pack(tmp_path / "broken", [[("dog", (9, 9, 9), (0, 0, 20, 20))]])
    file = folder / "annotations.json"
    good = json.loads(file.read_text())
    for change, message in (
        ({"category_id": 99}, "annotation 1 is malformed"),
        ({"segmentation": {"size": [3, 3], "counts": "91"}}, "annotation 1 has a mask of"),
    ):
        bad = json.loads(json.dumps(good))
        bad["annotations"][0].update(change)
        file.write_text(json.dumps(bad))
        with pytest.raises(DataError, match=message):
            read_pack(folder)
    file.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_pack(folder)


def test_a_missing_or_resized_photo_is_an_error_not_another_photo(pack_folder):
    photo = read_pack(pack_folder).photos[0]
    Image.new("RGB", (10, 10)).save(photo.path)
    with pytest.raises(DataError, match="says 96x64, but the file is 10x10"):
        photo.image()
    photo.path.unlink()
    with pytest.raises(DataError, match=r"0001\.png"):
        photo.image()


@pytest.mark.skipif(data_folder() is None, reason="the packs of IVM_DATA are not here")
def test_the_real_packs_read():
    root = data_folder()
    packs = (("voc", 3178, 19, 0), ("coco", 251, 130, 157), ("clothing", 854, 58, 0))
    for name, photos, names, without_scenery in packs:
        pack = read_pack(root / name)
        assert len(pack.photos) == photos
        assert abs(len(pack.names) - names) <= 1  # two raw names may be spoken alike
        assert sum(bool(photo.unsought) for photo in pack.photos) == without_scenery
        photo = next(iter(pack.split("test")))
        assert np.stack([region.mask() for region in photo.regions]).shape[1:] == photo.image().shape[:2]


def test_a_mask_whose_runs_fall_short_is_an_error_not_what_the_memory_held(tmp_path, write_pack):
    folder = write_pack(tmp_path / "short", [[("dog", (9, 9, 9), (0, 0, 20, 20))]])
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    size = [content["images"][0]["height"], content["images"][0]["width"]]
    for counts in ([3, 5], "35"):
        content["annotations"][0]["segmentation"] = {"size": size, "counts": counts}
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match="must add up to its pixels"):
            read_pack(folder).photos[0].regions[0].mask()


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("images", {"file_name": "../../secret.png"}, "must lie in images"),
        ("images", {"file_name": None}, "must have 'file_name'"),
        ("images", {"file_name": "a\ud83d.png"}, "no valid text"),
        ("annotations", 7, "annotation 7 is malformed"),
    ],
)
def test_wrong_records_of_a_pack_are_told(tmp_path, write_pack, part, change, words):
    folder = write_pack(tmp_path / "wrong", [[("dog", (9, 9, 9), (0, 0, 20, 20))]])
    file = folder / "annotations.json"
    content = json.loads(file.read_text())
    content[part][0] = change if isinstance(change, int) else content[part][0] | change
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        read_pack(folder)
