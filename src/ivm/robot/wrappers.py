"""A Gymnasium wrapper that masks what the cameras of any image environment see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ivm.errors import InputError, OptionError, require
from ivm.robot.masking import MaskSettings, RobotMask, StreamMasker, mask_picture, robot_mask_of
from ivm.types import Heatmap, Masking

__all__ = ["ENVIRONMENT_MASKS", "MaskedObservation"]

gymnasium: Any = require("gymnasium", "robot")

ENVIRONMENT_MASKS = "environment"
"""Stands for masks that the environment itself knows, from its simulation."""

_ALONE = "picture"  # the camera of an environment whose observation is a picture and nothing else


class MaskedObservation(gymnasium.Wrapper):
    """Masks the pictures of an environment by the episode's instruction; the robot stays visible.

    Observations keep their form: a dict with pictures uint8 [H, W, 3] under some keys, or one such picture.
    Actions, rewards and all other entries pass untouched.

    Args:
        env: the environment; pictures must be uint8 [H, W, 3] boxes of its observation space.
        masker: any `Masking`, such as `ivm.load("compact")`; or "environment" for the true masks that a
            simulation gives by a method `relevant_mask(camera) -> bool [H, W]`.
        settings: deployment mode, how often the masker looks, options of rendering.
        cameras: keys of the pictures to mask; default: every entry that is a picture.
        instruction: (observation, info) -> the instruction; default: the entry "instruction" of the
            observation or, if there is none, of the info; the last one given holds until the next `reset`.
        robot_mask: (camera) -> bool [H, W], the robot's pixels now, or fixed masks by camera; "environment"
            asks the environment's method `robot_mask(camera)`; None: nobody knows them, and the robot is
            masked like all else. The camera of a bare picture is called "picture".
        original_key: keeps the pictures as they were under this key, in which {} stands for the camera, such
            as "{}_original"; None keeps them nowhere. Needs a dict.

    Raises:
        OptionError: a camera is no picture of the environment, or the environment has no method asked for.
    """

    def __init__(
        self,
        env: Any,
        masker: Masking | str,
        settings: MaskSettings | None = None,
        cameras: Sequence[str] | None = None,
        instruction: Callable[[Any, Mapping[str, Any]], str] | None = None,
        robot_mask: RobotMask | str = ENVIRONMENT_MASKS,
        original_key: str | None = None,
    ) -> None:
        super().__init__(env)
        self.settings = settings or MaskSettings()
        space = env.observation_space
        self._bare = not isinstance(space, gymnasium.spaces.Dict)
        parts = {_ALONE: space} if self._bare else dict(space.spaces)
        pictures = [name for name, part in parts.items() if _is_picture(part)]
        self.cameras = tuple(pictures if cameras is None else cameras)
        for name in self.cameras or ("",):
            if name not in pictures:
                raise OptionError(
                    f"cameras must be pictures of the environment, uint8 [H, W, 3] "
                    f"({', '.join(pictures) or 'it has none'}), but got {name!r}"
                )
        self._relevant: Callable[[str], np.ndarray] | None = None
        self._stream: StreamMasker | None = None
        if isinstance(masker, str):
            if masker != ENVIRONMENT_MASKS:
                raise OptionError(f"masker must be a Masking or {ENVIRONMENT_MASKS!r}, but got {masker!r}")
            self._relevant = self._method("relevant_mask", "masker")
        else:
            self._stream = StreamMasker(masker, self.settings)
        if isinstance(robot_mask, str):
            if robot_mask != ENVIRONMENT_MASKS:
                raise OptionError(
                    f"robot_mask must be a function, masks, None or {ENVIRONMENT_MASKS!r}, "
                    f"but got {robot_mask!r}"
                )
            self._robot: RobotMask = self._method("robot_mask", "robot_mask")
        else:
            self._robot = robot_mask
        self._find, self._instruction = instruction, ""
        self._original_key = original_key
        if original_key is not None and (self._bare or "{}" not in original_key):
            raise OptionError(
                f"original_key must hold {{}} for the camera, and the observation must be a dict, "
                f"but got {original_key!r} and {type(space).__name__}"
            )
        for name in self.cameras:
            old = parts[name]
            shape = (*old.shape[:2], self.settings.channels)
            parts[name] = gymnasium.spaces.Box(0, 255, shape, np.uint8)
            if original_key is not None:
                kept = original_key.replace("{}", name)
                if kept in parts:
                    raise OptionError(f"the observation has an entry {kept!r} already")
                parts[kept] = old
        self.observation_space = parts[_ALONE] if self._bare else gymnasium.spaces.Dict(parts)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment's; forgets the heatmaps of the last episode."""
        observation, info = self.env.reset(**options)
        if self._stream is not None:
            self._stream.reset()
        self._instruction = ""
        return self._mask(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._mask(observation, info), reward, terminated, truncated, info

    @property
    def looked(self) -> int:
        """How many pictures the masker has looked at."""
        return 0 if self._stream is None else self._stream.looked

    def _method(self, name: str, option: str) -> Callable[[str], np.ndarray]:
        try:
            return self.env.get_wrapper_attr(name)
        except AttributeError:
            raise OptionError(
                f"{option}={ENVIRONMENT_MASKS!r} needs an environment with a method {name}(camera), but "
                f"{self.env.unwrapped.__class__.__name__} has none: give {option} something else"
            ) from None

    def _mask(self, observation: Any, info: Mapping[str, Any]) -> Any:
        parts = {_ALONE: observation} if self._bare else dict(observation)
        pictures = {name: parts[name] for name in self.cameras}
        if self._relevant is not None:
            masked = {
                name: mask_picture(
                    picture,
                    Heatmap.from_mask(self._relevant(name)),
                    robot_mask_of(self._robot, name),
                    self.settings,
                )
                for name, picture in pictures.items()
            }
        else:
            assert self._stream is not None
            masked = self._stream(pictures, self._instruction_of(observation, info), self._robot)
        if self._bare:
            return masked[_ALONE]
        if self._original_key is not None:
            parts |= {self._original_key.replace("{}", name): picture for name, picture in pictures.items()}
        return parts | masked

    def _instruction_of(self, observation: Any, info: Mapping[str, Any]) -> str:
        if self._find is not None:
            return self._find(observation, info)
        if not self._bare and "instruction" in observation:
            self._instruction = str(observation["instruction"])
        elif "instruction" in info:
            self._instruction = str(info["instruction"])
        if not self._instruction:
            raise InputError(
                "neither observation nor info has an entry 'instruction': give MaskedObservation a function "
                "instruction(observation, info)"
            )
        return self._instruction


def _is_picture(space: Any) -> bool:
    return (
        isinstance(space, gymnasium.spaces.Box)
        and space.dtype == np.uint8
        and len(space.shape) == 3
        and space.shape[2] == 3
    )
