"""How good masks and heatmaps are; numpy only.

Functions take one question, or one value a question; means over questions come with intervals that know that
questions about the same photo are not independent.
"""

from __future__ import annotations

import numpy as np

from ivm.errors import InputError

__all__ = [
    "auroc",
    "box_iou",
    "ciou",
    "clustered_interval",
    "giou",
    "intersection_and_union",
    "iou",
    "mcnemar",
    "mean_absolute_error",
    "pointing_hit",
    "precision_at",
    "recall_at_false_alarms",
]


def intersection_and_union(mask_HW: np.ndarray, target_HW: np.ndarray) -> tuple[int, int]:
    """Pixels in both and pixels in either of two boolean masks [H, W].

    Raises:
        InputError: they are not boolean, or differ in shape.
    """
    if mask_HW.shape != target_HW.shape:
        raise InputError(
            f"mask and target must be of one shape, but are {mask_HW.shape} and {target_HW.shape}"
        )
    if mask_HW.dtype != np.bool_ or target_HW.dtype != np.bool_:
        raise InputError(f"mask and target must be boolean, but are {mask_HW.dtype} and {target_HW.dtype}")
    both = int(np.count_nonzero(mask_HW & target_HW))
    return both, int(np.count_nonzero(mask_HW)) + int(np.count_nonzero(target_HW)) - both


def iou(mask_HW: np.ndarray, target_HW: np.ndarray) -> float:
    """Intersection over union of two boolean masks [H, W], in [0, 1]; 1 where both are empty.

    So an absent target (empty) scores 1 if nothing was kept and 0 otherwise, as for the no-target samples of
    gRefCOCO (Liu et al., CVPR 2023).
    """
    both, either = intersection_and_union(mask_HW, target_HW)
    return both / either if either else 1.0


def box_iou(mask_HW: np.ndarray, target_HW: np.ndarray) -> float:
    """Intersection over union of the smallest boxes around two boolean masks [H, W]; 1 where both are empty.

    What compares with models that answer with a box: their accuracy on RefCOCO counts those above 0.5.
    """
    return iou(_filled(mask_HW), _filled(target_HW))


def _filled(mask_HW: np.ndarray) -> np.ndarray:
    box_HW = np.zeros_like(mask_HW)
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if rows.size:
        box_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box_HW


def giou(ious_N: np.ndarray) -> float:
    """Mean of the questions' IoU, in [0, 1]; NaN of none. "gIoU" as LISA (Lai et al., CVPR 2024) has it."""
    values = np.asarray(ious_N, np.float64)
    return float(values.mean()) if values.size else float("nan")


def ciou(intersections_N: np.ndarray, unions_N: np.ndarray) -> float:
    """Summed intersections over summed unions, in [0, 1]: large targets count more. NaN if all are empty."""
    total = float(np.sum(unions_N))
    return float(np.sum(intersections_N)) / total if total else float("nan")


def precision_at(ious_N: np.ndarray, limit: float = 0.5) -> float:
    """Share of questions with an IoU above `limit` (P@0.5); NaN of none."""
    values = np.asarray(ious_N, np.float64)
    return float((values > limit).mean()) if values.size else float("nan")


