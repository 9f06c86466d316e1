import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ivm.training.losses import (
    bce_per_sample,
    dice_per_sample,
    distillation_loss_per_sample,
    generator_loss_per_sample,
    mask_loss_per_sample,
)


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


def test_a_sure_teacher_costs_what_its_mask_would_as_an_annotation():
    logits, found = torch.randn(2, 6, 6), torch.randn(2)
    target = (torch.rand(2, 6, 6) > 0.5).float()
    target[1] = 0
    present = torch.tensor([True, False])
    taught = distillation_loss_per_sample(
        logits, found, (target * 2 - 1) * 40, (present.float() * 2 - 1) * 40, 0.3
    )
    annotated = generator_loss_per_sample(logits, found, target, present, 0.3)
    for one, other in zip(taught, annotated, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_teacher_is_met_where_it_says_what_the_student_says_and_gets_no_gradient():
    logits, found = torch.randn(3, 6, 6), torch.randn(3)
    teacher = [logits.clone().requires_grad_(), found.clone().requires_grad_()]
    student = [logits.clone().requires_grad_(), found.clone().requires_grad_()]
    distillation_loss_per_sample(*student, *teacher, 0.3)[2].sum().backward()
    assert student[1].grad.abs().max() < 1e-6  # the cross-entropy is at its lowest
    far = [(part.detach() + 1).requires_grad_() for part in student]
    distillation_loss_per_sample(*far, *teacher, 0.3)[0].sum().backward()
    assert far[0].grad.any()
    assert teacher[0].grad is None
    assert teacher[1].grad is None


def test_a_teacher_may_answer_at_another_resolution():
    heat = torch.full((1, 24, 24), -6.0)
    heat[:, 6:18, 6:18] = 6.0
    small = torch.full((1, 6, 6), -6.0)
    small[:, 2:4, 2:4] = 6.0
    there = torch.tensor([6.0])
    near = distillation_loss_per_sample(small, there, heat, there, 0.3)[1]
    off = distillation_loss_per_sample(small.roll(2, dims=2), there, heat, there, 0.3)[1]
    assert near.item() < 0.5 * off.item()
