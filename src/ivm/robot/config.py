"""How the diffusion policy is built, masked and trained: validated values that travel with its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ivm.errors import CheckpointError, OptionError
from ivm.robot.masking import MaskSettings
from ivm.types import check_threshold

__all__ = ["TRUE_MASKS", "UNMASKED", "CloningConfig", "PolicyConfig"]

UNMASKED = "none"
"""Stands for a policy that sees its pictures as they are."""

TRUE_MASKS = "environment"
"""Stands for the masks that the simulation itself knows."""


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes of a policy; all travel with its weights.

    Attributes:
        picture: side in pixels to which pictures are resized, a multiple of 8, 32 to 256.
        width: channels of the first stage of a camera's network; the stages have 1, 2, 3 and 4 times as many.
        hidden: width of the network that takes noise away.
        blocks: its residual blocks.
        horizon: actions of a chunk.
        execute: of these, how many are carried out before it looks again.
        noise_steps: of the diffusion, both in training and at test.
        cameras: names of the pictures.
        state_dim, action_dim: lengths of state and action.

    Raises:
        OptionError: a value is out of range.
    """

    picture: int = 64
    width: int = 16
    hidden: int = 256
    blocks: int = 3
    horizon: int = 8
    execute: int = 4
    noise_steps: int = 40
    cameras: tuple[str, ...] = ("side", "wrist")
    state_dim: int = 5
    action_dim: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        limits = {
            "picture": (32, 256),
            "width": (4, 256),
            "hidden": (16, 4096),
            "blocks": (1, 64),
            "horizon": (1, 128),
            "execute": (1, self.horizon),
            "noise_steps": (2, 1000),
            "state_dim": (1, 1000),
            "action_dim": (1, 1000),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise OptionError(f"policy {name} must be an integer from {low} to {high}, but got {value!r}")
        if self.width % 4:
            raise OptionError(f"policy width must be a multiple of 4, but got {self.width}")
        if self.picture % 8:
            raise OptionError(f"policy picture must be a multiple of 8, but got {self.picture}")
        if not self.cameras:
            raise OptionError("policy cameras must name at least one camera")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PolicyConfig:
        """From plain values, as `dataclasses.asdict` gives them."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise CheckpointError(f"the policy's configuration has an unknown entry {unknown[0]!r}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "cameras": list(self.cameras)}


@dataclass(frozen=True)
class CloningConfig:
    """How a policy is trained.

    Attributes:
        masker: "none"; "environment", the simulation's true masks; or a model for `ivm.load`.
        mode: deployment mode.
        every: the masker looks at every so manieth picture, in training as at test.
        thresholds, dilations: (lowest, highest) of what is drawn for each picture in training, in [0, 1].
        threshold: of masks at test; a masker's own default may lie outside of what training draws from.
        steps: of the optimiser.
        batch: moments in a batch.
        rate: greatest learning rate; warms up, then falls along a cosine.
        seed: of weights, batches and noise.
        policy: sizes of the network.

    Raises:
        OptionError: a value is out of range.
    """

    masker: str = "compact"
    mode: str = "overlay"
    every: int = 4
    thresholds: tuple[float, float] = (0.4, 0.9)
    dilations: tuple[float, float] = (0.0, 0.08)
    threshold: float = 0.6
    steps: int = 3000
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        for name in ("thresholds", "dilations"):
            pair = tuple(getattr(self, name))
            if len(pair) != 2 or not 0.0 <= pair[0] <= pair[1] <= 1.0:
                raise OptionError(f"{name} must be (lowest, highest) in [0, 1], but got {pair!r}")
            object.__setattr__(self, name, pair)
        object.__setattr__(self, "threshold", check_threshold(self.threshold))
        for name in ("steps", "batch"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise OptionError(f"{name} must be an integer of at least 1, but got {getattr(self, name)!r}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise OptionError(f"seed must be an integer from 0 to {2**32 - 1}, but got {self.seed!r}")
        if not 0.0 < self.rate <= 1.0:
            raise OptionError(f"rate must be in (0, 1], but got {self.rate!r}")
        if self.settings.channels != 3:
            raise OptionError("policies want pictures of three channels: choose a mode but 'transparent'")

    @property
    def settings(self) -> MaskSettings:
        """How pictures are masked at test."""
        return MaskSettings(self.mode, self.every, {"threshold": self.threshold})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps({**asdict(self), "policy": self.policy.to_json()}))
