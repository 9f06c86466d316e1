import numpy as np
import pytest

from ivm.data.cutouts import Cutout
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
    seen = 0
    for index in range(60):
        picture = pictures[index]
        assert picture.image.shape == (64, 64, 3)
        assert picture.targets.shape == (3, 16, 16)
        assert picture.targets.dtype == np.float32
        for text, target, found in zip(picture.texts, picture.targets, picture.found, strict=True):
            assert found == bool(target.any())
            if "dog" in text.lower() and found:
                inside = picture.image[::4, ::4][:, :16][target > 0.9].astype(int)
                if len(inside):
                    assert (inside[:, 1] > inside[:, 0]).mean() > 0.9, text  # the dog is green
                    seen += 1
    assert seen > 10


def test_pasted_objects_can_be_asked_for(pack_folder, tmp_path):
    from PIL import Image

    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[4:28, 4:28] = (255, 0, 255, 255)
    Image.fromarray(pixels).save(tmp_path / "kite.webp", lossless=True)
    data = PhotoQuestions(
        [(read_pack(pack_folder), 1.0)],
        size=64,
        cutouts=[Cutout("made", "kite.webp", tmp_path / "kite.webp", "kite")],
        paste=1.0,
    )
    texts = [text for index in range(20) for text in data[index].texts]
    assert any("kite" in text.lower() for text in texts)


def test_wrong_options_are_refused(pack_folder):
    pack = read_pack(pack_folder)
    with pytest.raises(OptionError, match="multiple of 4"):
        PhotoQuestions([(pack, 1.0)], size=30)
    with pytest.raises(OptionError, match="photos in the split"):
        PhotoQuestions([(pack, 1.0)], split="nothing")
