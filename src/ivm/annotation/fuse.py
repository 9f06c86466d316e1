"""From the proposals of several experts to one soft heatmap, and how far to trust it. Pure numpy.

The paper says that proposals are fused to a soft heatmap, but gives no formula. This one is ours. For expert
e with weight w_e and threshold t_e, phrase k, and a proposal p_ek of values in [0, 1] per pixel:

    c_ek = p_ek calibrated: straight from 0 to 1/2 below t_e, straight from 1/2 to 1 above, so that "above
           the threshold" is "above 1/2" for every expert, and a mean of experts means something
    m_k  = sum_e w_e c_ek / sum_e w_e    over the experts that found k; k is missing where these are fewer
                                         than half, by weight, of those that have a vote
    h    = max_k m_k                     the union: its mask is the union of the phrases' masks

A proposal that keeps nearly the whole picture is a usual way in which grounding fails (and one way to the
bump at the right of the paper's Figure 5). It has no vote, is told in `Fused.failed`, and where nothing else
is left the fault is "nearly-whole-image".

    reliability = mean over phrases of the mean IoU of two experts' masks, weighted by w_e w_f, those without
                  a vote included; a missing phrase counts 0. None for one expert, who has nobody to agree
                  with. Experts that err alike agree, too: it tells the more the less they are related.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ivm.data.clean import Limits
from ivm.errors import InputError, OptionError
from ivm.metrics import iou
from ivm.types import Heatmap, check_threshold

__all__ = ["FAULTS", "WHOLE", "Fused", "Proposal", "calibrate", "fuse"]

WHOLE = Limits().whole
"""Kept area from which on a mask counts as nearly the whole picture: the same as for `ivm data clean`."""

FAULTS: dict[str, str] = {
    "not-found": "fewer than half of the experts found any phrase",
    "nearly-whole-image": "nearly the whole picture was kept: failed grounding, as a rule",
    "disagreement": "the experts found the target in different places, so that hardly a pixel has a majority",
}
"""What may be wrong with a fused heatmap."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """What one expert says about one phrase.

    Attributes:
        expert: its name.
        phrase: what it was asked.
        heatmap: its answer, at the image's size, with its own score, found and threshold.
        weight: the expert's weight, above 0.
    """

    expert: str
    phrase: str
    heatmap: Heatmap
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise OptionError(f"the weight of {self.expert} must be above 0 and finite, but is {self.weight}")

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]: what the expert keeps; nothing where it did not find the phrase."""
        return self.heatmap.to_mask() if self.heatmap.found else np.zeros(self.heatmap.shape, bool)


@dataclass(frozen=True, eq=False)
class Fused:
    """One annotation out of many proposals.

    Attributes:
        heatmap: soft, float32 [H, W] in [0, 1] with threshold 0.5; all zero where nothing was found.
        reliability: agreement of the experts in [0, 1], see the module; None for a single expert.
        fault: a key of FAULTS; empty if nothing is wrong.
        found, missing: the phrases that half of the experts or more did, and did not, find.
        failed: (expert, phrase) of the proposals that kept nearly the whole picture and had no vote.
    """

    heatmap: Heatmap
    reliability: float | None
    fault: str
    found: tuple[str, ...]
    missing: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def calibrate(heatmap: Heatmap) -> np.ndarray:
    """float32 [H, W] in [0, 1]: the heatmap's values with its threshold moved to 0.5, piecewise linearly."""
    limit = float(np.clip(heatmap.threshold, 1e-3, 1.0 - 1e-3))
    low = heatmap.values * np.float32(0.5 / limit)
    high = (heatmap.values - np.float32(limit)) * np.float32(0.5 / (1.0 - limit)) + np.float32(0.5)
    return np.where(heatmap.values > limit, high, low).clip(0.0, 1.0)


def fuse(proposals: Sequence[Proposal], instruction: str = "", whole: float = WHOLE) -> Fused:
    """Fuse the proposals for one image and instruction, by the formulas at the top of this module.

    Args:
        proposals: of every expert for every phrase; all of one size.
        instruction: goes into the heatmap.
        whole: kept area in [0, 1] from which on a mask counts as nearly the whole picture.

    Raises:
        InputError: there is no proposal, or their sizes differ.
        OptionError: `whole` is outside [0, 1].
    """
    check_threshold(whole, "whole")
    shapes = {proposal.heatmap.shape for proposal in proposals}
    if len(shapes) != 1:
        raise InputError(f"proposals must be one or more of one size, but have {sorted(shapes) or 'none'}")
    values = np.zeros(shapes.pop(), np.float32)
    by_phrase: dict[str, list[Proposal]] = {}
    for proposal in proposals:
        by_phrase.setdefault(proposal.phrase, []).append(proposal)
    found, missing, failed, scores, agreements = [], [], [], [], []
    nearly_whole = values
    for phrase, answers in by_phrase.items():
        masks = [answer.mask for answer in answers]
        bad = [bool(mask.mean() >= whole) for mask in masks]
        failed += [(answer.expert, phrase) for answer, out in zip(answers, bad, strict=True) if out]
        if out := [answer for answer, out in zip(answers, bad, strict=True) if out]:
            nearly_whole = np.maximum(nearly_whole, _mean(out))
        voting = [answer for answer, out in zip(answers, bad, strict=True) if not out]
        ayes = [answer for answer in voting if answer.heatmap.found]
        agreement = _agreement(answers, masks)
        if not ayes or 2 * _weight(ayes) < _weight(voting):
            missing.append(phrase)
            agreements.append(None if agreement is None else 0.0)
            continue
        found.append(phrase)
        agreements.append(agreement)
        values = np.maximum(values, _mean(ayes))
        scores.append(math.fsum(one.weight * one.heatmap.score for one in voting) / _weight(voting))
    kept = float((values > 0.5).mean())
    if not found:
        fault = "nearly-whole-image" if failed else "not-found"
        values = nearly_whole  # what the fault tells of, for those who keep it
    elif kept >= whole:
        fault = "nearly-whole-image"
    else:
        fault = "" if kept >= Limits().speck else "disagreement"
    known = [agreement for agreement in agreements if agreement is not None]
    return Fused(
        Heatmap(values.clip(0.0, 1.0), min(scores, default=0.0), bool(found), 0.5, instruction),
        float(np.mean(known)) if known else None,
        fault,
        tuple(found),
        tuple(missing),
        tuple(failed),
    )


def _mean(proposals: Sequence[Proposal]) -> np.ndarray:
    """Calibrated heatmaps, averaged by weight: float32 [H, W]."""
    mean = sum(one.weight * calibrate(one.heatmap) for one in proposals) / np.float32(_weight(proposals))
    return np.asarray(mean, np.float32)


def _weight(proposals: Sequence[Proposal]) -> float:
    return math.fsum(proposal.weight for proposal in proposals)  # 0.1 and 0.2 weigh as much as 0.3


def _agreement(answers: Sequence[Proposal], masks: Sequence[np.ndarray]) -> float | None:
    """Mean IoU of two experts' masks, weighted; None for fewer than two."""
    pairs = list(combinations(range(len(answers)), 2))
    if not pairs:
        return None
    weights = [answers[i].weight * answers[j].weight for i, j in pairs]
    overlaps = [iou(masks[i], masks[j]) for i, j in pairs]
    return float(np.average(overlaps, weights=weights))
