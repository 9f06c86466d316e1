import base64

import numpy as np
import pytest

from ivm.errors import ImageError, OptionError
from ivm.lmm import image_url
from ivm.server.pictures import Darkroom, decode_picture, facts


@pytest.fixture
def content(picture_bytes):
    return picture_bytes


@pytest.fixture
def picture_bytes():
    image = np.full((120, 160, 3), 128, np.uint8)
    image[30:90, 20:70] = (220, 30, 30)
    return base64.b64decode(image_url(image).partition(",")[2])


def test_a_picture_is_encoded_once_and_the_oldest_is_forgotten(content, colour_masker):
    room = Darkroom(colour_masker, remembered=1)
    for text in ("red", "blue", "the red one"):
        room.look(content, text, "overlay", {})
    assert len(colour_masker.backend.encoded) == 1
    room.look(content + b"\0", "red", "overlay", {})  # other bytes: another picture
    room.look(content, "red", "overlay", {})
    assert len(colour_masker.backend.encoded) == 3


def test_facts_are_about_the_original_picture(content, colour_masker):
    heatmap, rendered = Darkroom(colour_masker).look(content, "red", "overlay+crop", {"threshold": 0.6})
    told = facts(heatmap, rendered, 0.6)
    assert told["found"] is True
    assert abs(told["box"][0] - 20) < 6
    assert abs(told["box"][3] - 90) < 6
    assert told["transform"]["original_size"] == (160, 120)
    assert told["transform"]["size"] == rendered.image.shape[1::-1]
    x, y = told["point"]
    assert 20 <= x < 70
    assert 30 <= y < 90


def test_unknown_options_are_named(content, colour_masker):
    with pytest.raises(OptionError, match="but got sigma"):
        Darkroom(colour_masker).look(content, "red", "overlay", {"sigma": 3})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/a.jpg", "fetches nothing"),
        ("/etc/passwd", "must be a data URL"),
        ("data:image/png,plain", "must be a data URL"),
        ("data:image/png;base64,@@@", "damaged"),
    ],
)
def test_only_data_urls_are_taken(url, words):
    with pytest.raises(ImageError, match=words):
        decode_picture(url)
