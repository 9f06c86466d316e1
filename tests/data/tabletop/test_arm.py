from __future__ import annotations

import numpy as np
import pytest

from ivm.data.tabletop.arm import draw_arm, joints, sample_arm
from ivm.data.tabletop.stage import Drawing


@pytest.mark.parametrize("seed", range(20))
def test_links_keep_their_lengths_and_reach_the_tip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tip = np.append(rng.uniform(-0.3, 0.3, 2), rng.uniform(0.02, 0.3))
    arm = sample_arm(tip, rng.uniform(0, 6), rng)
    shoulder, elbow, wrist = joints(arm)
    assert np.linalg.norm(elbow - shoulder) == pytest.approx(arm.links[0])
    assert np.linalg.norm(wrist - elbow) == pytest.approx(arm.links[1], abs=2e-3)
    np.testing.assert_allclose(wrist[:2], tip[:2])
    assert wrist[2] > tip[2]
    assert elbow[2] > min(shoulder[2], wrist[2])  # the elbow is up
    np.testing.assert_allclose(shoulder[:2], arm.base)


def test_hand_and_fingers_are_told_from_the_arm() -> None:
    drawing = Drawing()
    arm = sample_arm(np.array([0.0, 0.0, 0.1]), 1.0, np.random.default_rng(0))
    draw_arm(drawing, arm, 7, 8)
    assert set(drawing.owners) == {7, 8}
    fingers = [p for (p, _), owner in zip(drawing.poses, drawing.owners, strict=True) if owner == 8][-2:]
    gap = np.linalg.norm(fingers[0] - fingers[1])
    assert gap == pytest.approx(arm.opening + 0.01, abs=1e-6)
    for _, rotation in drawing.poses:
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)
