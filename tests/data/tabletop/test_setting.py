from __future__ import annotations

import numpy as np
import pytest

from ivm.data.tabletop.arranging import arrange
from ivm.data.tabletop.library import make_library
from ivm.data.tabletop.setting import (
    FLOOR,
    TABLE,
    WALL,
    draw_arm_pose,
    draw_camera,
    draw_items,
    draw_lights,
    draw_room,
    look_at,
    stand_away,
)
from ivm.data.tabletop.spec import CAMERAS, TabletopSpec
from ivm.data.tabletop.stage import Drawing


@pytest.fixture(scope="module")
def library():
    return make_library(TabletopSpec(), 0, 0)


def test_a_camera_looks_where_it_should() -> None:
    position, target = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.1, 0.0])
    rotation = look_at(position, target)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    ahead = (target - position) @ rotation
    np.testing.assert_allclose(ahead[:2], 0, atol=1e-12)
    assert ahead[2] < 0
    assert rotation[2, 1] > 0  # upright


@pytest.mark.parametrize("view", CAMERAS)
def test_most_things_are_in_the_frame(view: str, library) -> None:
    spec, inside, total = TabletopSpec(robot=1.0), 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        arrangement = arrange(spec, library, 0.5, rng)
        arm = draw_arm_pose(spec, view, arrangement, rng)
        assert arm is not None
        camera = draw_camera(view, 0.5, arrangement, arm, rng)
        assert camera.position[2] > 0.05
        local = (np.array([item.centre for item in arrangement.items]) - camera.position) @ camera.rotation
        edge = np.tan(np.deg2rad(camera.fovy / 2))
        inside += int(((np.abs(local[:, :2]) < -local[:, 2:] * edge).all(axis=1)).sum())
        total += len(local)
    assert inside / total > (0.35 if view == "wrist" else 0.75)


def test_an_arm_does_not_come_from_the_camera(library) -> None:
    spec = TabletopSpec(robot=1.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        arrangement = arrange(spec, library, 0.5, rng)
        arm = draw_arm_pose(spec, "side", arrangement, rng)
        camera = draw_camera("side", 0.5, arrangement, arm, rng)
        moved = stand_away(arm, camera, rng)
        np.testing.assert_allclose(moved.tip, arm.tip)
        toward_camera = (camera.position - arm.tip)[:2]
        toward_base = moved.base - moved.tip[:2]
        cosine = toward_camera @ toward_base / np.linalg.norm(toward_camera) / np.linalg.norm(toward_base)
        assert cosine < np.cos(np.pi - 1.95)


def test_light_neither_drowns_nor_burns_colours() -> None:
    for seed in range(100):
        lights, ambient = draw_lights(np.random.default_rng(seed))
        assert 1 <= len(lights) <= 3
        assert [light.shadow for light in lights] == [True] + [False] * (len(lights) - 1)
        up = sum(light.diffuse * max(0.0, -light.direction[2]) for light in lights) + ambient
        assert up.min() > 0.65
        assert up.max() < 1.3
        assert up.max() / up.min() < 1.35  # close to white


def test_room_and_items_are_drawn_under_their_owners(library) -> None:
    rng = np.random.default_rng(0)
    arrangement = arrange(TabletopSpec(), library, 0.0, rng)
    drawing = Drawing()
    draw_room(drawing, library, rng)
    assert {TABLE, FLOOR, WALL} <= set(drawing.owners)
    draw_items(drawing, library, arrangement.items)
    assert set(range(len(arrangement.items))) <= set(drawing.owners)
    assert not all(drawing.main)
