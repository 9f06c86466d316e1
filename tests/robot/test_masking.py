from __future__ import annotations

import numpy as np
import pytest

from ivm.errors import InputError, OptionError
from ivm.render import MODES
from ivm.robot.masking import MaskSettings, StreamMasker, keep_robot, mask_picture, robot_mask_of
from ivm.types import Heatmap

EXACT = {"dilate": 0.0, "feather": 0.0}


def scene() -> np.ndarray:
    picture = np.full((40, 60, 3), 50, np.uint8)
    picture[10:20, 30:40] = 200
    return picture


def test_the_masker_looks_at_every_nth_moment_and_when_it_must(bright) -> None:
    stream = StreamMasker(bright, MaskSettings(every=3))
    pictures = {"a": scene(), "b": scene()}
    for _ in range(7):
        stream(pictures, "the square")
    assert stream.looked == 6  # moments 0, 3 and 6, two cameras each
    stream(pictures, "another thing")
    assert stream.looked == 8
    stream({**pictures, "c": scene()}, "another thing")
    assert stream.looked == 9
    stream({"a": scene()[:20]}, "another thing")
    assert stream.looked == 10
    stream.reset()
    stream(pictures, "another thing")
    assert stream.looked == 12
    assert bright.asked[:6] == ["the square"] * 6


def test_a_heatmap_serves_later_pictures_and_the_robot_is_added_to_each(bright) -> None:
    stream = StreamMasker(bright, MaskSettings(every=10, options=EXACT))
    robot = np.zeros((40, 60), bool)
    robot[:5] = True
    first = stream({"a": scene()}, "the square", {"a": robot})["a"]
    assert (first[:5] == 50).all()
    assert (first[30:] == 255).all()
    assert (first[10:20, 30:40] == 200).all()
    dark = np.full((40, 60, 3), 7, np.uint8)  # the square has gone; the old heatmap still keeps its place
    later = stream({"a": dark}, "the square", {"a": robot[::-1].copy()})["a"]
    assert (later[10:20, 30:40] == 7).all()
    assert (later[35:] == 7).all()
    assert (later[:5] == 255).all()


@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_mode_keeps_the_size_and_leaves_the_input_alone(bright, mode) -> None:
    picture = scene()
    before = picture.copy()
    settings = MaskSettings(mode=mode)
    masked = StreamMasker(bright, settings)({"a": picture}, "the square")["a"]
    assert masked.shape == (40, 60, settings.channels)
    assert masked.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"crop", "overlay+crop"}))
def test_the_robot_is_shown_as_it_is_and_no_more_than_it(bright, mode) -> None:
    picture = scene()
    picture[32:, :8] = (90, 10, 60)  # the robot, on a ground that is not to be seen
    robot = np.zeros((40, 60), bool)
    robot[32:, :8] = True
    settings = MaskSettings(mode, options={} if mode == "heatmap" else {"dilate": 0.1})
    masked, bare = (
        StreamMasker(bright, settings)({"a": picture}, "the square", given)["a"]
        for given in ({"a": robot}, None)
    )
    assert (masked[32:, :8, :3] == (90, 10, 60)).all()
    assert (masked[32:, :8, 3:] == 255).all()
    np.testing.assert_array_equal(masked[~robot], bare[~robot])


@pytest.mark.parametrize("mode", ["crop", "overlay+crop"])
def test_a_crop_reaches_as_far_as_the_robot(mode) -> None:
    heatmap = Heatmap.from_mask(scene().min(axis=2) > 150)
    robot = np.zeros((40, 60), bool)
    robot[36:, 4:8] = True
    picture = scene()
    picture[robot] = (0, 255, 0)
    options = {"dilate": 0.0, "feather": 0.0}
    masked = mask_picture(picture, heatmap, robot, MaskSettings(mode, options=options))
    assert masked.shape == picture.shape
    assert (masked[-1, 0] == (0, 255, 0)).all()
    assert (masked[0, -1] == 200).all()


@pytest.mark.parametrize("found", [True, False])
def test_an_overlay_and_crop_shows_the_robot_as_it_is(found: bool) -> None:
    values = scene().min(axis=2) > 150 if found else np.zeros((40, 60), bool)
    robot = np.zeros((40, 60), bool)
    robot[:, 4:24] = True
    picture = scene()
    picture[robot] = (0, 255, 0)
    settings = MaskSettings("overlay+crop", options={"feather": 0.3, "not_found": "mask"})
    masked = mask_picture(picture, Heatmap.from_mask(values), robot, settings)
    assert (masked[:, 6:22] == (0, 255, 0)).all()


def test_where_the_masker_fails_it_looks_again_at_once(bright) -> None:
    stream = StreamMasker(bright, MaskSettings(every=2))
    for _ in range(2):
        stream({"a": scene()}, "the square")
    answer, bright.batch = bright.batch, lambda images, instructions: 1 / 0
    with pytest.raises(ZeroDivisionError):
        stream({"a": scene()}, "the square")
    bright.batch = answer
    stream({"a": scene()}, "the square")
    assert stream.looked == 2


def test_without_a_target_the_robot_alone_is_no_target() -> None:
    nothing = Heatmap(np.zeros((40, 60), np.float32), score=0.9, found=True)
    robot = np.zeros((40, 60), bool)
    robot[:5] = True
    kept = mask_picture(scene(), nothing, robot, MaskSettings())
    np.testing.assert_array_equal(kept, scene())
    masked = mask_picture(scene(), nothing, robot, MaskSettings(options={**EXACT, "not_found": "mask"}))
    assert (masked[:5] == 50).all()
    assert (masked[5:] == 255).all()


def test_keep_robot_raises_only_the_robot() -> None:
    heatmap = Heatmap(np.full((4, 4), 0.3, np.float32), instruction="x")
    robot = np.eye(4, dtype=bool)
    kept = keep_robot(heatmap, robot)
    assert (kept.values[robot] == 1).all()
    np.testing.assert_array_equal(kept.values[~robot], heatmap.values[~robot])
    assert keep_robot(heatmap, None) is heatmap
    for wrong in (np.eye(5, dtype=bool), np.eye(4)):
        with pytest.raises(InputError, match=r"robot's mask must be bool \[4, 4\]"):
            keep_robot(heatmap, wrong)


def test_settings_are_checked_when_they_are_made() -> None:
    for options, message in (
        ({"mode": "hide"}, "mode must be one of"),
        ({"every": 0}, "every must be an integer"),
        ({"options": {"longest": 100}}, "keep their size"),
        ({"options": {"radius": 0.1}}, "no use for radius"),
        ({"options": {"blurry": 1}}, "must be among threshold.* but got blurry"),
    ):
        with pytest.raises(OptionError, match=message):
            MaskSettings(**options)


def test_robot_masks_come_from_a_function_or_a_mapping() -> None:
    mask = np.zeros((2, 2), bool)
    assert robot_mask_of(None, "a") is None
    assert robot_mask_of({"a": mask}, "a") is mask
    assert robot_mask_of(lambda camera: mask if camera == "a" else None, "a") is mask
    with pytest.raises(InputError, match="'b' is not among"):
        robot_mask_of({"a": mask}, "b")
