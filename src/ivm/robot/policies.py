"""A wrapper that masks what a policy sees, for policies that take dicts of tensors as LeRobot's do."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np

from ivm.errors import InputError, OptionError, require
from ivm.robot.masking import MaskSettings, RobotMask, StreamMasker, robot_mask_of
from ivm.types import Masking

__all__ = ["MaskedPolicy"]

_IMAGES = "observation.images."  # LeRobot's prefix of pictures


class MaskedPolicy:
    """A policy that sees masked pictures; whatever else the policy offers passes through.

    Methods that give back the policy itself, such as torch's `.to(device)` and `.eval()`, give back this one.

    The policy has `select_action(batch)`, as LeRobot's `PreTrainedPolicy` does, where a batch is a dict:
    pictures float [B, 3, H, W] in [0, 1] (or uint8) under "observation.images.<camera>", instructions as a
    list of B strings (or one string) under "task". No LeRobot is imported.

    Put it where pictures still have the camera's values: before what normalises them.

    Args:
        policy: the policy.
        masker: any `Masking`.
        settings: deployment mode, how often the masker looks, options of rendering. Mode "transparent" is
            refused: a policy wants three channels.
        image_keys: keys of the pictures to mask; default: all that begin with "observation.images.".
        instruction_key: key of the instructions.
        robot_mask: (key) -> bool [H, W] or [B, H, W], the robot's pixels now, or fixed masks by key; None:
            the robot is masked like all else.

    Raises:
        OptionError: the policy has no `select_action`, or the mode is "transparent".
        MissingExtraError: torch is not installed.
    """

    def __init__(
        self,
        policy: Any,
        masker: Masking,
        settings: MaskSettings | None = None,
        image_keys: Sequence[str] | None = None,
        instruction_key: str = "task",
        robot_mask: RobotMask = None,
    ) -> None:
        if not callable(getattr(policy, "select_action", None)):
            raise OptionError(f"a policy must have select_action(batch), but {type(policy).__name__} has not")
        self.settings = settings or MaskSettings()
        if self.settings.channels != 3:
            raise OptionError("policies want pictures of three channels: choose a mode but 'transparent'")
        self._torch = require("torch", "robot")
        self.policy, self._masker = policy, masker
        self._keys = None if image_keys is None else tuple(image_keys)
        self._instruction_key, self._robot = instruction_key, robot_mask
        self._streams: list[StreamMasker] = []

    def __getattr__(self, name: str) -> Any:
        if name == "policy":  # before __init__, as when it is copied
            raise AttributeError(name)
        found = getattr(self.policy, name)
        if not inspect.ismethod(found) or found.__self__ is not self.policy:
            return found

        @wraps(found)
        def passed_on(*given: Any, **options: Any) -> Any:
            result = found(*given, **options)
            return self if result is self.policy else result  # .to(device), .eval(): masks must not be lost

        return passed_on

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskedPolicy:
        """Another policy, as averages of weights want one, behind the same masker; heatmaps are forgotten."""
        policy = copy.deepcopy(self.policy, memo)
        return MaskedPolicy(
            policy, self._masker, self.settings, self._keys, self._instruction_key, self._robot
        )

    def __call__(self, batch: Mapping[str, Any], **options: Any) -> Any:
        """As `forward`."""
        return self.forward(batch, **options)

    def reset(self) -> None:
        """Forget all heatmaps, and reset the policy if it can be; call it when episodes begin."""
        for stream in self._streams:
            stream.reset()
        if callable(getattr(self.policy, "reset", None)):
            self.policy.reset()

    def select_action(self, batch: Mapping[str, Any], **options: Any) -> Any:
        """The policy's action for the masked batch."""
        return self.policy.select_action(self.mask(batch), **options)

    def predict_action_chunk(self, batch: Mapping[str, Any], **options: Any) -> Any:
        """The policy's next actions for the masked batch; a moment of its own, as `select_action` is."""
        return self.policy.predict_action_chunk(self.mask(batch), **options)

    def forward(self, batch: Mapping[str, Any], **options: Any) -> Any:
        """The policy's loss on a masked batch, for training: every picture is looked at, none remembered."""
        return self.policy.forward(self.mask(batch, remember=False), **options)

    def mask(self, batch: Mapping[str, Any], remember: bool = True) -> dict[str, Any]:
        """A copy of the batch with its pictures masked; call it once for each moment.

        Args:
            batch: see above.
            remember: use and keep heatmaps of earlier moments; False for batches drawn from a data set.

        Raises:
            InputError: a key is missing, or pictures or instructions are not of the form given above.
        """
        keys = self._keys
        if keys is None:
            keys = tuple(key for key in batch if key.startswith(_IMAGES))
        for key in (*keys, self._instruction_key):
            if key not in batch:
                raise InputError(f"the batch must have an entry {key!r}, but has {', '.join(sorted(batch))}")
        if not keys:
            raise InputError(f"the batch must have pictures under {_IMAGES}..., but has {sorted(batch)}")
        arrays = {key: self._pictures(key, batch[key]) for key in keys}
        count = len(next(iter(arrays.values())))
        texts = batch[self._instruction_key]
        texts = [texts] * count if isinstance(texts, str) else list(texts)
        if len(texts) != count or any(len(array) != count for array in arrays.values()):
            raise InputError(
                f"a batch must have as many instructions as pictures of each camera, but has {len(texts)} "
                f"and {[len(array) for array in arrays.values()]}"
            )
        streams = self._streams  # robots side by side, each with its own heatmaps
        if not remember or len(streams) != count:
            streams = [StreamMasker(self._masker, self.settings) for _ in range(count)]
            self._streams = streams if remember else self._streams
        robots = {key: robot_mask_of(self._robot, key) for key in keys}
        shown: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        for i, (stream, text) in enumerate(zip(streams, texts, strict=True)):
            own: dict[str, np.ndarray] = {
                key: robot if robot.ndim == 2 else robot[i]
                for key, robot in robots.items()
                if robot is not None
            }
            masked = stream({key: array[i] for key, array in arrays.items()}, text, own or None)
            for key, picture in masked.items():
                shown[key].append(picture)
        return {**batch, **{key: self._tensor(np.stack(shown[key]), batch[key]) for key in keys}}

    def _pictures(self, key: str, tensor: Any) -> np.ndarray:
        """uint8 [B, H, W, 3]."""
        if not self._torch.is_tensor(tensor) or tensor.ndim != 4 or tensor.shape[1] != 3:
            kind = list(tensor.shape) if self._torch.is_tensor(tensor) else type(tensor).__name__
            raise InputError(f"{key} must be a tensor [B, 3, H, W], but is {kind}")
        values = tensor.detach().permute(0, 2, 3, 1).cpu()
        if values.dtype == self._torch.uint8:
            return values.numpy()
        values = values.float()
        low, high = float(values.min()), float(values.max())
        if not (low >= -1e-3 and high <= 1.001):  # also refuses NaN
            raise InputError(
                f"{key} must be in [0, 1], but ranges over [{low:.3g}, {high:.3g}]: mask before normalising"
            )
        return (values * 255).round().clamp(0, 255).to(self._torch.uint8).numpy()

    def _tensor(self, pictures: np.ndarray, like: Any) -> Any:
        values = self._torch.from_numpy(pictures).permute(0, 3, 1, 2)
        if like.dtype != self._torch.uint8:
            values = values.float() / 255
        return values.to(device=like.device, dtype=like.dtype).contiguous()
