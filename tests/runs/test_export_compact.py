"""How the thresholds of the weights that ship are chosen."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "runs"))

from export_compact import LEVELS, Answer, best_score, best_slope, best_threshold, ious_by_level


def test_ious_by_level_are_those_of_the_masks():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 3, (20, 30)), rng.random((20, 30)) < 0.3
    got = ious_by_level(logits, target)
    for level, iou in list(zip(LEVELS, got, strict=True))[::17]:
        kept = logits >= level
        assert iou == pytest.approx((kept & target).sum() / (kept | target).sum())


IMAGE = np.full((16, 16, 3), 90, np.uint8)
TARGET = np.zeros((16, 16), bool)
TARGET[4:12, 4:12] = True
IMAGE[TARGET] = 200


def step(inside, outside, source="photos", found=0.0):
    """An answer that is right if it is cut between two logits."""
    return Answer(source, IMAGE, TARGET, np.where(TARGET, inside, outside).astype(np.float32), found)


def test_faint_heatmaps_are_cut_lower_where_that_is_better():
    steps = [step(m, 0.4 * m - 1.6) for m in np.linspace(-2.0, 6.0, 33)]
    halo = [step(m, 0.4 * m - 1.2) for m in np.linspace(-2.0, 6.0, 33)]
    for one in halo:  # the target holds what is a little hotter than outside it
        one.logits[0, 0] = one.logits.max()
        one.logits[TARGET] = one.logits[1, 1] + 0.2
        one.logits[1:3] -= 0.4
    slope, middle = best_slope(steps + halo)
    assert slope == pytest.approx(0.4, abs=0.1)
    assert middle == pytest.approx(2.0)


def test_no_shift_where_one_cut_suits_all():
    answers = [step(-0.7, -1.0) for _ in range(3)]
    for one, hottest in zip(answers, (-0.5, 2.0, 7.0), strict=True):
        one.logits[8, 8] = hottest
    slope, middle = best_slope(answers)
    assert (slope, middle) == (0.0, 2.0)
    assert best_threshold(answers, 0.0, 2.0) == pytest.approx(0.3)


def test_each_source_is_as_heavy_as_another():
    many = [step(5.0, 0.9)] * 20
    few = [step(-0.5, -5.0, source) for source in ("tabletop", "collage")]
    assert best_threshold(many, 0.0, 5.0) > 0.7
    assert best_threshold(many + few, 0.0, 5.0) < 0.5


def test_found_scores_part_what_is_there_from_what_is_not():
    rng = np.random.default_rng(1)
    there = [step(1.0, -1.0, found=float(v)) for v in rng.normal(3.0, 1.0, 200)]
    gone = [
        Answer("photos", IMAGE, None, np.zeros((4, 4), np.float32), float(v))
        for v in rng.normal(1.0, 1.0, 100)
    ]
    score = best_score(there + gone)
    at_even = -score["found_shift"] / score["found_scale"]
    assert at_even == pytest.approx(2.0, abs=0.25)
    assert score["found_threshold"] == pytest.approx(0.5, abs=0.2)
