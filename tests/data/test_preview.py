from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ivm.data.preview import preview_page
from ivm.errors import InputError, OutputError
from ivm.types import Sample


@pytest.fixture
def samples(scenery):
    mask = np.zeros((120, 160), bool)
    mask[30:60, 40:80] = True
    image = scenery(0, 120, 160)
    return [
        Sample("a", image, ('<script>alert("x")</script>',), mask, "x & y", kind="colour", targets=("cup",)),
        Sample("b", image, tuple(f"text {k}" for k in range(7)), mask * np.float32(0.9), "x", human=False),
        Sample("c", image, ("absent",), np.zeros((120, 160), bool), "x"),
        Sample("d", image, ("to do",), None, "x"),
    ]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.scripts, self.text, self.links = [], 0, [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.scripts += tag == "script"
        if tag == "img":
            self.images.append(given["src"])
        self.links += [given[key] for key in ("href", "src") if key in given]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_shows_all_and_needs_nothing_else(samples, tmp_path):
    assert preview_page(samples, tmp_path / "p.html", title="My <data>") == 4
    page = Reader()
    page.feed((tmp_path / "p.html").read_text())
    text = " ".join(page.text)
    assert page.scripts == 1  # an instruction is text, whatever it holds
    assert '<script>alert("x")</script>' in text
    assert "My <data>" in text
    for words in (
        "kept area 6.2%",
        "nothing relevant",
        "no heatmap yet",
        "and 2 more",
        "targets: cup",
        "machine",
    ):
        assert words in text, words
    assert len(page.images) == 2 + 2 + 2 + 1
    assert all(link.startswith("data:image/") for link in page.links)
    sizes = set()
    for source in page.images:
        content = base64.b64decode(re.sub("^data:image/.*?,", "", source))
        with Image.open(io.BytesIO(content)) as image:
            sizes.add(image.size)
    assert sizes == {(160, 120)}


def test_the_veil_is_clear_where_something_is_relevant(samples, tmp_path):
    preview_page(samples[:1], tmp_path / "p.html")
    page = Reader()
    page.feed((tmp_path / "p.html").read_text())
    content = base64.b64decode(page.images[1].partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        alpha = np.array(image.convert("RGBA"))[:, :, 3]
    assert alpha[45, 60] < 20
    assert alpha[100, 140] > 150
    assert alpha[30, 60] > 200  # the edge


def test_count_bounds_and_errors(samples, tmp_path):
    assert preview_page(samples, tmp_path / "p.html", count=2) == 2
    with pytest.raises(InputError, match="at least one sample"):
        preview_page([], tmp_path / "p.html")
    with pytest.raises(InputError, match="count must be"):
        preview_page(samples, tmp_path / "p.html", count=0)
    with pytest.raises(OutputError, match="cannot write"):
        preview_page(samples, tmp_path / "none" / "p.html")
