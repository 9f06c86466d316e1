from __future__ import annotations

import numpy as np
import pytest

from ivm.demo import PICTURES, Shown, draw_sheet, mask_pictures
from ivm.images import read_image
from ivm.masker import Masker
from ivm.render import MODES
from ivm.types import Heatmap


def test_bundled_pictures_are_small_real_photos_with_their_provenance() -> None:
    notes = (PICTURES[0][0].parent / "README.md").read_text(encoding="utf-8")
    for path, instruction in PICTURES:
        assert instruction
        assert path.name in notes
        assert path.stat().st_size <= 150_000
        pixels = read_image(path)
        assert min(pixels.shape[:2]) >= 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5_000


def test_each_bundled_picture_is_masked_by_its_instruction(colour_masker: Masker) -> None:
    shown = list(mask_pictures(colour_masker))
    assert [one.heatmap.instruction for one in shown] == [instruction for _, instruction in PICTURES]
    assert all(one.heatmap.shape == one.pixels.shape[:2] for one in shown)


@pytest.mark.parametrize("found", [True, False])
def test_the_sheet_shows_every_mode_and_grows_with_the_pictures(found: bool) -> None:
    rows = []
    for height, width in ((90, 160), (200, 50), (3, 1000)):
        values = np.zeros((height, width), np.float32)
        values[: height // 2 + 1, : width // 2 + 1] = 1
        heatmap = Heatmap(values, score=0.9 if found else 0.1, found=found, instruction="the cup " * 5)
        rows.append(Shown(np.full((height, width, 3), (200, 40, 40), np.uint8), heatmap))
    one, three = draw_sheet(rows[:1]), draw_sheet(rows)
    assert one.dtype == np.uint8
    assert three.shape[1:] == one.shape[1:]
    assert three.shape[0] > 2.5 * one.shape[0]
    # Cells differ from the paper in as many places as there are modes and the picture itself.
    inked = (one != 255).any(axis=2)
    assert inked.mean() > 0.4
    assert len(MODES) + 1 == 10, "the sheet is laid out in rows of five"