def pointing_hit(heatmap_HW: np.ndarray, target_HW: np.ndarray) -> bool:
    """Whether the highest value lies in the target (the pointing game, Zhang et al., ECCV 2016).

    Of several equally high pixels the middle one in reading order decides, so that a flat heatmap points
    neither at a corner nor everywhere.
    """
    if heatmap_HW.shape != target_HW.shape:
        raise InputError(
            f"heatmap and target must be of one shape, but are {heatmap_HW.shape} and {target_HW.shape}"
        )
    highest = np.flatnonzero(heatmap_HW == heatmap_HW.max())
    return bool(target_HW.flat[highest[len(highest) // 2]])


def mean_absolute_error(heatmap_HW: np.ndarray, target_HW: np.ndarray) -> float:
    """Mean over pixels of |heatmap - target|, in [0, 1]; the target may be boolean.

    Raises:
        InputError: they differ in shape.
    """
    if heatmap_HW.shape != target_HW.shape:
        raise InputError(
            f"heatmap and target must be of one shape, but are {heatmap_HW.shape} and {target_HW.shape}"
        )
    return float(np.abs(heatmap_HW.astype(np.float32) - target_HW.astype(np.float32)).mean())


def auroc(scores_N: np.ndarray, present_N: np.ndarray) -> float:
    """Chance that a present target scores higher than an absent one, ties half; NaN without both.

    Args:
        scores_N: float.
        present_N: bool.
    """
    scores, present = np.asarray(scores_N, np.float64), np.asarray(present_N, bool)
    positive, negative = np.sort(scores[present]), np.sort(scores[~present])
    if not positive.size or not negative.size:
        return float("nan")
    below = np.searchsorted(negative, positive, side="left").sum()
    upto = np.searchsorted(negative, positive, side="right").sum()
    return float(below + upto) / (2.0 * positive.size * negative.size)


def recall_at_false_alarms(scores_N: np.ndarray, present_N: np.ndarray, rate: float = 0.05) -> float:
    """Share of absent targets recognised by the highest limit that loses at most `rate` of the present ones.

    A target counts as absent if its score is below the limit: a false alarm is a present one so judged.
    NaN without both.

    Raises:
        InputError: `rate` is outside [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise InputError(f"rate must be in [0, 1), but got {rate}")
    scores, present = np.asarray(scores_N, np.float64), np.asarray(present_N, bool)
    positive = np.sort(scores[present])
    if not positive.size or present.all():
        return float("nan")
    limit = positive[int(np.floor(rate * positive.size))]
    return float((scores[~present] < limit).mean())


_DRAWN = 2**20  # numbers held at a time: all draws of 100,000 photos would take gigabytes


def clustered_interval(
    numerators_N: np.ndarray,
    clusters_N: np.ndarray,
    denominators_N: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of sum(numerators) / sum(denominators), drawing whole clusters with replacement.

    Args:
        numerators_N: float; a mean's values, or intersections.
        clusters_N: any labels; questions about one photo share one.
        denominators_N: float; None for a mean (1 each), or unions.
        level: share of the distribution inside the interval.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        (low, high); NaN both where there is no question. One cluster alone gives a point: no width is known.
    """
    numerators = np.asarray(numerators_N, np.float64)
    if not numerators.size:
        return float("nan"), float("nan")
    denominators = (
        np.ones_like(numerators) if denominators_N is None else np.asarray(denominators_N, np.float64)
    )
    _, inverse = np.unique(np.asarray(clusters_N), return_inverse=True)
    above = np.bincount(inverse, numerators)
    below = np.bincount(inverse, denominators)
    count = len(above)
    rng, chances = np.random.default_rng(seed), np.full(count, 1.0 / count)
    sums, step = [], max(1, _DRAWN // count)
    for start in range(0, resamples, step):
        draws = rng.multinomial(count, chances, size=min(step, resamples - start))
        sums.append(draws @ np.stack([above, below], axis=1))
    totals = np.concatenate(sums)
    totals = totals[totals[:, 1] > 0]
    ratios = totals[:, 0] / totals[:, 1]
    if not ratios.size:
        return float("nan"), float("nan")
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(better: int, worse: int) -> float:
    """McNemar's exact test of paired answers: the two-sided p-value, in (0, 1].

    Under the null hypothesis a question whose answer changed got better or worse with equal chance; questions
    answered alike tell nothing. 1 where none changed. (McNemar, Psychometrika 1947; exact: the binomial
    distribution in place of chi squared.)

    Args:
        better: questions right only in the second condition.
        worse: questions right only in the first.

    Raises:
        InputError: a count is negative.
    """
    if better < 0 or worse < 0:
        raise InputError(f"counts must be at least 0, but got {better} and {worse}")
    changed = better + worse
    tail = term = 1
    for k in range(min(better, worse)):
        term = term * (changed - k) // (k + 1)  # exact: the next binomial coefficient
        tail += term
    return min(1.0, 2 * tail / 2**changed)
