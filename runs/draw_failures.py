"""Draw the model card's gallery: how the embedded model fails on tabletop scenes it has not seen.

    python runs/draw_failures.py docs/pictures/compact-failures.webp [--seed 77]

Three rows, the first of each that a seed brings, not chosen by hand: the target is there and it says it is
not; a plain name or colour leads to another thing; a relation, an order or a comparison does. The first
failure of a picture counts. Green: the target. Cross: where the heatmap is highest.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ivm
from evaluate_compact import spec
from ivm import metrics
from ivm.data.synthesis import Synthesis
from ivm.images import write_image
from ivm.types import Heatmap, Sample

CELL, GAP, LINE, ACROSS = 232, 12, 17, 4
PAPER, INK, FAINT = (255, 255, 255), (25, 28, 35), (110, 115, 125)
TARGET, CROSS = (0, 190, 90), (255, 40, 160)
SIMPLE = {"category", "colour", "two qualities", "pick", "where", "every"}
REASONED = {
    "beside", "near", "closest", "nearest", "side", "place", "ordinal", "superlative", "between", "depth",
    "negated colour", "compare distance", "compare size", "group but one", "pick relation", "inside",
    "support",
}  # fmt: skip
ROWS = {
    "missed": "It is there, and the model says it is not",
    "wrong": "A name or a colour leads to another thing",
    "unreasoned": "A relation, an order or a comparison does",
}


def failures(seed: int, model: str) -> Iterator[tuple[str, Sample, Heatmap]]:
    """(row, sample, answer), at most one a scene."""
    masker = ivm.load(model)
    with Synthesis(spec("tabletop", Path(), size=CELL), seed) as synthesis:
        for index in range(10_000):
            for sample in synthesis.samples(index):
                assert sample.heatmap is not None
                if not sample.heatmap.any():
                    continue
                heatmap = masker(sample.image, sample.instructions[0])
                row = _row(sample, heatmap)
                if row:
                    yield row, sample, heatmap
                    break


def _row(sample: Sample, heatmap: Heatmap) -> str | None:
    if not heatmap.found:
        return "missed"
    if metrics.pointing_hit(heatmap.values, sample.heatmap > 0.5):
        return None
    return "wrong" if sample.kind in SIMPLE else "unreasoned" if sample.kind in REASONED else None


def drawn(sample: Sample, heatmap: Heatmap) -> Image.Image:
    picture = np.ascontiguousarray(ivm.render(sample.image, heatmap, "heatmap", not_found="mask").image)
    edges, _ = cv2.findContours(
        (sample.heatmap > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, edges, -1, TARGET, 2)
    y, x = np.unravel_index(int(heatmap.values.argmax()), heatmap.values.shape)
    cv2.drawMarker(picture, (int(x), int(y)), CROSS, cv2.MARKER_TILTED_CROSS, 14, 3)
    return Image.fromarray(picture)


def wrapped(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) <= CELL else [*lines, word]
    return lines[:3]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--seed", type=int, default=77, help="of the scenes")
    options = parser.parse_args()
    found: dict[str, list[tuple[Sample, Heatmap]]] = {row: [] for row in ROWS}
    for row, sample, heatmap in failures(options.seed, options.model):
        if len(found[row]) < ACROSS:
            found[row].append((sample, heatmap))
        if all(len(one) == ACROSS for one in found.values()):
            break
    font = ImageFont.load_default(13)
    head = ImageFont.load_default(16)
    tall = 30 + CELL + 4 * LINE + GAP
    sheet = Image.new("RGB", (ACROSS * (CELL + GAP) + GAP, len(ROWS) * tall + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for r, (row, title) in enumerate(ROWS.items()):
        top = GAP + r * tall
        pen.text((GAP, top), title, INK, head)
        for c, (sample, heatmap) in enumerate(found[row]):
            left = GAP + c * (CELL + GAP)
            sheet.paste(drawn(sample, heatmap), (left, top + 30))
            under = top + 34 + CELL
            for line in wrapped(sample.instructions[0], font):
                pen.text((left, under), line, INK, font)
                under += LINE
            pen.text((left, under), f"found score {heatmap.score:.2f}", FAINT, font)
    write_image(np.asarray(sheet), options.output)


if __name__ == "__main__":
    main()
