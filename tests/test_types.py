from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from ivm.errors import InputError, InstructionError, OptionError
from ivm.types import (
    MAX_INSTRUCTION_CHARS,
    Heatmap,
    Masking,
    Sample,
    check_instruction,
    check_threshold,
)

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(MASKS)
def test_a_mask_comes_back_from_its_heatmap(mask: np.ndarray) -> None:
    heatmap = Heatmap.from_mask(mask, "x")
    np.testing.assert_array_equal(heatmap.to_mask(), mask)
    assert heatmap.found == mask.any()
    assert heatmap.shape == mask.shape
    assert heatmap.kept_area() == pytest.approx(mask.mean())
    rle = heatmap.to_rle()
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)
    assert isinstance(rle["counts"], str)


@given(MASKS)
def test_the_box_is_the_smallest_around_the_mask(mask: np.ndarray) -> None:
    box = Heatmap.from_mask(mask).box()
    if not mask.any():
        assert box is None
        return
    assert box is not None
    x0, y0, x1, y1 = box
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert all(edge.any() for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]))


def test_a_threshold_is_strict_and_the_callers_wins() -> None:
    heatmap = Heatmap(np.float32([[0.2, 0.5, 0.8]]), threshold=0.5)
    assert heatmap.to_mask().tolist() == [[False, False, True]]
    assert heatmap.to_mask(0.1).all()
    assert not heatmap.to_mask(0.8).any()
    assert heatmap.box(0.3) == (1, 0, 3, 1)
    assert heatmap.point() == (2, 0)
    with pytest.raises(OptionError, match=r"threshold must be in \[0, 1\], but got 1.2"):
        heatmap.to_mask(1.2)


def test_values_are_locked_and_the_callers_array_is_not() -> None:
    given = np.full((2, 3), 0.5, np.float32)
    heatmap = Heatmap(given)
    with pytest.raises(ValueError, match="read-only"):
        heatmap.values[0, 0] = 1
    given[0, 0] = 0.25  # still the caller's to write
    assert Heatmap(np.array([[0, 1]])).values.dtype == np.float32
    assert Heatmap([[0.0, 1.0]]).shape == (1, 2)


def test_a_heatmap_is_told_in_one_line() -> None:
    heatmap = Heatmap(np.zeros((480, 640)), 0.125, False, 0.5, "the cup")
    assert repr(heatmap) == "Heatmap(640x480, score=0.12, found=False, threshold=0.5, instruction='the cup')"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2, 1)), r"\[H, W\] array, but got shape \(2, 2, 1\)"),
        (np.zeros((0, 4)), "non-empty"),
        (np.array([[0.0, np.nan]]), "finite"),
        (np.array([[0.0, np.inf]]), "finite"),
        (np.array([[-0.1, 0.5]]), r"range over \[-0.1, 0.5\]"),
        (np.array([[0, 255]], np.uint8), "range over"),
        (np.array([[1j]]), "dtype complex128"),
        (np.array([["a"]]), "dtype <U1"),
        ([[0.1], [0.2, 0.3]], "cannot be made one"),
    ],
)
def test_bad_heatmap_values_are_refused(values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Heatmap(values)


@pytest.mark.parametrize("name", ["score", "threshold"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), "much", None])
def test_scores_and_thresholds_outside_0_1_are_refused(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name):
        Heatmap(np.zeros((1, 1)), **{name: value})
    with pytest.raises(OptionError, match="limit must be"):
        check_threshold(value, "limit")


def test_from_mask_wants_a_mask() -> None:
    with pytest.raises(InputError, match=r"boolean .* dtype float64"):
        Heatmap.from_mask(np.zeros((2, 2)))


@given(st.text())
def test_an_instruction_is_text_with_something_to_read(text: str) -> None:
    if any(sign.isprintable() and not sign.isspace() for sign in text):
        assert check_instruction(text) == text.strip()
    else:
        with pytest.raises(InstructionError, match="empty"):
            check_instruction(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("\u200b\u200d", "empty"),
        (None, "but got NoneType"),
        (b"cup", "but got bytes"),
        ("x" * (MAX_INSTRUCTION_CHARS + 1), "at most 20000 characters, but has 20001"),
        ("a cup \ud83d", "valid Unicode, but is not at position 6"),
    ],
)
def test_other_instructions_are_refused(text: object, message: str) -> None:
    with pytest.raises(InstructionError, match=message):
        check_instruction(text)


def test_long_foreign_and_pictured_instructions_are_fine() -> None:
    for text in ("x" * 10_000, "ピザはどこ?", "🍕", "où est la tasse"):
        assert check_instruction(f" {text}\n") == text


IMAGE = np.zeros((3, 4, 3), np.uint8)


def test_a_sample_holds_together() -> None:
    sample = Sample("a", IMAGE, [" the cup "], np.zeros((3, 4), bool), "coco", targets=["cup"])
    assert sample.instructions == ("the cup",)
    assert sample.targets == ("cup",)
    assert sample.image_id == "a"
    assert Sample("b", IMAGE, ("x",), None, "s", image_id="i").image_id == "i"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": IMAGE.astype(float)},
            r"sample a: image must be uint8 \[H, W, 3\], but got float64 \[3, 4, 3\]",
        ),
        ({"image": "p.png"}, "but got str"),
        ({"instructions": "the cup"}, "in a tuple"),
        ({"instructions": ()}, "one or more"),
        ({"instructions": ("",)}, "empty"),
        ({"heatmap": np.zeros((4, 3), bool)}, r"must be \(3, 4\) like its image, but is \(4, 3\)"),
        ({"heatmap": np.zeros((3, 4))}, "float32 or bool, but is float64"),
    ],
)
def test_a_sample_that_does_not_is_refused(changes: dict, message: str) -> None:
    fields = {"uuid": "a", "image": IMAGE, "instructions": ("x",), "heatmap": None, "source": "s"} | changes
    with pytest.raises(InputError, match=message):
        Sample(**fields)


def test_masking_is_a_matter_of_having_batch() -> None:
    class Whole:
        def batch(self, images: list, instructions: list[str]) -> list[Heatmap]:
            return []

    assert isinstance(Whole(), Masking)
    assert not isinstance(object(), Masking)
