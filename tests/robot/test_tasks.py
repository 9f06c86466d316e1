from __future__ import annotations

import numpy as np
import pytest

from ivm.robot.tasks import TASKS, footprint, grasp, item_points


def box(x: float, y: float, z: float, turn: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 9)] * 3), -1).reshape(-1, 3) * [x, y, z]
    c, s = np.cos(turn), np.sin(turn)
    return grid @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [0.1, -0.05, z / 2]


def test_footprint_is_the_extent_along_a_direction() -> None:
    points = box(0.1, 0.04, 0.03, 0.0)
    assert footprint(points, 0.0) == pytest.approx((0.05, 0.15))
    assert footprint(points, np.pi / 2) == pytest.approx((-0.07, -0.03))


@pytest.mark.parametrize("turn", [-1.2, -0.5, 0.0, 0.4, 1.0])
def test_a_grasp_closes_along_the_narrow_side_in_the_middle(turn) -> None:
    angle, width, place = grasp(box(0.04, 0.12, 0.05, turn))
    off = (angle - turn + np.pi / 2) % np.pi - np.pi / 2
    assert abs(off) < 0.08
    assert width == pytest.approx(0.04, abs=0.012)
    np.testing.assert_allclose(place[:2], [0.1, -0.05], atol=0.004)
    assert 0.005 < place[2] < 0.03


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_named_object_can_be_told_from_all_others(simulator, task) -> None:
    env = simulator(task, size=32, distractors=6)
    for seed in range(4):
        observation, info = env.reset(seed=seed)
        text = observation["instruction"]
        things = env.world.objects
        for index in env.task.relevant:
            mine = things[index]
            assert mine.name in text
            alike = [t for k, t in enumerate(things) if k != index and t.name == mine.name]
            if alike:
                assert mine.colour in text
                assert all(t.colour != mine.colour for t in alike)
        assert info["distractors"] == len(things) - len(env.task.relevant)
        points = item_points(env.world.arrangement.items[env.task.target], env.library)
        assert points[:, 2].min() == pytest.approx(0, abs=1e-3)


def test_nothing_is_done_at_the_start_and_doing_nothing_does_not_help(simulator) -> None:
    for task in TASKS:
        env = simulator(task, size=32)
        env.reset(seed=9)
        for _ in range(5):
            _, reward, terminated, _, info = env.step(np.zeros(5))
            assert (reward, terminated, info["success"]) == (0.0, False, False)
