from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ivm.annotation.fuse import FAULTS, Proposal, calibrate, fuse
from ivm.errors import InputError, OptionError
from ivm.types import Heatmap

values = arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32))


def proposal(values, expert="a", phrase="cup", score=0.9, found=True, threshold=0.5, weight=1.0):
    return Proposal(
        expert, phrase, Heatmap(np.asarray(values, np.float32), score, found, threshold, phrase), weight
    )


def square(x, high=1.0, low=0.0, side=10):
    """A 4 x 4 square with its left edge at x, on 10 x 10."""
    plane = np.full((side, side), low, np.float32)
    plane[3:7, x : x + 4] = high
    return plane


@given(values, st.floats(0, 1))
def test_calibration_keeps_the_mask_the_order_and_the_range(plane, threshold):
    heatmap = Heatmap(plane, threshold=threshold)
    moved = calibrate(heatmap)
    assert moved.dtype == np.float32
    assert moved.min() >= 0
    assert moved.max() <= 1
    clear = np.abs(plane - np.clip(threshold, 1e-3, 1 - 1e-3)) > 1e-4
    np.testing.assert_array_equal((moved > 0.5)[clear], (plane > np.clip(threshold, 1e-3, 1 - 1e-3))[clear])
    order = np.argsort(plane, axis=None)
    assert (np.diff(moved.flat[order]) >= -1e-6).all()


def test_calibration_by_hand():
    moved = calibrate(Heatmap(np.array([[0.0, 0.1, 0.2, 0.6, 1.0]]), threshold=0.2))
    np.testing.assert_allclose(moved, [[0.0, 0.25, 0.5, 0.75, 1.0]], atol=1e-6)


@given(values)
def test_one_expert_alone_is_only_calibrated(plane):
    one = proposal(plane, threshold=0.3)
    fused = fuse([one], "the cup", whole=1.0)
    if fused.found:
        np.testing.assert_allclose(fused.heatmap.values, calibrate(one.heatmap), atol=1e-6)
        assert fused.heatmap.instruction == "the cup"
    assert fused.reliability is None


@given(st.permutations(range(4)), st.lists(values, min_size=4, max_size=4))
def test_the_order_of_proposals_does_not_matter(order, planes):
    given_ = [
        proposal(plane, expert, phrase)
        for plane, (expert, phrase) in zip(
            planes, [("a", "cup"), ("b", "cup"), ("a", "plate"), ("b", "plate")], strict=True
        )
    ]
    one, other = fuse(given_), fuse([given_[i] for i in order])
    np.testing.assert_allclose(one.heatmap.values, other.heatmap.values, atol=1e-6)
    assert one.reliability == pytest.approx(other.reliability)
    assert (set(one.found), one.fault) == (set(other.found), other.fault)


def test_the_mean_is_weighted_and_phrases_are_united():
    fused = fuse(
        [
            proposal(square(0, 0.8), "a", "cup", weight=3, score=1.0),
            proposal(square(0, 0.4), "b", "cup", weight=1, score=0.6),
            proposal(square(6, 0.9), "a", "plate", weight=3),
            proposal(square(6, 0.9), "b", "plate", weight=1),
        ]
    )
    assert fused.heatmap.values[4, 1] == pytest.approx((3 * 0.8 + 0.4) / 4)
    assert fused.heatmap.values[4, 7] == pytest.approx(0.9)
    assert fused.heatmap.values[0, 0] == 0
    assert (fused.found, fused.missing, fused.fault) == (("cup", "plate"), (), "")
    assert fused.heatmap.score == pytest.approx(0.9)  # of the less certain phrase; of the cup (3 + 0.6) / 4


def test_experts_with_other_thresholds_mean_the_same():
    shy, bold = square(2, 0.35, 0.02), square(2, 0.9, 0.1)
    fused = fuse([proposal(shy, "a", threshold=0.3), proposal(bold, "b", threshold=0.7)])
    np.testing.assert_array_equal(fused.heatmap.to_mask(), square(2) > 0)
    assert fused.reliability == 1.0


