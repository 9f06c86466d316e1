from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from ivm.errors import InputError, OptionError
from ivm.robot.masking import MaskSettings
from ivm.robot.wrappers import MaskedObservation


class Blind(gymnasium.Env):
    """Knows nothing of robots."""

    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)


SETTINGS = MaskSettings(every=2, options={"dilate": 0.0, "feather": 0.0})


def test_pictures_are_masked_by_the_instruction_and_the_robot_stays(camera_env, bright) -> None:
    env = MaskedObservation(camera_env, bright, SETTINGS)
    assert env.cameras == ("front", "hand")
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        assert observation in env.observation_space
        for camera in env.cameras:
            seen = observation[camera]
            assert (seen[:8, :8] == (100 + camera_env.steps, 0, 0)).all()
            assert (seen[10:20, 30:40] == 200).all()
            assert (seen[25:] == 255).all()
        observation, *_ = env.step(0)
    assert env.looked == 4  # two cameras, at moments 0 and 2 of four
    env.reset(seed=0)
    assert env.looked == 6
    assert set(bright.asked) == {"the bright square"}


def test_the_original_is_kept_where_asked_and_one_camera_can_be_chosen(camera_env, bright) -> None:
    env = MaskedObservation(
        camera_env, bright, SETTINGS, cameras=["hand"], robot_mask=None, original_key="{}_original"
    )
    observation, _ = env.reset()
    assert observation in env.observation_space
    assert set(observation) == {"front", "hand", "hand_original", "joints"}
    np.testing.assert_array_equal(observation["front"], observation["hand_original"])
    assert (observation["hand"][:8, :8] == 255).all()  # nobody knows the robot


def test_a_bare_picture_and_a_mode_with_transparency(camera_env, bright) -> None:
    bare = gymnasium.wrappers.TransformObservation(
        camera_env, lambda observation: observation["front"], camera_env.observation_space["front"]
    )
    env = MaskedObservation(
        bare, bright, MaskSettings("transparent"), instruction=lambda observation, info: "the square"
    )
    observation, _ = env.reset()
    assert observation.shape == (40, 60, 4)
    assert observation in env.observation_space
    assert bright.asked == ["the square"]


def test_the_environment_may_know_the_masks(camera_env) -> None:
    camera_env.relevant_mask = lambda camera: np.indices((40, 60))[1] > 50
    env = MaskedObservation(camera_env, "environment", SETTINGS)
    observation, _ = env.reset()
    assert (observation["front"][20:, 51:] == 50).all()
    assert (observation["front"][20:, :51] == 255).all()
    assert env.looked == 0


def test_the_tabletop_masked_by_its_own_segmentation(simulator) -> None:
    env = MaskedObservation(simulator("pick", size=64), "environment", SETTINGS, original_key="{}_original")
    observation, _ = env.reset(seed=3)
    for camera in ("side", "wrist"):
        kept = env.unwrapped.robot_mask(camera) | env.unwrapped.relevant_mask(camera)
        if env.unwrapped.relevant_mask(camera).any():
            np.testing.assert_array_equal(observation[camera][kept], observation[f"{camera}_original"][kept])
            assert (observation[camera][~kept] == 255).all()
    for _ in range(3):
        observation, *_ = env.step(env.action_space.sample())
        assert observation in env.observation_space
    env.close()


def test_what_does_not_fit_is_told(camera_env, bright) -> None:
    with pytest.raises(OptionError, match=r"must be pictures of the environment.*'joints'"):
        MaskedObservation(camera_env, bright, cameras=["joints"])
    with pytest.raises(OptionError, match="masker must be a Masking or 'environment'"):
        MaskedObservation(camera_env, "compact")
    with pytest.raises(OptionError, match="needs an environment with a method relevant_mask"):
        MaskedObservation(camera_env, "environment")
    with pytest.raises(OptionError, match="robot_mask must be"):
        MaskedObservation(camera_env, bright, robot_mask="segmentation")
    with pytest.raises(OptionError, match="needs an environment with a method robot_mask"):
        MaskedObservation(Blind(), bright)
    with pytest.raises(OptionError, match="must hold "):
        MaskedObservation(camera_env, bright, original_key="original")
    again = MaskedObservation(camera_env, bright, original_key="{}_original")
    twice = MaskedObservation(camera_env, bright, cameras=["front"], original_key="{}_{}_{x}")
    assert "front_front_{x}" in twice.observation_space.spaces
    with pytest.raises(OptionError, match="an entry 'front_original' already"):
        MaskedObservation(again, bright, cameras=["front"], original_key="{}_original")
    env = MaskedObservation(camera_env, bright, instruction=None)
    camera_env.reset = lambda **options: (camera_env._observation(), {})
    with pytest.raises(InputError, match="neither observation nor info"):
        env.reset()
