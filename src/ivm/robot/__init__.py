"""Masking for robots: wrappers for environments and policies, a tabletop environment, behaviour cloning.

Importing it makes the environment known to Gymnasium, which is what Gymnasium imports a module for:

    env = gymnasium.make("ivm.robot:ivm/Tabletop-v0")
"""

from __future__ import annotations

from ivm.errors import require

__all__ = ["ENVIRONMENT", "MAX_STEPS", "register"]

ENVIRONMENT = "ivm/Tabletop-v0"
"""The id under which Gymnasium knows the tabletop environment."""

MAX_STEPS = 80
"""Steps after which an episode is cut off: about twice what the slowest task takes."""


def register() -> None:
    """Make the environment known to Gymnasium; calling it again does nothing.

    Raises:
        MissingExtraError: gymnasium is not installed.
    """
    gymnasium = require("gymnasium", "robot")
    if ENVIRONMENT not in gymnasium.registry:
        gymnasium.register(
            id=ENVIRONMENT, entry_point="ivm.robot.tabletop:TabletopEnv", max_episode_steps=MAX_STEPS
        )


register()
