"""Losses of both stages; the mask loss is one value a sample, so that a weight can be put on each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ivm.errors import OptionError, TrainingError

__all__ = [
    "DISCRIMINATOR_LOSSES",
    "bce_per_sample",
    "dice_per_sample",
    "discriminator_loss",
    "distillation_loss_per_sample",
    "generator_loss_per_sample",
    "mask_loss_per_sample",
]


def bce_per_sample(logits_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Binary cross-entropy of logits, averaged over the pixels of each sample: float [B].

    Args:
        logits_BHW: float.
        target_BHW: float in [0, 1].
    """
    loss = F.binary_cross_entropy_with_logits(logits_BHW.float(), target_BHW.float(), reduction="none")
    return loss.flatten(1).mean(dim=1)


def dice_per_sample(
    logits_BHW: Tensor, target_BHW: Tensor, scale: float = 1000.0, eps: float = 1e-6
) -> Tensor:
    """1 - (2 sum(p t) + eps) / (sum p + sum t + eps), p = sigmoid(logits), sums over `scale`: float [B].

    Source: the paper's reference code (sums scaled by 1/1000, eps 1e-6).
    """
    p = logits_BHW.float().sigmoid().flatten(1)
    t = target_BHW.float().flatten(1)
    both = 2.0 * (p / scale * t).sum(dim=1)
    total = (p / scale).sum(dim=1) + (t / scale).sum(dim=1)
    return 1.0 - (both + eps) / (total + eps)


def mask_loss_per_sample(logits_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """BCE + Dice: float [B]. Source: the paper's generator loss before weighting."""
    return bce_per_sample(logits_BHW, target_BHW) + dice_per_sample(logits_BHW, target_BHW)


def generator_loss_per_sample(
    logits_BHW: Tensor, found_B: Tensor, target_BHW: Tensor, present_B: Tensor, found_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What an annotation costs, before weighting: (mask + found_weight * found, mask, found), float [B] each.

    A present target costs BCE + Dice; an absent one BCE alone, for Dice says nothing where nothing is
    relevant. The found score costs its BCE (ours; the paper has no found score).

    Args:
        logits_BHW: float, of the heatmap.
        found_B: float, logits of the found score.
        target_BHW: float in [0, 1].
        present_B: bool, whether the target is in the picture.
        found_weight: weight of the found score's loss beside the mask loss.
    """
    mask = torch.where(
        present_B, mask_loss_per_sample(logits_BHW, target_BHW), bce_per_sample(logits_BHW, target_BHW)
    )
    found = F.binary_cross_entropy_with_logits(found_B.float(), present_B.float(), reduction="none")
    return mask + found_weight * found, mask, found


def distillation_loss_per_sample(
    logits_BHW: Tensor,
    found_B: Tensor,
    teacher_logits_BHW: Tensor,
    teacher_found_B: Tensor,
    found_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """What differing from a teacher costs: (mask + found_weight * found, mask, found), float [B] each.

    The cross-entropies of `generator_loss_per_sample` with the teacher's probabilities for truth (Hinton et
    al., 2015, at temperature 1), and Dice between both heatmaps, by as much as the teacher finds the target.
    No gradient reaches the teacher.

    Args:
        logits_BHW: float, of the heatmap.
        found_B: float, logits of the found score.
        teacher_logits_BHW: float, of any height and width: brought to those of `logits_BHW`.
        teacher_found_B: float.
        found_weight: weight of the found score's loss beside the mask loss.
    """
    taught = teacher_logits_BHW.detach().float()
    if taught.shape[1:] != logits_BHW.shape[1:]:
        size = logits_BHW.shape[1:]
        taught = F.interpolate(taught[:, None], size=size, mode="bilinear", antialias=True)[:, 0]
    heat, there = taught.sigmoid(), teacher_found_B.detach().float().sigmoid()
    mask = bce_per_sample(logits_BHW, heat) + there * dice_per_sample(logits_BHW, heat)
    found = F.binary_cross_entropy_with_logits(found_B.float(), there, reduction="none")
    return mask + found_weight * found, mask, found


DISCRIMINATOR_LOSSES = ("paper", "positive-unlabelled")
"""Names that `discriminator_loss` takes."""


def discriminator_loss(
    logits_B: Tensor,
    human_B: Tensor,
    method: str = "paper",
    eta: float = 0.5,
    clip: tuple[float, float] = (0.1, 0.9),
) -> Tensor:
    """Loss of the discriminator over a batch with both kinds of annotation: a scalar.

    Args:
        logits_B: float; D = sigmoid(logits).
        human_B: bool, True: a human annotation.
        method: "paper", stage I of the paper: -E_human[log D] - E_machine[log(1 - D)].
            "positive-unlabelled", DWBC (Xu et al., ICML 2022):
            -E_human[log D] - E_machine[log(1 - D)] / eta + E_human[log(1 - D)]; machine annotations are a
            mixture, of which a share may be as good as human ones; the last term takes back what they cost
            when they are.
        eta: share of good ones presumed, in (0, 1]; of the second alone.
        clip: D is kept in this range in the second, which is otherwise unbounded below (as in DWBC).

    Raises:
        TrainingError: the batch lacks one of the two kinds: there is nothing to tell apart.
        OptionError: the method is unknown.
    """
    if method not in DISCRIMINATOR_LOSSES:
        raise OptionError(
            f"the discriminator's loss must be one of {', '.join(DISCRIMINATOR_LOSSES)}, but is {method!r}"
        )
    if not human_B.any() or human_B.all():
        raise TrainingError(
            "a batch for the discriminator needs human and machine annotations, but has one kind"
        )
    logits = logits_B.float()
    human, machine = logits[human_B], logits[~human_B]
    if method == "paper":
        return F.softplus(-human).mean() + F.softplus(machine).mean()
    low, high = clip
    d_human, d_machine = human.sigmoid().clamp(low, high), machine.sigmoid().clamp(low, high)
    unlabelled = torch.log1p(-d_machine).mean() / eta
    return -d_human.log().mean() - unlabelled + torch.log1p(-d_human).mean()
