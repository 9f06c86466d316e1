import re

import numpy as np
import pytest

from ivm.data.packs import read_pack
from ivm.errors import OptionError
from ivm.training.photos import PhotoQuestions


@pytest.fixture
def pictures(pack_folder):
    return PhotoQuestions([(read_pack(pack_folder), 1.0)], size=64, questions=3, seed=5)


def test_a_picture_is_decided_by_seed_and_index(pictures, pack_folder):
    again = PhotoQuestions([(read_pack(pack_folder), 1.0)], size=64, questions=3, seed=5)
    again[3]  # what was asked before must not matter
    a, b = pictures[17], again[17]
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.targets, b.targets)
    assert a.texts == b.texts
    other = PhotoQuestions([(read_pack(pack_folder), 1.0)], size=64, questions=3, seed=6)[17]
    assert not np.array_equal(a.image, other.image)


def test_targets_lie_on_what_the_text_names(pictures):
    green = []
    for index in range(200):
        picture = pictures[index]
        assert picture.image.shape == (64, 64, 3)
        assert picture.targets.shape == (3, 16, 16)
        assert picture.targets.dtype == np.float32
        for text, target, found in zip(picture.texts, picture.targets, picture.found, strict=True):
            assert found == bool(target.any())
            inside = picture.image[::4, ::4][target > 0.9].astype(int)
            if "dog" in text.lower() and "cup" not in text.lower() and len(inside):
                green.append((inside[:, 1] > inside[:, 0]).mean() > 0.9)  # the dog is green
    assert len(green) > 30
    assert np.mean(green) > 0.95  # a typing error may hide a cup that is asked for too


def test_instructions_come_in_many_kinds_and_fill_every_picture(pictures):
    texts = [text for index in range(80) for text in pictures[index].texts]
    assert len(texts) == 240
    assert len(set(texts)) > 120
    found = [flag for index in range(80) for flag in pictures[index].found]
    assert 0.05 < 1 - np.mean(found) < 0.4


def test_mirrored_crops_keep_left_true(pack_folder):
    """Half of the crops are mirrored: left and right are said of the picture as it is seen."""
    data = PhotoQuestions([(read_pack(pack_folder), 1.0)], size=64, questions=16, seed=1)
    middle = {"left": {}, "right": {}}
    for index in range(150):
        picture = data[index]
        for text, target in zip(picture.texts, picture.targets, strict=True):
            said = re.search(
                r"cup (?:on the far|furthest to the) (left|right)$|(left|right)most cup$", text.strip(".!")
            )
            if said and target.any():
                place = (target.sum(axis=0) @ np.arange(16)) / target.sum()
                middle[said[1] or said[2]][index] = place
    both = middle["left"].keys() & middle["right"].keys()
    assert len(both) > 3
    assert all(middle["left"][index] < middle["right"][index] for index in both)


def test_what_was_not_looked_for_in_a_photo_is_not_asked_for(mixed_pack):
    """All ten photos show the wall; five of them do not say so."""
    data = PhotoQuestions([(read_pack(mixed_pack), 1.0)], split="train", size=64, questions=8)
    (photos,) = data.photos
    asked = {}
    for scenery in (True, False):
        data.photos = [[photo for photo in photos if (not photo.unsought) == scenery]]
        texts = [text.lower() for index in range(40) for text in data[index].texts]
        sought = [picture.named.looked_for for picture in (data[index] for index in range(5))]
        assert all(("brick wall" in nouns) == scenery for nouns in sought)
        asked[scenery] = sum(bool(re.search(r"\bwall\b", text)) for text in texts)
    assert asked[True] > 20
    assert asked[False] == 0


def test_wrong_options_are_refused(pack_folder):
    pack = read_pack(pack_folder)
    with pytest.raises(OptionError, match="multiple of 16"):
        PhotoQuestions([(pack, 1.0)], size=30)
    with pytest.raises(OptionError, match="photos in the split"):
        PhotoQuestions([(pack, 1.0)], split="nothing")
