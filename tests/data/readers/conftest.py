"""Small made-up sources in the publishers' forms."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo():
    """photo(path, width=20, height=10) -> uint8 [H, W, 3], written as JPEG and read back."""

    def make(path, width=20, height=10):
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, "JPEG", quality=90)
        with Image.open(path) as image:
            return np.array(image)

    return make


@pytest.fixture
def write_json():
    def write(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return write
