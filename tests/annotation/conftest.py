from __future__ import annotations

import numpy as np
import pytest

from conftest import COLOURS
from ivm.images import write_image


def painted(*places: tuple[str, int]) -> np.ndarray:
    """uint8 [96, 128, 3], grey with a square of 32 pixels of each colour at x."""
    image = np.full((96, 128, 3), 128, np.uint8)
    for colour, x in places:
        image[32:64, x : x + 32] = COLOURS[colour]
    return image


@pytest.fixture
def pictures(tmp_path):
    """A folder with three pictures: red and blue, red alone, green alone."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    write_image(painted(("red", 8), ("blue", 80)), folder / "a.png")
    write_image(painted(("red", 80)), folder / "b.png")
    write_image(painted(("green", 8)), folder / "more" / "c.png")
    return folder
