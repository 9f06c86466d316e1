from __future__ import annotations

import numpy as np
import pytest

from ivm.data.sheet import contact_sheet
from ivm.errors import InputError
from ivm.types import Sample


def sample(k, shape=(60, 90), heatmap=True, text="find the cup"):
    mask = np.zeros(shape, bool)
    mask[10:30, 20:50] = heatmap is True
    image = np.full((*shape, 3), (40, 120, 60), np.uint8)
    return Sample(f"s{k}", image, (text,), None if heatmap is None else mask, "test", kind="category")


def test_it_has_a_cell_for_every_sample():
    one = contact_sheet([sample(0)], cell=100)
    six = contact_sheet([sample(k) for k in range(6)], columns=3, cell=100)
    assert one.dtype == np.uint8
    assert six.shape[1] == 3 * 110 + 10
    assert six.shape[0] - 10 == 2 * (one.shape[0] - 10)
    assert (
        contact_sheet((sample(k) for k in range(99)), count=4, columns=4, cell=100).shape[0] == one.shape[0]
    )


def test_the_mask_is_outlined_and_the_rest_dimmed():
    sheet = contact_sheet([sample(0, (90, 90))], cell=90)[10:100, 10:100]
    assert (sheet[20, 35] == (40, 120, 60)).all()
    assert (sheet[60, 70] != (40, 120, 60)).all()
    assert (sheet == (255, 40, 160)).all(axis=2).sum() > 60


def test_without_target_or_mask_the_picture_stays():
    for heatmap in (False, None):
        sheet = contact_sheet([sample(0, (90, 90), heatmap)], cell=90)[10:100, 10:100]
        assert (sheet == (40, 120, 60)).all()


def test_long_instructions_are_cut_inside_their_cell():
    long = contact_sheet([sample(0, text="wordless " * 60 + "x" * 400)], cell=128)
    short = contact_sheet([sample(0)], cell=128)
    assert long.shape == short.shape
    assert (long[:, -9:] == 255).all()  # nothing runs into the margin


@pytest.mark.parametrize(
    ("samples", "options"), [([], {}), ([0], {"count": 0}), ([0], {"columns": 0}), ([0], {"cell": 9})]
)
def test_wrong_arguments_are_told(samples, options):
    with pytest.raises(InputError):
        contact_sheet([sample(k) for k in samples], **options)
