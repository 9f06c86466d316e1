from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivm.data.records import Entry, Record
from ivm.data.stream import ShardStream
from ivm.data.transforms import (
    Augment,
    PastedObject,
    adjust_colours,
    crop,
    flip,
    limit_sides,
    mirror_text,
    names_colour,
    paste,
    resize,
)
from ivm.errors import DataError, OptionError
from ivm.types import Sample


def sample(text="the cup on the left", shape=(48, 64), **more):
    """A picture whose red channel is its heatmap, so that both can be compared after any change of shape."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    mask = np.zeros(shape, bool)
    mask[10:30, 8:28] = True
    image[:, :, 0] = mask * 255
    return Sample("a", image, (text,), mask, "x", **more)


THING = PastedObject("guitar", np.full((20, 30, 4), (9, 8, 7, 255), np.uint8))


@pytest.mark.parametrize("seed", range(20))
def test_image_and_heatmap_change_together(seed):
    view = Augment(size=96, scale=(0.2, 1.0), colour=0.0)(sample(), seed)
    assert view.image.shape == (96, 96, 3)
    assert view.heatmap.dtype == np.float32
    assert np.abs(view.image[:, :, 0] / 255.0 - view.heatmap).max() < 0.01


def test_a_seed_decides_a_view():
    make = Augment(size=32, paste=0.5, objects=[THING])
    one, two = make(sample(), (1, 2, 3)), make(sample(), (1, 2, 3))
    assert (one.image == two.image).all()
    assert (one.heatmap == two.heatmap).all()
    assert any((make(sample(), (1, 2, k)).image != one.image).any() for k in range(4, 8))


def test_the_sample_itself_is_not_changed():
    given_ = sample()
    image, mask = given_.image.copy(), given_.heatmap.copy()
    for seed in range(10):
        Augment(size=32, paste=1.0, objects=[THING])(given_, seed)
    assert (given_.image == image).all()
    assert (given_.heatmap == mask).all()


def test_views_are_the_same_for_any_number_of_workers(make_store):
    torch = pytest.importorskip("torch")
    from ivm.data.stream import torch_stream

    folder = make_store([replace(sample(), uuid=f"s{k}", image_id=f"s{k}") for k in range(9)])

    def views(workers):
        stream = ShardStream(folder, seed=5, batch_size=2, transform=Augment(size=16))
        loader = torch.utils.data.DataLoader(
            torch_stream(stream), batch_size=2, num_workers=workers, collate_fn=list
        )
        return [(view.uuid, view.image.tobytes(), view.instructions) for batch in loader for view in batch]

    assert views(0) == views(1)


@pytest.mark.parametrize("seed", range(30))
def test_a_crop_keeps_half_of_what_is_relevant(seed):
    make = Augment(size=0, scale=(0.05, 0.3), flip=0.0, colour=0.0)
    given_ = sample()
    view = make(given_, seed)
    assert view.heatmap.sum() >= 0.5 * given_.heatmap.sum()
    assert view.heatmap.dtype == bool


def test_a_part_of_the_picture_stays_that_part():
    """The left half of a crop is not the left half of the picture."""
    half = np.zeros((48, 64), bool)
    half[:, :32] = True
    given_ = replace(sample("the left half of the picture", kind="part"), heatmap=half)
    for seed in range(20):
        view = Augment(size=64, colour=0.0)(given_, seed)
        left = view.instructions[0] == "the left half of the picture"
        assert (view.heatmap[:, :32] if left else view.heatmap[:, 32:]).min() > 0.99
        assert (view.heatmap[:, 32:] if left else view.heatmap[:, :32]).max() < 0.01


def test_no_change_is_no_change():
    view = Augment(size=0, scale=(1, 1), ratio=(1, 1), flip=0.0, colour=0.0)(sample(), 0)
    assert (view.image == sample().image).all()
    assert (view.heatmap == sample().heatmap).all()


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the cup on the left", "the cup on the right"),
        ("Left of the RIGHTMOST cup", "Right of the LEFTMOST cup"),
        ("the right-hand side, then left", "the left-hand side, then right"),
        ("the bright, upright lamp", "the bright, upright lamp"),
        ("the cup to the left of the plate", "the cup to the right of the plate"),
        ("turn leftwards", "turn rightwards"),
        ("what is the man on the right holding?", "what is the man on the left holding?"),
        ("pick the cup", "pick the cup"),
        ("pick up the cup right now", None),
        ("what is left on the plate?", None),
        ("how many slices are left?", None),
        ("throw away the leftovers", None),
        ("read the sign on the right", None),
        ("turn the knob clockwise", None),
        ("what time is it?", None),
        ('the box that says "left"', None),
        ("is this the right tool?", None),
        ("the cup on the rihgt", None),
        ("the lefmost cup", None),
    ],
)
def test_left_and_right_are_swapped_where_they_are_sides(text, mirrored):
    assert mirror_text(text) == mirrored


@given(st.text(alphabet="leftrigh LEFTRIGHomsaw-,", max_size=60))
def test_two_mirrors_undo_each_other(text):
    once = mirror_text(text)
    if once is not None and (twice := mirror_text(once)) is not None:
        assert twice == text


def test_flip_mirrors_pixels_and_words_or_nothing():
    once = flip(sample())
    assert once.instructions == ("the cup on the right",)
    assert (once.heatmap == sample().heatmap[:, ::-1]).all()
    assert (flip(once).image == sample().image).all()
    text = sample("read the left page")
    assert flip(text) is text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("the red cup", True),
        ("the reddish one", True),
        ("is it redder?", True),
        ("What colour is it?", True),
        ("two greys", True),
        ("the bluest sky", True),
        ("the yelow cup", True),
        ("the credible tanned man", False),
        ("the big cup", False),
    ],
)
def test_colour_words_are_seen(text, named):
    assert names_colour([text]) == named


def hue_spread(before, after):
    import cv2

    a, b = (cv2.cvtColor(x, cv2.COLOR_RGB2HSV)[:, :, 0].astype(int) for x in (before, after))
    return np.median(np.minimum((a - b) % 180, (b - a) % 180))


def test_colours_stay_where_one_is_named():
    picture = np.empty((40, 40, 3), np.uint8)
    picture[:] = (200, 120, 60)
    draws = np.array([0.4, 0.6, 0.9, 0.95])
    plain = Sample("a", picture, ("the cup",), None, "x")
    named = Sample("a", picture, ("the orange cup",), None, "x")
    target = Sample("a", picture, ("the cup",), None, "x", targets=("brown cup",))
    assert hue_spread(picture, adjust_colours(plain, 1.0, draws).image) > 5
    for one in (named, target):
        changed = adjust_colours(one, 1.0, draws).image
        assert (changed != picture).any()
        assert hue_spread(picture, changed) <= 2
    assert (adjust_colours(named, 1.0, np.full(4, 0.5)).image == picture).all()


def test_pasting_leaves_what_is_relevant():
    given_ = sample("find the cup", shape=(120, 160))
    pasted = 0
    for seed in range(20):
        view = paste(given_, THING, np.random.default_rng(seed))
        changed = (view.image != given_.image).any(axis=2)
        pasted += bool(changed.any())
        assert (view.heatmap & given_.heatmap).sum() >= 0.98 * given_.heatmap.sum()
        assert not (view.heatmap & changed).any()
    assert pasted > 10


@pytest.mark.parametrize("text", ["play the guitar", "where are the guitars?", "how many cups are there?"])
def test_nothing_is_pasted_that_could_be_meant(text):
    given_ = sample(text)
    assert paste(given_, THING, np.random.default_rng(0)) is given_


def test_resize_and_crop():
    small = resize(sample(), (24, 32))
    assert abs(small.heatmap.mean() - sample().heatmap.mean()) < 1e-6
    part = crop(sample(), (8, 10, 28, 30))
    assert part.heatmap.all()
    assert part.image.shape == (20, 20, 3)
    assert resize(Sample("a", sample().image, ("x",), None, "x"), (9, 9)).heatmap is None


def test_large_pictures_are_scaled_down_and_small_ones_kept_as_they_are():
    large, small = sample(shape=(48, 96)), sample(shape=(20, 30))
    problem = DataError("wrong")
    entry = Entry("x", 1, lambda: [Record(large, b"1"), problem, Record(small, b"2")])
    (limited,) = limit_sides([entry], 32)
    one, other, two = limited.load()
    assert one.sample.image.shape == (16, 32, 3)
    assert one.sample.heatmap.shape == (16, 32)
    assert one.file is None
    assert other is problem
    assert (two.sample, two.file) == (small, b"2")


@pytest.mark.parametrize(
    "wrong",
    [{"size": -1}, {"scale": (0, 1)}, {"scale": (0.9, 0.5)}, {"ratio": (0, 1)}, {"flip": 2}, {"paste": 0.5}],
)
def test_options_are_checked(wrong):
    with pytest.raises(OptionError):
        Augment(**wrong)


@pytest.mark.parametrize("make", [Augment(size=64), Augment(size=50, scale=(0.3, 1.0), ratio=(0.5, 1.5))])
def test_no_view_of_the_least_size_is_enlarged(make):
    given_ = sample(shape=(make.least, make.least + 9))
    for seed in range(200):
        x0, y0, x1, y1 = make._box(given_, np.random.default_rng(seed)) or (0, 0, make.least, make.least)
        assert min(x1 - x0, y1 - y0) >= make.size - 1  # rounding
    assert Augment(size=0).least is None


def test_looking_and_cropping_give_arrays_of_their_own():
    given_ = sample()
    for one in (crop(given_, (3, 4, 30, 40)), Augment(size=0, flip=0.0, colour=0.0)(given_, 1)):
        assert one.image.flags.c_contiguous
        assert one.heatmap.flags.c_contiguous
