"""Contact sheets: samples side by side, the mask outlined, the instruction under the picture."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ivm.errors import InputError
from ivm.types import Sample

__all__ = ["contact_sheet"]

_PAPER, _INK, _FAINT = (255, 255, 255), (25, 28, 35), (120, 125, 135)
_LINE = (255, 40, 160)  # hardly any thing has this colour
_MARGIN, _LINES = 10, 3


def contact_sheet(
    samples: Iterable[Sample], count: int = 40, columns: int = 5, cell: int = 256
) -> np.ndarray:
    """Draw up to `count` samples as one picture.

    What is outside a sample's mask (heatmap above 0.5) is dimmed, the mask's edge drawn; a sample without a
    target stays as it is and says so.

    Args:
        samples: their first instruction is shown.
        count: at least 1.
        columns: pictures a row, at least 1.
        cell: longer side of each picture, at least 64 pixels.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InputError: there is no sample, or a number is out of range.
    """
    if count < 1 or columns < 1 or cell < 64:
        raise InputError(
            f"count and columns must be at least 1 and cell at least 64, but got {count}, {columns}, {cell}"
        )
    shown = list(islice(samples, count))
    if not shown:
        raise InputError("a contact sheet needs at least one sample, but got none")
    size = max(11, cell // 18)
    font, small = ImageFont.load_default(size), ImageFont.load_default(max(10, size - 3))
    step = round(size * 1.3)
    high = cell + _LINES * step + step + 2 * _MARGIN
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * (cell + _MARGIN) + _MARGIN, rows * high + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, sample in enumerate(shown):
        x, y = _MARGIN + (k % columns) * (cell + _MARGIN), _MARGIN + (k // columns) * high
        picture = _outlined(sample, cell)
        sheet.paste(Image.fromarray(picture), (x + (cell - picture.shape[1]) // 2, y))
        y += cell + 4
        absent = sample.heatmap is not None and not (sample.heatmap > 0.5).any()
        about = " · ".join(
            part for part in (sample.source, sample.kind, "no target" if absent else "") if part
        )
        draw.text((x, y), _fitted(about, cell, small), _FAINT, small)
        for n, line in enumerate(_wrapped(sample.instructions[0], cell, font)):
            draw.text((x, y + step + n * step), line, _INK, font)
    return np.array(sheet)


def _outlined(sample: Sample, cell: int) -> np.ndarray:
    image = sample.image
    scale = cell / max(image.shape[:2])
    shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = np.asarray(
        cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    )
    if sample.heatmap is None:
        return picture
    mask = cv2.resize((sample.heatmap > 0.5).astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    if not mask.any():
        return picture
    picture = np.where(mask[:, :, None] > 0, picture, picture * 0.55 + 255 * 0.22).astype(np.uint8)
    edges, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(picture), edges, -1, _LINE, max(1, cell // 128)))


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """At most `_LINES` lines that fit; the last ends in an ellipsis if there is more."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1] + " ..."]
    return [_fitted(line, width, font) for line in lines]


def _fitted(line: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while line and font.getlength(line) > width:
        line = line.removesuffix("...")[:-1].rstrip() + "..."
        if line == "...":
            return ""
    return line
