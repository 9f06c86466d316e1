"""What tests of the robot room share."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from ivm.errors import InputError, IVMError
from ivm.types import Heatmap

_WHY = "needs the extra 'robot' and an off-screen OpenGL library (EGL or OSMesa)"

MISSING = [name for name in ("gymnasium", "mujoco", "torch") if importlib.util.find_spec(name) is None]

if MISSING:

    class SkippedModule(pytest.Module):
        """A file of tests that cannot even be imported here; its skip says why."""

        def collect(self):
            pytest.skip(f"{_WHY}: {', '.join(MISSING)} not installed")

    def pytest_pycollect_makemodule(module_path, parent):
        return SkippedModule.from_parent(parent, path=module_path)

else:
    import gymnasium

    @pytest.fixture(scope="session")
    def simulator():
        """Makes tabletop environments by keywords; skips where nothing can be rendered."""
        from ivm.robot.tabletop import TabletopEnv

        try:
            env = TabletopEnv("reach", distractors=0, size=32)
            env.reset(seed=0)
            env.close()
        except InputError:
            raise  # a fault of ours, not of this machine
        except IVMError as error:
            pytest.skip(f"{_WHY}: {error}")
        return TabletopEnv

    class CameraEnv(gymnasium.Env):
        """Two cameras that see a bright square on a dark ground, and a robot in the upper left corner."""

        def __init__(self) -> None:
            box = gymnasium.spaces.Box(0, 255, (40, 60, 3), np.uint8)
            self.observation_space = gymnasium.spaces.Dict(
                {"front": box, "hand": box, "joints": gymnasium.spaces.Box(-1, 1, (2,), np.float32)}
            )
            self.action_space = gymnasium.spaces.Discrete(2)
            self.steps = 0

        def _observation(self):
            picture = np.full((40, 60, 3), 50, np.uint8)
            picture[10:20, 30:40] = 200
            picture[:8, :8] = (100 + self.steps, 0, 0)
            return {"front": picture, "hand": picture.copy(), "joints": np.zeros(2, np.float32)}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return self._observation(), {"instruction": "the bright square"}

        def step(self, action):
            self.steps += 1
            return self._observation(), 0.0, False, False, {}

        def robot_mask(self, camera):
            mask = np.zeros((40, 60), bool)
            mask[:8, :8] = True
            return mask

    @pytest.fixture
    def camera_env():
        return CameraEnv()


class Bright:
    """A masker that keeps what is bright, and remembers what it was asked."""

    fingerprint = "0123456789ab"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def batch(self, images, instructions):
        self.asked += list(instructions)
        return [
            Heatmap.from_mask(np.asarray(image).min(axis=2) > 150, text)
            for image, text in zip(images, instructions, strict=True)
        ]


@pytest.fixture
def bright() -> Bright:
    return Bright()
