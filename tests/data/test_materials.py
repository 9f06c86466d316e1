from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from ivm.data.materials import read_materials
from ivm.errors import DataError


@pytest.fixture
def cutout_folder(tmp_path):
    """Thirty cut-outs: squares of several colours called apple, car or guitar."""
    folder = tmp_path / "cut"
    folder.mkdir()
    for k in range(30):
        pixels = np.zeros((30, 30, 4), np.uint8)
        pixels[3:27, 5:25] = (*((210, 30, 35), (30, 160, 60), (40, 70, 200))[k % 3], 255)
        Image.fromarray(pixels).save(folder / f"{('apple', 'car', 'guitar')[k % 3]}-{k}.png")
    names = {path.stem: path.stem.split("-")[0] for path in folder.glob("*.png")}
    (folder / "names.json").write_text(str(names).replace("'", '"'))
    return folder


def test_splits_do_not_share_a_file(pack_folder, cutout_folder):
    seen = []
    for split in ("train", "val", "test"):
        try:
            materials = read_materials([pack_folder], [cutout_folder], split)
        except DataError:
            continue  # a small folder may have nothing in "val"
        seen += [photo.image_id for photo in materials.photos]
        seen += [cutout.file_name for items in materials.cutouts.values() for cutout in items]
    assert len(seen) == len(set(seen))
    assert len(seen) > 60


def test_grounds_and_patches_come_in_size(pack_folder, cutout_folder):
    materials = read_materials([pack_folder], [cutout_folder], None)
    image, masks = materials.ground(materials.photos[0], 80)
    assert image.shape == (80, 120, 3)
    assert masks.shape == (3, 80, 120)
    assert set(np.unique(masks)) == {0, 1}
    assert materials.ground(materials.photos[0], 80)[0] is image  # kept
    assert materials.patch(materials.cutouts["car"][0]).shape == (24, 20, 4)


def test_a_thing_cut_from_a_photo_is_that_thing(tmp_path, write_pack):
    folder = write_pack(tmp_path / "big", [[("cup", (205, 35, 35), (20, 20, 80, 70))]], size=(100, 140))
    materials = read_materials([folder], [], None)  # photos alone are enough
    cut = materials.cuts["cup"][0]
    patch = materials.patch(cut)
    inside = patch[patch[:, :, 3] == 255][:, :3]
    assert (np.ptp(inside, axis=0) == 0).all()  # one colour: nothing of the ground came along


def test_memory_is_bounded_and_does_not_travel(pack_folder, cutout_folder):
    materials = read_materials([pack_folder], [cutout_folder], None)
    materials._grounds.limit = 300_000
    for photo in materials.photos:
        materials.ground(photo, 128)
    assert 0 < materials._grounds.used <= 300_000
    assert pickle.loads(pickle.dumps(materials))._grounds.used == 0


def test_nouns_that_are_looked_for(pack_folder, cutout_folder):
    materials = read_materials([pack_folder], [cutout_folder], None)
    assert {"cup", "dog", "zebra"} <= materials.vocabularies["shapes"]
    assert "guitar" in materials.unseen_unlabelled
    # Photos are full of cars that nobody labelled, whatever one calls them.
    assert not {"car", "automobile"} & materials.unseen_unlabelled
    assert materials.names() == tuple(sorted(materials.names()))


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"annotations\.json"):
        read_materials([tmp_path / "no"])


def test_two_folders_of_photos_of_one_name_are_refused(tmp_path, write_pack):
    """Pictures and what was looked for go by the folder's name: one would be taken for the other."""
    photo = [("cup", (205, 35, 35), (20, 20, 80, 60))]
    folders = [write_pack(tmp_path / home / "mine", [photo]) for home in ("one", "two")]
    with pytest.raises(DataError, match="different names, but two are called 'mine'"):
        read_materials(folders, [], None)
    assert len(read_materials([folders[0], folders[0]], [], None).photos) == 2


def test_things_without_an_id_are_not_taken_for_each_other(tmp_path, write_pack):
    things = [("cup", (205, 35, 35), (10, 20, 60, 80)), ("dog", (35, 35, 205), (80, 20, 130, 80))]
    folder = write_pack(tmp_path / "big", [things], size=(100, 140))
    content = json.loads((folder / "annotations.json").read_text())
    for annotation in content["annotations"]:
        del annotation["id"]
    (folder / "annotations.json").write_text(json.dumps(content))
    materials = read_materials([folder], [], None)
    for name, colour in (("cup", [205, 35, 35, 255]), ("dog", [35, 35, 205, 255])):
        assert materials.patch(materials.cuts[name][0])[20, 20].tolist() == colour
