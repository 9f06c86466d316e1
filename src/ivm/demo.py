"""The demo sheet: bundled real photos, each with its heatmap and every deployment mode, on one picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ivm.images import read_image
from ivm.masker import Masker
from ivm.render import MODES, render
from ivm.types import Heatmap

__all__ = ["PICTURES", "Shown", "draw_sheet", "mask_pictures"]

_ASSETS = Path(__file__).resolve().parent / "assets"

PICTURES: tuple[tuple[Path, str], ...] = (
    (_ASSETS / "astronaut.jpg", "who is the person in the picture?"),
    (_ASSETS / "chelsea.jpg", "what colour is the cat?"),
    (_ASSETS / "coffee.jpg", "what is in the cup?"),
)
"""Bundled photos and what is asked of them; where they come from is told in assets/README.md."""

# In pixels of the sheet.
_CELL_WIDTH, _CELL_HEIGHT, _LABEL, _GAP, _MARGIN, _TITLE, _REST = 300, 220, 30, 16, 32, 56, 24
_COLUMNS = 5
_INK, _FAINT, _LINE = (28, 32, 38), (96, 102, 112), (200, 204, 210)
_PAPER, _CARD = (255, 255, 255), (238, 240, 243)


@dataclass(frozen=True, eq=False)
class Shown:
    """One row of the sheet: uint8 [H, W, 3] pixels and the heatmap of its instruction."""

    pixels: np.ndarray
    heatmap: Heatmap


def mask_pictures(masker: Masker) -> Iterator[Shown]:
    """Mask each of PICTURES."""
    for path, instruction in PICTURES:
        pixels = read_image(path)
        yield Shown(pixels, masker(pixels, instruction))


def draw_sheet(shown: list[Shown]) -> np.ndarray:
    """Draw pictures beside their heatmaps and every deployment mode, with the default of each option.

    Returns:
        uint8 [H, W, 3].
    """
    names = ["picture", "heatmap", *(mode for mode in MODES if mode != "heatmap")]
    lines = -(-len(names) // _COLUMNS)
    block = _TITLE + lines * (_CELL_HEIGHT + _LABEL + _GAP) + _REST
    width = 2 * _MARGIN + _COLUMNS * (_CELL_WIDTH + _GAP) - _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + block * len(shown) - _GAP - _REST), _PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(28), ImageFont.load_default(20)
    for row, one in enumerate(shown):
        top = _MARGIN + row * block
        draw.text((_MARGIN, top), f"\u201c{one.heatmap.instruction}\u201d", _INK, title)
        verdict = f"{'found' if one.heatmap.found else 'not found'}, score {one.heatmap.score:.2f}"
        if render(one.pixels, one.heatmap, "outline").kept_whole:
            verdict += ": the whole picture is kept"
        draw.text((width - _MARGIN, top + 6), verdict, _FAINT, small, anchor="ra")
        for place, name in enumerate(names):
            x = _MARGIN + place % _COLUMNS * (_CELL_WIDTH + _GAP)
            y = top + _TITLE + place // _COLUMNS * (_CELL_HEIGHT + _LABEL + _GAP)
            pixels = one.pixels if name == "picture" else render(one.pixels, one.heatmap, name).image
            sheet.paste(_fitted(pixels), (x, y))
            draw.text((x + _CELL_WIDTH // 2, y + _CELL_HEIGHT + 4), name, _INK, small, anchor="ma")
    return np.asarray(sheet)


def _fitted(pixels: np.ndarray) -> Image.Image:
    """A cell with the picture as large as it can be; what is transparent shows a chequered ground."""
    picture = Image.fromarray(pixels)
    scale = min(_CELL_WIDTH / picture.width, _CELL_HEIGHT / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (_CELL_WIDTH, _CELL_HEIGHT), _CARD)
    corner = ((_CELL_WIDTH - size[0]) // 2, (_CELL_HEIGHT - size[1]) // 2)
    if picture.mode == "RGBA":
        y, x = np.indices((size[1], size[0])) // 10
        ground = np.where((x + y) % 2 == 0, 255, 214).astype(np.uint8)
        cell.paste(Image.fromarray(ground).convert("RGB"), corner)
        cell.paste(picture, corner, picture)
    else:
        cell.paste(picture, corner)
    # A line around it: a white overlay would melt into the paper.
    box = (corner[0], corner[1], corner[0] + size[0] - 1, corner[1] + size[1] - 1)
    ImageDraw.Draw(cell).rectangle(box, outline=_LINE)
    return cell
