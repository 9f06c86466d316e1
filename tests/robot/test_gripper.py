from __future__ import annotations

import numpy as np

from ivm.robot.gripper import MAX_OPENING, WORKSPACE


def test_it_stays_in_its_workspace_and_is_held_by_the_table(simulator) -> None:
    env = simulator("reach", size=32, distractors=0)
    env.reset(seed=2)
    for _ in range(25):
        env.gripper.move(np.array([0.03, 0.03, -0.03]), 0.25, MAX_OPENING, 50)
    np.testing.assert_allclose(env.gripper.tip[:2], WORKSPACE[1, :2], atol=0.01)
    assert 0 < env.gripper.tip[2] < 0.02
    assert abs(env.gripper.turn - np.pi / 2) < 0.05


def test_a_held_gripper_does_not_wind_up(simulator) -> None:
    """After pushing against something for long, it comes back at once."""
    env = simulator("reach", size=32, distractors=0)
    env.reset(seed=2)
    for _ in range(40):
        env.gripper.move(np.array([0.0, 0.0, -0.03]), 0.0, 0.0, 50)
    low = env.gripper.tip[2]
    env.gripper.move(np.array([0.0, 0.0, 0.03]), 0.0, 0.0, 50)
    assert env.gripper.tip[2] > low + 0.015


def test_the_drawn_arm_follows_the_fingers_and_touches_nothing(simulator) -> None:
    env = simulator("reach", size=32, distractors=0)
    env.reset(seed=2)
    env.gripper.move(np.array([0.03, 0.0, -0.03]), 0.2, 0.02, 50)
    model, data = env.world.model, env.world.data
    drawn = np.array([data.geom_xpos[g] for g in env.gripper.geoms])
    fingers = np.array([data.geom("finger_left").xpos, data.geom("finger_right").xpos])
    for finger in fingers:
        assert np.linalg.norm(drawn - finger, axis=1).min() < 2e-3
    assert all(model.geom_contype[g] == model.geom_conaffinity[g] == 0 for g in env.gripper.geoms)
    assert not env.gripper.touches(env.world.objects[0].body)
