import numpy as np
import pytest
from PIL import Image

from ivm.data.synthesis_spec import SynthesisSpec
from ivm.errors import OptionError
from ivm.training.scenes import Mixture, SceneQuestions


class Counted:
    def __init__(self, name):
        self.name = name

    def __getitem__(self, index):
        return self.name, index


def test_a_mixture_keeps_its_shares_and_leaves_no_gaps():
    mixture = Mixture([(Counted("a"), 3), (Counted("b"), 1), (Counted("c"), 2)])
    drawn = [mixture[i] for i in range(60)]
    for name, share in (("a", 3), ("b", 1), ("c", 2)):
        indices = [index for part, index in drawn if part == name]
        assert indices == list(range(10 * share))
    longest = max(
        len(run) for run in "".join(name for name, _ in drawn).replace("b", " ").replace("c", " ").split()
    )
    assert longest <= 2  # evenly spread


def test_a_mixture_needs_whole_shares():
    for parts in ([], [(Counted("a"), 0)], [(Counted("a"), 0.5)]):
        with pytest.raises(OptionError, match="whole shares"):
            Mixture(parts)


@pytest.fixture
def cutouts(tmp_path):
    import json

    names = {"aa": "teapot", "bb": "kite", "cc": "lemon", "dd": "guitar", "ee": "hammer", "ff": "violin"}
    (tmp_path / "names.json").write_text(json.dumps(names))
    for i, stem in enumerate(names):
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[8:56, 8 + 2 * i : 56] = ((40 * i) % 256, 200 - 30 * i, 30 * i, 255)
        Image.fromarray(pixels).save(tmp_path / f"{stem}.webp", lossless=True)
    return str(tmp_path)


def test_scenes_become_pictures_the_same_ones_every_time(cutouts):
    spec = SynthesisSpec({"collage": 1.0}, size=64, instructions=3, cutouts=(cutouts,), split="")
    ours, again = SceneQuestions(spec, seed=1), SceneQuestions(spec, seed=1)
    again[0]
    for index in (0, 5):
        a, b = ours[index], again[index]
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.targets, b.targets)
        assert a.texts == b.texts
        assert a.image.shape == (64, 64, 3)
        assert a.targets.shape == (3, 16, 16)
        assert len(a.texts) == len(a.found) == 3
        assert [bool(t.any()) for t in a.targets] == a.found.tolist()
        assert a.named.shares.shape == (len(a.named.things), 4, 4)
        assert a.named.things == b.named.things
        assert a.named.looked_for == {"teapot", "kite", "lemon", "guitar", "hammer", "violin"}


def test_photo_scenes_and_odd_sizes_are_refused(cutouts):
    with pytest.raises(OptionError, match="multiple of 16"):
        SceneQuestions(SynthesisSpec({"collage": 1.0}, size=66, cutouts=(cutouts,)))
    with pytest.raises(OptionError, match="square"):
        SceneQuestions(SynthesisSpec({"photo": 1.0}, size=64, photos=("x",)))
