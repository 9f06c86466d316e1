from __future__ import annotations

import numpy as np

from ivm.robot.cameras import CameraRenderer


def test_pictures_and_parts_agree_and_a_context_can_be_opened_again(simulator) -> None:
    env = simulator("reach", size=64, distractors=2)
    observation, _ = env.reset(seed=4)
    for _ in range(2):
        camera = CameraRenderer(env.world.model, env.world.data, 64)
        first, parts, second = camera.picture("side"), camera.parts("side"), camera.picture("side")
        camera.close()
        camera.close()
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, observation["side"])
        model = env.world.model
        assert parts.shape == (64, 64)
        assert {"table", "wall"} <= {model.geom(g).name for g in np.unique(parts) if g >= 0}
        assert (model.geom_group[parts[parts >= 0]] == 0).all()  # what collides is not seen
