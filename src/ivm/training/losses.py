"""The paper's loss, one value a sample, so that a weight can be put on each."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["bce_per_sample", "dice_per_sample", "mask_loss_per_sample"]


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
