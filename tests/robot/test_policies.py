from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from ivm.errors import InputError, OptionError
from ivm.robot.masking import MaskSettings
from ivm.robot.policies import MaskedPolicy

SETTINGS = MaskSettings(every=2, options={"dilate": 0.0, "feather": 0.0})
CLOSE = {"atol": 3e-3, "rtol": 0}
KEY = "observation.images.front"


class Policy(torch.nn.Module):
    """In the form of LeRobot's PreTrainedPolicy."""

    name = "fake"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def select_action(self, batch):
        self.seen.append(batch)
        return batch["observation.state"] + 1

    def forward(self, batch):
        self.seen.append(batch)
        return batch[KEY].mean(), {}


def batch(count: int = 2, dtype: torch.dtype = torch.float32) -> dict:
    picture = torch.full((count, 3, 40, 60), 0.2)
    picture[:, :, 10:20, 30:40] = 0.8
    if dtype == torch.uint8:
        picture = (picture * 255).round()
    return {
        KEY: picture.to(dtype),
        "observation.state": torch.zeros(count, 4),
        "task": ["the bright square"] * count,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8])
def test_a_policy_sees_masked_pictures_of_the_same_form(bright, dtype) -> None:
    inner = Policy()
    policy = MaskedPolicy(inner, bright, SETTINGS)
    given = batch(dtype=dtype)
    before = given[KEY].clone()
    action = policy.select_action(given)
    assert torch.equal(action, torch.ones(2, 4))
    seen = inner.seen[0][KEY]
    assert seen.dtype == dtype
    assert seen.shape == before.shape
    white = 255 if dtype == torch.uint8 else 1.0
    assert (seen[:, :, 25:] == white).all()
    torch.testing.assert_close(
        seen[:, :, 10:20, 30:40].float(), before[:, :, 10:20, 30:40].float(), atol=3e-3, rtol=0
    )
    assert torch.equal(given[KEY], before)
    assert policy.name == "fake"  # all else passes through


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: policy.to("cpu"),
        lambda policy: policy.eval(),
        lambda policy: policy.train(mode=False),
        lambda policy: policy.half().requires_grad_(False),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_what_gives_back_the_policy_still_masks(bright, change) -> None:
    policy = change(MaskedPolicy(Policy(), bright, SETTINGS))
    policy.select_action(batch())
    loss, _ = policy(batch())
    assert isinstance(policy, MaskedPolicy)
    assert loss > 0.9
    for seen in policy.seen:
        assert (seen[KEY][:, :, 25:] == 1).all()


def test_a_deep_copy_has_weights_of_its_own_and_the_same_masker(bright) -> None:
    inner = Policy()
    inner.network = torch.nn.Linear(2, 2)
    policy = MaskedPolicy(inner, bright, SETTINGS)
    policy.select_action(batch())
    average = copy.deepcopy(policy)
    assert average.policy is not inner
    with torch.no_grad():
        inner.network.weight += 1
    assert not torch.equal(average.network.weight, inner.network.weight)
    average.select_action(batch())  # its first look: nothing is remembered of the other's
    assert len(bright.asked) == 4


def test_what_is_no_method_passes_through_as_it_is(bright) -> None:
    inner = Policy()
    inner.network = torch.nn.Linear(2, 2)
    policy = MaskedPolicy(inner, bright, SETTINGS)
    assert policy.network is inner.network
    assert [name for name, _ in policy.named_parameters()] == ["network.weight", "network.bias"]
    assert policy.train() is policy
    assert inner.training
    assert policy.eval().policy is inner
    assert not inner.training
    with pytest.raises(AttributeError, match="nothing"):
        _ = policy.nothing


def test_heatmaps_serve_between_and_each_robot_has_its_own(bright) -> None:
    policy = MaskedPolicy(Policy(), bright, SETTINGS)
    given = batch()
    given["task"] = ["the first", "the second"]
    for _ in range(4):
        policy.select_action(given)
    assert bright.asked == ["the first", "the second"] * 2
    policy.reset()
    assert policy.policy.resets == 1
    policy.select_action(given)
    assert len(bright.asked) == 6
    policy.forward(given)  # training looks at every picture, and does not disturb what is remembered
    policy.forward(given)
    assert len(bright.asked) == 10
    policy.select_action(given)
    assert len(bright.asked) == 10


def test_the_robot_stays_visible(bright) -> None:
    masks = np.zeros((2, 40, 60), bool)
    masks[0, :5], masks[1, 35:] = True, True
    inner = Policy()
    MaskedPolicy(inner, bright, SETTINGS, robot_mask={KEY: masks}).select_action(batch())
    seen = inner.seen[0][KEY]
    assert (seen[0, :, :5] < 0.5).all()
    assert (seen[1, :, :5] == 1).all()
    assert (seen[1, :, 35:] < 0.5).all()


def test_what_does_not_fit_is_told(bright) -> None:
    with pytest.raises(OptionError, match="must have select_action"):
        MaskedPolicy(object(), bright)
    with pytest.raises(OptionError, match="three channels"):
        MaskedPolicy(Policy(), bright, MaskSettings("transparent"))
    policy = MaskedPolicy(Policy(), bright)
    without = batch()
    del without["task"]
    with pytest.raises(InputError, match="an entry 'task'"):
        policy.select_action(without)
    with pytest.raises(InputError, match="must have pictures under"):
        policy.select_action({"task": ["x"]})
    with pytest.raises(InputError, match="as many instructions as pictures"):
        policy.select_action({**batch(), "task": ["x"] * 3})
    with pytest.raises(InputError, match=r"must be a tensor \[B, 3, H, W\]"):
        policy.select_action({**batch(), KEY: torch.zeros(2, 40, 60, 3)})
    with pytest.raises(InputError, match="mask before normalising"):
        policy.select_action({**batch(), KEY: batch()[KEY] * 4 - 2})
