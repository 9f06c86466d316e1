from __future__ import annotations

import numpy as np
import pytest
import torch

from ivm.errors import DataError
from ivm.robot import moments
from ivm.robot.config import CloningConfig, PolicyConfig
from ivm.robot.demonstrations import Episode
from ivm.robot.moments import Moments, heatmaps_of, shrink

POLICY = PolicyConfig(picture=32, width=4, hidden=32, horizon=4, execute=2)


def episode(seed: int, steps: int = 6) -> Episode:
    """A bright square (the target) and a robot on the left, on a dark ground."""
    picture = np.full((steps, 64, 64, 3), 40, np.uint8)
    picture[:, 20:40, 30:50] = 200
    picture[:, 20:50, :10] = (120, 0, 0)
    robot, relevant = np.zeros((2, steps, 64, 64), bool)
    robot[:, 20:50, :10] = True
    relevant[:, 20:40, 30:50] = True
    arrays = {
        "state": np.full((steps, 5), seed, np.float32),
        "action": np.linspace(-1, 1, steps * 5, dtype=np.float32).reshape(steps, 5),
    }
    for camera in ("side", "wrist"):
        arrays |= {camera: picture, f"{camera}_robot": robot, f"{camera}_relevant": relevant}
    return Episode(seed, "reach for the square", arrays)


def quiet(line: str) -> None:
    """Says nothing."""


def test_batches_are_a_function_of_the_step(tmp_path) -> None:
    config = CloningConfig(masker="none", batch=16, policy=POLICY)
    episodes = [episode(k) for k in range(12)]
    made = Moments(episodes, None, config)
    assert [one.seed for one in made.train] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11]  # 0 and 10 are left out
    assert made.count == 60
    for one, two in zip(made.batch(7), Moments(episodes, None, config).batch(7), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(made.batch(7)[1], made.batch(8)[1])
    pictures, states, texts, chunks = made.batch(0)
    assert pictures.shape == (16, 2, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert (states.shape, texts.shape[0], chunks.shape) == ((16, 5), 16, (16, 4, 5))
    held = list(made.held_out())
    assert sum(len(batch[0]) for batch in held) == 12
    assert set(torch.cat([batch[1][:, 0] for batch in held]).tolist()) == {0.0, 10.0}


def test_after_the_end_the_robot_stands_still() -> None:
    config = CloningConfig(masker="none", batch=64, policy=POLICY)
    made = Moments([episode(0), episode(1, steps=1)], None, config)
    chunk = made.batch(0)[3][0]
    np.testing.assert_allclose(chunk[0], episode(1, 1).arrays["action"][0])
    assert (chunk[1:, :4] == 0).all()
    assert (chunk[1:, 4] == chunk[0, 4]).all()


def test_masked_moments_keep_target_and_robot_and_vary(tmp_path, monkeypatch) -> None:
    config = CloningConfig(masker="environment", batch=8, policy=POLICY)
    episodes = [episode(k) for k in range(2)]
    made = Moments(episodes, heatmaps_of(tmp_path, episodes, config, quiet), config)
    options = []
    real = moments.mask_picture

    def spy(picture, heatmap, robot, settings):
        options.append(dict(settings.options))
        return real(picture, heatmap, robot, settings)

    monkeypatch.setattr(moments, "mask_picture", spy)
    pictures = made.batch(0)[0].float()
    assert (pictures[:, :, :, 14:16, 18:21].mean() - 200).abs() < 3  # the target, wherever it was moved
    assert (pictures[:, :, 0, 14:20, 1:2].mean() - 120).abs() < 25  # the robot
    assert (pictures[:, :, :, 29:, 29:] == 255).all()  # the ground
    drawn = [one["threshold"] for one in options]
    assert len(drawn) == 16
    assert len(set(drawn)) == 16
    assert 0.4 <= min(drawn) < max(drawn) <= 0.9
    assert 0.0 <= min(one["dilate"] for one in options) < max(one["dilate"] for one in options) <= 0.08


@pytest.mark.parametrize("mode", ["blur", "crop", "overlay+crop", "heatmap"])
def test_every_mode_makes_pictures_of_one_size(tmp_path, mode) -> None:
    config = CloningConfig(masker="environment", mode=mode, batch=4, policy=POLICY)
    episodes = [episode(k) for k in range(2)]
    made = Moments(episodes, heatmaps_of(tmp_path, episodes, config, quiet), config)
    assert made.batch(0)[0].shape == (4, 2, 3, 32, 32)


def test_a_models_heatmaps_are_made_once_for_every_nth_picture(tmp_path, bright) -> None:
    config = CloningConfig(masker="bright", every=4, policy=POLICY)
    episodes = [episode(k) for k in range(2)]
    first = heatmaps_of(tmp_path, episodes, config, quiet, bright)
    assert len(bright.asked) == 2 * 2 * 2  # episodes, cameras, moments 0 and 4
    second = heatmaps_of(tmp_path, episodes, config, quiet, bright)
    assert len(bright.asked) == 8
    for one, two in zip(first, second, strict=True):
        for camera in ("side", "wrist"):
            assert len(one[camera]) == 6
            for a, b in zip(one[camera], two[camera], strict=True):
                np.testing.assert_array_equal(a.values, b.values)
            np.testing.assert_array_equal(one[camera][5].to_mask(0.5), episodes[0].arrays["side_relevant"][0])
    assert heatmaps_of(tmp_path, episodes, CloningConfig(masker="none"), quiet) is None


def test_heatmaps_are_told_apart_by_the_maskers_fingerprint(tmp_path, bright) -> None:
    episodes = [episode(k) for k in range(2)]

    def asked(name: str, fingerprint: str) -> int:
        bright.asked.clear()
        bright.fingerprint = fingerprint
        config = CloningConfig(masker=name, every=4, policy=POLICY)
        heatmaps_of(tmp_path, episodes, config, quiet, bright)
        return len(bright.asked)

    assert asked("runs/a", "0" * 12) == 8
    assert asked("runs/a", "1" * 12) == 8  # trained further
    assert asked("runs-a", "2" * 12) == 8
    assert asked("runs/a", "0" * 12) == 0


def test_damaged_heatmaps_are_named(tmp_path, bright) -> None:
    config = CloningConfig(masker="bright", every=4, policy=POLICY)
    heatmaps_of(tmp_path, [episode(0)], config, quiet, bright)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"000000\.npz is damaged, remove it"):
        heatmaps_of(tmp_path, [episode(0)], config, quiet, bright)


def test_shrink_makes_squares() -> None:
    assert shrink(np.zeros((50, 70, 3), np.uint8), 32).shape == (32, 32, 3)
