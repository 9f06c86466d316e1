import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ivm.training.losses import bce_per_sample, dice_per_sample, mask_loss_per_sample


def reference(logits, target, scale=1000.0, eps=1e-6):
    """BCE and Dice of one sample in float64, from the definition."""
    x, t = logits.astype(np.float64).ravel(), target.astype(np.float64).ravel()
    p = 1 / (1 + np.exp(-x))
    bce = np.mean(-(t * np.log(p) + (1 - t) * np.log(1 - p)))
    both, total = 2 * np.sum(p / scale * t), np.sum(p) / scale + np.sum(t) / scale
    return bce, 1 - (both + eps) / (total + eps)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_losses_agree_with_the_definition(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (3, 7, 5)).astype(np.float32)
    target = rng.random((3, 7, 5)).astype(np.float32)
    bce = bce_per_sample(torch.from_numpy(logits), torch.from_numpy(target)).numpy()
    dice = dice_per_sample(torch.from_numpy(logits), torch.from_numpy(target)).numpy()
    for i in range(3):
        want_bce, want_dice = reference(logits[i], target[i])
        np.testing.assert_allclose(bce[i], want_bce, rtol=1e-4)
        np.testing.assert_allclose(dice[i], want_dice, rtol=1e-4, atol=1e-5)


def test_each_sample_has_its_own_loss():
    logits = torch.randn(4, 6, 6)
    target = (torch.rand(4, 6, 6) > 0.5).float()
    together = mask_loss_per_sample(logits, target)
    alone = torch.cat([mask_loss_per_sample(logits[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


def test_a_perfect_heatmap_costs_next_to_nothing_and_its_opposite_much():
    target = torch.zeros(1, 8, 8)
    target[:, 2:5, 2:6] = 1
    right = (target * 2 - 1) * 20
    assert mask_loss_per_sample(right, target).item() < 1e-3
    assert mask_loss_per_sample(-right, target).item() > 15
