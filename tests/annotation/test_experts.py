from __future__ import annotations

import numpy as np
import pytest

from conftest import ColourBackend
from ivm.annotation.experts import Expert, Panel, open_expert
from ivm.errors import InputError, InstructionError, OptionError
from ivm.masker import Masker
from ivm.types import Heatmap


class Left:
    """No Masker: keeps the left half, whatever is asked."""

    def batch(self, images, instructions):
        half = np.zeros(images[0].shape[:2], np.float32)
        half[:, : half.shape[1] // 2] = 1
        return [Heatmap(half, instruction=text) for text in instructions]


@pytest.fixture
def image():
    picture = np.full((64, 80, 3), 128, np.uint8)
    picture[10:40, 10:40] = (220, 30, 30)
    return picture


def test_every_expert_answers_every_phrase(image):
    panel = Panel([Expert("colours", Masker(ColourBackend()), 2.0), Expert("left", Left())])
    proposals = panel.propose(image, ["red thing", "blue thing"])
    assert [(p.expert, p.phrase, p.weight) for p in proposals] == [
        ("colours", "red thing", 2.0), ("colours", "blue thing", 2.0),
        ("left", "red thing", 1.0), ("left", "blue thing", 1.0),
    ]  # fmt: skip
    assert [p.heatmap.found for p in proposals] == [True, False, True, True]
    assert proposals[0].mask[20, 20]
    assert not proposals[0].mask[50, 70]
    assert not proposals[1].mask.any()
    assert proposals[2].mask.mean() == 0.5


def test_a_picture_is_encoded_once_for_all_that_is_asked_of_it(image):
    backend = ColourBackend()
    panel = Panel([Expert("colours", Masker(backend))])
    one = panel.propose(image, ["red"])[0]
    again = panel.propose(image.copy(), ["red", "green"])[0]
    np.testing.assert_array_equal(one.heatmap.values, again.heatmap.values)
    assert len(backend.encoded) == 1
    turned = panel.propose(np.ascontiguousarray(image[::-1]), ["red"])[0]
    assert len(backend.encoded) == 2
    assert turned.mask[50, 20]


def test_tiles_are_looked_at():
    backend = ColourBackend()
    Panel([Expert("tiled", Masker(backend), tiles=2)]).propose(np.zeros((300, 400, 3), np.uint8), ["red"])
    assert len(backend.encoded) > 1


def test_an_expert_that_cannot_is_named(image):
    class Picky(Left):
        def batch(self, images, instructions):
            raise InstructionError("too long")

    with pytest.raises(InputError, match="expert picky: too long"):
        Panel([Expert("left", Left()), Expert("picky", Picky())]).propose(image, ["red"])


@pytest.mark.weights
def test_experts_are_written_as_text():
    one, tiled = open_expert("compact"), open_expert("compact, weight=0.5, tiles=2x3")
    assert (one.name, one.weight, one.tiles) == ("compact", 1.0, None)
    assert (tiled.name, tiled.weight, tiled.tiles) == ("compact,tiles=2x3", 0.5, (2, 3))


@pytest.mark.parametrize(
    "text",
    ["", "compact,weigth=2", "compact,weight", "compact,weight=", ",weight=1", "compact,weight=1,weight=2"],
)
def test_malformed_experts_are_told(text):
    with pytest.raises(OptionError, match="an expert must be such as"):
        open_expert(text)


def test_wrong_experts_are_told():
    for text, why in (
        ("compact,weight=much", "a number"),
        ("compact,tiles=x", "tiles"),
        ("compat", "compact"),
    ):
        with pytest.raises(OptionError, match=why):
            open_expert(text)
    with pytest.raises(OptionError, match="each once"):
        Panel([Expert("a", Left()), Expert("a", Left())])
    with pytest.raises(OptionError, match="each once, but got none"):
        Panel([])
    with pytest.raises(OptionError, match="weight of a"):
        Expert("a", Left(), 0.0)
    with pytest.raises(OptionError, match="must be a Masker"):
        Expert("a", Left(), tiles=2)
