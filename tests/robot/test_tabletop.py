from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from ivm.errors import OptionError
from ivm.robot import ENVIRONMENT, MAX_STEPS, register


def test_gymnasium_makes_it_and_its_checks_pass(simulator) -> None:
    register()  # once more does no harm
    env = gymnasium.make(f"ivm.robot:{ENVIRONMENT}", size=48, render_mode="rgb_array")
    assert env.spec.max_episode_steps == MAX_STEPS
    check_env(env.unwrapped)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (48, 96, 3)
    env.close()


def test_a_seed_makes_the_same_table_and_a_cleared_one_keeps_target_and_robot(simulator) -> None:
    full, again, cleared = (simulator("place", size=64, cleared=c) for c in (False, False, True))
    one, info = full.reset(seed=5)
    two, _ = again.reset(seed=5)
    bare, bare_info = cleared.reset(seed=5)
    np.testing.assert_array_equal(one["side"], two["side"])
    assert bare["instruction"] == one["instruction"]
    assert (bare_info["target"], bare_info["goal"]) == (info["target"], info["goal"])
    assert info["distractors"] >= 3
    assert bare_info["distractors"] == 0
    np.testing.assert_allclose(bare["state"], one["state"], atol=1e-3)
    for index, mine in zip(full.task.relevant, cleared.task.relevant, strict=True):
        np.testing.assert_allclose(full.world.position(index), cleared.world.position(mine), atol=2e-3)
    other, _ = full.reset(seed=6)
    assert not np.array_equal(other["side"], one["side"])


def test_masks_come_from_the_pictures_own_geometry(simulator) -> None:
    env = simulator("pick", size=96, distractors=3)
    observation, _ = env.reset(seed=1)
    robot, relevant = env.robot_mask("side"), env.relevant_mask("side")
    assert robot.shape == (96, 96)
    assert robot.any()
    assert relevant.any()
    assert not (robot & relevant).any()
    assert env.robot_mask("wrist").any()
    again, *_ = env.step(np.zeros(5))  # asking for masks does not disturb pictures
    assert again["side"].std() > 5
    # Where the target is taken away, its pixels change.
    joint = env.world.objects[env.task.target].joint
    env.world.data.qpos[joint + 2] = -3.0
    env.gripper.pose()
    gone = env._observe()["side"]
    assert (gone[relevant] != observation["side"][relevant]).any(axis=1).mean() > 0.8
    with pytest.raises(OptionError, match="camera must be one of"):
        env.robot_mask("top")


def test_the_gripper_goes_where_actions_say(simulator) -> None:
    env = simulator("reach", size=32, distractors=0)
    observation, _ = env.reset(seed=0)
    start = observation["state"].copy()
    for _ in range(3):
        observation, *_ = env.step([1.0, -1.0, 0.0, 1.0, -1.0])
    moved = observation["state"] - start
    np.testing.assert_allclose(moved[:2], [0.09, -0.09], atol=0.02)
    assert abs(moved[2]) < 0.01
    assert moved[3] == pytest.approx(0.75, abs=0.15)
    assert observation["state"][4] < 0.02


def test_wrong_options_are_told(simulator) -> None:
    for options, message in (
        ({"tasks": "dance"}, "tasks must be some of"),
        ({"tasks": ()}, "tasks must be some of"),
        ({"distractors": 15}, "within 0 to 14"),
        ({"distractors": (3, 1)}, "within 0 to 14"),
        ({"size": 8}, "from 32 to 512"),
        ({"shapes": ("unicorn",)}, "unicorn"),
        ({"render_mode": "human"}, "render_mode"),
    ):
        with pytest.raises(OptionError, match=message):
            simulator(**options)
    env = simulator("reach", size=32, distractors=0)
    with pytest.raises(OptionError, match="no options of reset"):
        env.reset(seed=0, options={"hard": True})
    env.reset(seed=0)
    with pytest.raises(OptionError, match="5 finite numbers"):
        env.step([0.0, 0.0, float("nan"), 0.0, 0.0])
    impossible = simulator("pick", size=32, shapes=("plate",), distractors=0)
    with pytest.raises(OptionError, match="no arrangement was found"):
        impossible.reset(seed=0)