def test_reliability_is_the_overlap_of_masks():
    # Squares of 16 pixels that share 8: IoU 8 / 24.
    assert fuse([proposal(square(0), "a"), proposal(square(2), "b")]).reliability == pytest.approx(1 / 3)
    three = [proposal(square(x), name, weight=w) for x, name, w in ((0, "a", 2), (0, "b", 1), (6, "c", 1))]
    assert fuse(three).reliability == pytest.approx((2 * 1 + 2 * 0 + 1 * 0) / 5)


def test_who_does_not_find_it_is_outvoted_or_wins():
    yes, no = proposal(square(2), "a", score=0.9), proposal(square(5), "b", score=0.1, found=False)
    tie = fuse([yes, no])
    np.testing.assert_array_equal(tie.heatmap.to_mask(), square(2) > 0)
    assert tie.reliability == 0.0  # a mask against none
    assert tie.heatmap.score == pytest.approx(0.5)
    lost = fuse([yes, no, proposal(square(5), "c", found=False)])
    assert (lost.fault, lost.found, lost.missing) == ("not-found", (), ("cup",))
    assert not lost.heatmap.values.any()
    assert not lost.heatmap.found
    assert lost.reliability == 0.0
    weighty = fuse([proposal(square(2), "a", weight=3), no, proposal(square(5), "c", found=False)])
    assert weighty.fault == ""


def test_a_missing_phrase_is_told_and_makes_the_rest_less_reliable():
    fused = fuse(
        [
            proposal(square(0), "a", "cup"),
            proposal(square(0), "b", "cup"),
            proposal(square(6), "a", "plate", found=False),
            proposal(square(6), "b", "plate", found=False),
        ]
    )
    assert (fused.found, fused.missing, fused.fault) == (("cup",), ("plate",), "")
    assert fused.reliability == 0.5
    np.testing.assert_array_equal(fused.heatmap.to_mask(), square(0) > 0)


def test_an_expert_that_keeps_nearly_everything_has_no_vote():
    everything = np.full((10, 10), 0.9, np.float32)
    fused = fuse([proposal(square(2), "a"), proposal(everything, "b")])
    np.testing.assert_array_equal(fused.heatmap.to_mask(), square(2) > 0)
    assert fused.failed == (("b", "cup"),)
    assert (fused.fault, fused.reliability) == ("", pytest.approx(0.16))
    alone = fuse([proposal(everything, "b")])
    assert (alone.fault, alone.found, alone.failed) == ("nearly-whole-image", (), (("b", "cup"),))


def test_phrases_that_fill_the_picture_together_are_a_fault_too():
    left, right = np.zeros((10, 10), np.float32), np.zeros((10, 10), np.float32)
    left[:, :5], right[:, 5:] = 1, 1
    fused = fuse([proposal(left, phrase="sky"), proposal(right, phrase="sea")])
    assert (fused.fault, fused.failed) == ("nearly-whole-image", ())
    assert fused.heatmap.to_mask().all()  # told, not edited
    assert fuse([proposal(left, phrase="sky"), proposal(right, phrase="sea")], whole=1.0).fault != ""


def test_experts_in_different_places_are_a_fault():
    fused = fuse([proposal(square(0), "a"), proposal(square(6), "b")])
    assert (fused.fault, fused.reliability) == ("disagreement", 0.0)
    assert fused.heatmap.values.max() == pytest.approx(0.5)
    assert set(FAULTS) == {"disagreement", "not-found", "nearly-whole-image"}


def test_bad_input_is_told():
    with pytest.raises(InputError, match="one or more of one size, but have none"):
        fuse([])
    with pytest.raises(InputError, match="one size"):
        fuse([proposal(np.zeros((2, 2))), proposal(np.zeros((2, 3)), "b")])
    with pytest.raises(OptionError, match="whole"):
        fuse([proposal(np.zeros((2, 2)))], whole=2)
    with pytest.raises(OptionError, match="weight of a"):
        proposal(np.zeros((2, 2)), weight=0)


def test_half_of_the_weight_is_half_whatever_its_digits():
    givers = [("a", 0.1, False), ("b", 0.2, False), ("c", 0.3, True)]
    fused = fuse([proposal(square(2), name, found=found, weight=weight) for name, weight, found in givers])
    assert fused.found == ("cup",)
