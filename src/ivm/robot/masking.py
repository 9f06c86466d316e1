"""Masking of a stream of pictures: heatmaps now and then, the robot always visible.

A robot sees ten or more pictures a second, and what matters in them hardly changes from one to the next. So
the masker looks at every n-th picture of a camera, once for all that is asked, and its heatmap serves until
the next; the robot's own pixels, which do move, are added to every picture anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import cv2
import numpy as np

from ivm.errors import InputError, OptionError
from ivm.render import check_options, render
from ivm.types import Heatmap, Masking, check_instruction

__all__ = ["MaskSettings", "RobotMask", "StreamMasker", "keep_robot", "mask_picture", "robot_mask_of"]

RobotMask: TypeAlias = Callable[[str], np.ndarray] | Mapping[str, np.ndarray] | None
"""Camera -> bool [H, W], the pixels of the robot: a function called for every picture, or fixed masks."""


@dataclass(frozen=True)
class MaskSettings:
    """How pictures of a robot are masked.

    Attributes:
        mode: deployment mode, a key of `ivm.render.MODES`. What a crop leaves is resized to the whole
            picture's size, since a policy wants pictures of one size.
        every: the masker looks at the first picture of an episode and then at every so manieth.
        options: of `ivm.render.render`, such as {"threshold": 0.6, "dilate": 0.03}.

    Raises:
        OptionError: an attribute is not of this kind.
    """

    mode: str = "overlay"
    every: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise OptionError(f"every must be an integer of at least 1, but got {self.every!r}")
        if "longest" in self.options:
            raise OptionError("masked pictures keep their size, but options name longest: leave it out")
        check_options(self.mode, self.options)

    @property
    def channels(self) -> int:
        """Of a masked picture: 3, or 4 where the mode writes transparency."""
        return 4 if self.mode == "transparent" else 3


def keep_robot(heatmap: Heatmap, robot_HW: np.ndarray | None) -> Heatmap:
    """The heatmap with 1 at every pixel of the robot.

    Raises:
        InputError: the robot's mask is not bool [H, W] of the heatmap's size.
    """
    if robot_HW is None:
        return heatmap
    robot = np.asarray(robot_HW)
    if robot.dtype != np.bool_ or robot.shape != heatmap.shape:
        raise InputError(
            f"the robot's mask must be bool {list(heatmap.shape)} like its picture, "
            f"but is {robot.dtype} {list(robot.shape)}"
        )
    return replace(heatmap, values=np.where(robot, np.float32(1.0), heatmap.values))


def mask_picture(
    picture: np.ndarray, heatmap: Heatmap, robot_HW: np.ndarray | None, settings: MaskSettings
) -> np.ndarray:
    """The masked picture, uint8 of the size of `picture` [H, W, 3], [H, W, 4] for mode "transparent".

    The robot's pixels are put back as they were, without the margin that masks are given; what a crop leaves
    reaches as far as the robot does. Where the masker found no target, `not_found` of the settings' options
    decides, as in `ivm.render.render`: by default the whole picture is kept.

    Raises:
        InputError: the robot's mask is not bool [H, W] of the picture's size.
    """
    kept = keep_robot(heatmap, robot_HW)
    shown = heatmap
    if "crop" in settings.mode and heatmap.to_mask(settings.options.get("threshold")).any():
        shown = kept  # else the robot alone would pass for a target
    masked, transform = render(picture, shown, settings.mode, **settings.options)
    if robot_HW is not None:
        (x, y), (w, h) = map(int, transform.offset), transform.size
        part = np.s_[y : y + h, x : x + w]  # what a crop leaves
        masked[robot_HW[part], :3] = picture[part][robot_HW[part]]
        masked[robot_HW[part], 3:] = 255
    if masked.shape[:2] != picture.shape[:2]:
        height, width = picture.shape[:2]
        return cv2.resize(masked, (width, height), interpolation=cv2.INTER_AREA)
    return masked


class StreamMasker:
    """Masks the pictures of one robot, whose cameras are told apart by name.

    Args:
        masker: any `Masking`; an `ivm.masker.Masker` encodes each picture once.
        settings: how.

    Attributes:
        looked: how many pictures the masker has looked at since it was made.
    """

    def __init__(self, masker: Masking, settings: MaskSettings | None = None) -> None:
        self.masker, self.settings = masker, settings or MaskSettings()
        self.looked = 0
        self.reset()

    def reset(self) -> None:
        """Forget all heatmaps; call it when an episode begins."""
        self._steps = 0
        self._instruction = ""
        self._heatmaps: dict[str, Heatmap] = {}

    def heatmaps(self, pictures: Mapping[str, np.ndarray], instruction: str) -> dict[str, Heatmap]:
        """Heatmaps of one moment's pictures, uint8 [H, W, 3] by camera; new ones only where they are due.

        They are due at every n-th call, for a new instruction, and for a camera or size not seen before.
        """
        text = check_instruction(instruction)
        if text != self._instruction:
            self._steps, self._instruction, self._heatmaps = 0, text, {}
        due = [
            name
            for name, picture in pictures.items()
            if self._steps % self.settings.every == 0
            or name not in self._heatmaps
            or self._heatmaps[name].shape != picture.shape[:2]
        ]
        if due:
            found = self.masker.batch([pictures[name] for name in due], [text] * len(due))
            self._heatmaps |= dict(zip(due, found, strict=True))
            self.looked += len(due)
        self._steps += 1  # only now: where the masker fails, they stay due
        return {name: self._heatmaps[name] for name in pictures}

    def __call__(
        self, pictures: Mapping[str, np.ndarray], instruction: str, robot: RobotMask = None
    ) -> dict[str, np.ndarray]:
        """Masked pictures of one moment, by camera; see `mask_picture`."""
        heatmaps = self.heatmaps(pictures, instruction)
        return {
            name: mask_picture(picture, heatmaps[name], robot_mask_of(robot, name), self.settings)
            for name, picture in pictures.items()
        }


def robot_mask_of(robot: RobotMask, camera: str) -> np.ndarray | None:
    """The robot's pixels in the present picture of a camera; None if nobody knows them."""
    if robot is None:
        return None
    if callable(robot):
        return robot(camera)
    if camera not in robot:
        raise InputError(f"robot masks must name every camera, but {camera!r} is not among {sorted(robot)}")
    return robot[camera]
