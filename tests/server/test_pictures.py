import base64
import time
from concurrent.futures import ThreadPoolExecutor

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


def test_the_memory_is_bounded_in_bytes(content, colour_masker):
    others = [content + bytes([n]) for n in range(3)]
    held = 120 * 160 * 3 + 256 * 256 * 3  # a picture and its features
    room = Darkroom(colour_masker, memory=2 * held)
    for one in (*others, others[1], others[2]):
        room.look(one, "red", "overlay", {})
    assert len(colour_masker.backend.encoded) == 3  # the last two are remembered
    room.look(others[0], "red", "overlay", {})
    assert len(colour_masker.backend.encoded) == 4
    room = Darkroom(colour_masker, memory=1)  # the latest is kept in any case
    for _ in range(2):
        room.look(content, "red", "overlay", {})
    assert len(colour_masker.backend.encoded) == 5


def test_tiles_count_towards_the_memory(content, colour_masker):
    room = Darkroom(colour_masker, memory=4 * 256 * 256 * 3)
    for tiles in (None, (1, 2), None):
        room.look(content, "red", "overlay", {}, tiles)
    assert len(colour_masker.backend.encoded) == 1 + 3 + 1


def test_what_reaches_too_far_is_refused(colour_masker):
    tall = np.full((5000, 4, 3), 128, np.uint8)
    content = base64.b64decode(image_url(tall).partition(",")[2])
    room = Darkroom(colour_masker)
    room.look(content, "red", "blur", {"radius": 0.2})
    for name in ("radius", "dilate", "feather"):
        with pytest.raises(OptionError, match=f"{name} may reach at most 1024 pixels .* is 1500"):
            room.look(content, "red", "blur", {name: 0.3})


def test_one_looks_at_a_time(content, colour_masker, monkeypatch):
    inside, most = [], []

    def slow(*_, **__):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return "rendered"

    monkeypatch.setattr("ivm.server.pictures.render", slow)
    room = Darkroom(colour_masker)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: room.look(content, "red", "overlay", {}), range(4)))
    assert most == [1, 1, 1, 1]


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
