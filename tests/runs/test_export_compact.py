"""How the thresholds of the weights that ship are chosen."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "runs"))

from export_compact import LEVELS, Answer, best_cut, best_score, ious_by_level


def test_ious_by_level_are_those_of_the_masks():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 3, (20, 30)), rng.random((20, 30)) < 0.3
    got = ious_by_level(logits, target)
    for level, iou in list(zip(LEVELS, got, strict=True))[::17]:
        kept = logits >= level
        assert iou == pytest.approx((kept & target).sum() / (kept | target).sum())


def plateau(best, source="photos", hottest=0.0, found=0.0):
    """An answer whose mask is right if it is cut near `best`."""
    return Answer(source, found, hottest, (np.abs(LEVELS - best) < 0.25).astype(float))


def test_faint_heatmaps_are_cut_lower_where_that_is_better():
    hottest = np.linspace(-2.0, 6.0, 33)
    sure_or_not = [plateau(0.4 * m - 1.4, hottest=m) for m in hottest]
    cut = best_cut(sure_or_not)
    assert cut["heat_slope"] == pytest.approx(0.4, abs=0.1)
    assert cut["heat_middle"] == pytest.approx(np.median(hottest))
    at_middle = np.log(cut["threshold"] / (1 - cut["threshold"]))
    assert at_middle == pytest.approx(0.4 * cut["heat_middle"] - 1.4, abs=0.4)


def test_no_shift_where_one_cut_suits_all():
    cut = best_cut([plateau(-0.85, hottest=m) for m in (-0.5, 2.0, 7.0)])
    assert (cut["heat_slope"], cut["threshold"]) == (0.0, pytest.approx(0.3, abs=0.1))


def test_each_source_is_as_heavy_as_another():
    many = [plateau(2.0, hottest=3.0)] * 50
    few = [plateau(-1.0, source=s, hottest=3.0) for s in ("tabletop", "collage")]
    assert best_cut(many + few)["threshold"] < 0.5


def test_found_scores_part_what_is_there_from_what_is_not():
    rng = np.random.default_rng(1)
    there = [plateau(0.0, found=float(v)) for v in rng.normal(3.0, 1.0, 200)]
    gone = [Answer("photos", float(v), 0.0, None) for v in rng.normal(1.0, 1.0, 100)]
    score = best_score(there + gone)
    at_even = -score["found_shift"] / score["found_scale"]
    assert at_even == pytest.approx(2.0, abs=0.25)
    assert score["found_threshold"] == pytest.approx(0.5, abs=0.2)
