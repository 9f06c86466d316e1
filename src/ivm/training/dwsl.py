"""Discriminator-weighted supervised learning (DWSL): both train steps, and the weights between them.

Stage I teaches the discriminator human against machine annotations. Stage II trains the generator on both,
each sample's loss multiplied by a weight from the frozen discriminator (the paper, section 4).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ivm.errors import OptionError, TrainingError
from ivm.models.compact import CompactModel
from ivm.models.compact_discriminator import CompactDiscriminator
from ivm.training.loop import Batch, LoopConfig, train_step
from ivm.training.losses import discriminator_loss
from ivm.training.precision import uses_bf16

__all__ = [
    "WEIGHTS",
    "discriminator_scores",
    "discriminator_step",
    "generator_step",
    "sample_weights",
]


def _dwsl(score: Tensor, human: Tensor, progress: float, clip: tuple[float, float]) -> Tensor:
    return score.clamp(*clip)


def _odds(score: Tensor, human: Tensor, progress: float, clip: tuple[float, float]) -> Tensor:
    kept = score.clamp(*clip)
    return kept / (1.0 - kept)


def _self_paced(score: Tensor, human: Tensor, progress: float, clip: tuple[float, float]) -> Tensor:
    limit = clip[1] - (clip[1] - clip[0]) * progress
    return (human | (score >= limit)).float()


WEIGHTS: dict[str, Callable[[Tensor, Tensor, float, tuple[float, float]], Tensor]] = {
    "dwsl": _dwsl,
    "odds": _odds,
    "self-paced": _self_paced,
    "equal": lambda score, human, progress, clip: torch.ones_like(score),
    "human": lambda score, human, progress, clip: human.float(),
    "machine": lambda score, human, progress, clip: (~human).float(),
}
"""Weight of a sample, by name: "dwsl", the paper's clip(D, 0.1, 0.9); "odds", d / (1 - d) of the clipped D,
the density ratio of human to machine annotations that D estimates; "self-paced", human ones always and
machine ones once D reaches a limit that falls from the upper clip to the lower over the run (a curriculum
over reliability, as CLIP-VG has for pseudo-labels; ours); "equal", 1; "human" and "machine", those alone."""


def sample_weights(
    scores_B: Tensor,
    human_B: Tensor,
    method: str = "dwsl",
    progress: float = 1.0,
    clip: tuple[float, float] = (0.1, 0.9),
) -> Tensor:
    """float [B], no gradient; not normalised, as in the paper.

    Args:
        scores_B: D in [0, 1].
        human_B: bool, True: a human annotation.
        method: a name in WEIGHTS.
        progress: how much of the run is done, in [0, 1]; of "self-paced" alone.
        clip: range of D: below 1, or an overconfident D silences what it has not seen, and above 0, so that
            no sample is lost for good (the paper).

    Raises:
        OptionError: the method is unknown, or `clip` or `progress` out of range.
    """
    if method not in WEIGHTS:
        raise OptionError(f"weights must be one of {', '.join(WEIGHTS)}, but got {method!r}")
    if not 0.0 <= clip[0] < clip[1] < 1.0:
        raise OptionError(f"clip must be (low, high) with 0 <= low < high < 1, but got {clip}")
    if not 0.0 <= progress <= 1.0:
        raise OptionError(f"progress must be in [0, 1], but got {progress}")
    return WEIGHTS[method](scores_B.detach().float(), human_B, progress, clip).detach()


def discriminator_scores(
    discriminator: CompactDiscriminator, batch: Batch, precision: str = "fp32"
) -> Tensor:
    """D in [0, 1] of each question's annotation, float [Q]; with the gradient that the caller allows.

    `precision`: "auto", "bf16" or "fp32" (`ivm.training.precision`).
    """
    return _logits(discriminator, batch, precision).sigmoid()


def discriminator_step(
    discriminator: CompactDiscriminator,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    method: str = "paper",
    clip_norm: float = 1.0,
    precision: str = "fp32",
) -> dict[str, float]:
    """Stage I: one optimiser step; returns the loss and the mean D of human and machine annotations.

    `precision`: "auto", "bf16" or "fp32" (`ivm.training.precision`).

    Raises:
        TrainingError: the batch has one kind of annotation alone, or the gradient is not finite.
    """
    logits = _logits(discriminator, batch, precision)
    loss = discriminator_loss(logits, batch.human, method)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if not torch.isfinite(torch.nn.utils.clip_grad_norm_(discriminator.parameters(), clip_norm)):
        raise TrainingError("the gradient of the discriminator is not finite: lower its learning rate")
    optimizer.step()
    scores = logits.detach().sigmoid()
    return {
        "loss": loss.item(),
        "human": scores[batch.human].mean().item(),
        "machine": scores[~batch.human].mean().item(),
    }


def generator_step(
    model: CompactModel,
    discriminator: CompactDiscriminator | None,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: LoopConfig,
    method: str = "dwsl",
    progress: float = 1.0,
) -> dict[str, float]:
    """Stage II: one optimiser step on mean(w * loss), w from the frozen discriminator.

    Args:
        discriminator: None where the method does not ask it: "equal", "human", "machine". It is computed in
            the precision of `config`, too.
    """
    if discriminator is None:
        if method not in ("equal", "human", "machine"):
            raise OptionError(f"weights {method!r} need a discriminator, but got None")
        scores = torch.ones(len(batch.found), device=batch.images.device)
    else:
        with torch.no_grad():
            scores = discriminator_scores(discriminator.eval(), batch, config.precision)
    weights = sample_weights(scores, batch.human, method, progress)
    return train_step(model, batch, (optimizer,), config, weights) | {"weight": weights.mean().item()}


def _logits(discriminator: CompactDiscriminator, batch: Batch, precision: str) -> Tensor:
    kind = batch.images.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=uses_bf16(precision, kind)):
        return discriminator(batch.images, batch.targets, batch.ids, batch.mask, batch.picture).float()
