"""Draw how samples were annotated: instruction, phrases, what each expert proposed, what they were fused to.

    ivm annotate PHOTOS STORE -i "..." --experts compact --experts compact,tiles=2
    python runs/draw_annotation.py STORE OUT.png [UUID ...]

One row a sample, or a phrase of it; the last column is the fused heatmap, with the edge of its mask.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ivm.annotation.annotate import read_proposals
from ivm.annotation.fuse import Proposal
from ivm.data.layout import uuid_of
from ivm.data.stream import ShardSet
from ivm.images import write_image
from ivm.render import render
from ivm.types import Heatmap, Sample

CELL, GAP, LINE = 220, 12, 19
PAPER, INK, FAINT, EDGE = (255, 255, 255), (25, 28, 35), (110, 115, 125), (255, 40, 160)


def stored(folder: Path, uuids: list[str]) -> Iterator[tuple[Sample, list[Proposal]]]:
    """The samples of a store, or those named, with the proposals that it keeps."""
    store = ShardSet(folder)
    for shard in range(len(store.reader.index.shards)):
        for number, key in enumerate(store.reader.keys(shard)):
            if not uuids or uuid_of(key) in uuids:
                sample = store.get(shard, number)
                yield sample, read_proposals(store.reader.members(shard, number), sample.provenance)


def fitted(image: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] within CELL x CELL."""
    scale = CELL / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def overlaid(image: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    """The heatmap over the picture, the edge of its mask drawn."""
    small = fitted(image)
    plane = cv2.resize(values, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_LINEAR)
    drawn = render(small, Heatmap(plane.clip(0, 1), threshold=threshold), "heatmap").image
    edges, _ = cv2.findContours((plane > threshold).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(drawn), edges, -1, EDGE, 2))


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= CELL or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def draw(rows: list[tuple[Sample, list[Proposal]]]) -> np.ndarray:
    """uint8 [H, W, 3]."""
    experts = list(dict.fromkeys(p.expert for _, proposals in rows for p in proposals))
    font, bold = ImageFont.load_default(14), ImageFont.load_default(15)
    lines = [
        (sample, phrase, proposals, k == 0)
        for sample, proposals in rows
        for k, phrase in enumerate(dict.fromkeys(p.phrase for p in proposals))
    ]
    highs = [fitted(sample.image).shape[0] + 2 * LINE + 2 * GAP for sample, *_ in lines]
    width = (len(experts) + 2) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, GAP + 24 + sum(highs)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(["instruction", *experts, "fused (the union)"]):
        pen.text((GAP + column * (CELL + GAP), GAP), title, INK, bold)
    for row, (sample, phrase, proposals, first) in enumerate(lines):
        y = GAP + 24 + sum(highs[:row])
        told = sample.provenance["annotation"]
        voiceless = {(p["expert"], p["phrase"]) for p in told["proposals"] if p["failed"]}

        def put(column: int, picture: np.ndarray, texts: list[str], faint: bool = True, y: int = y) -> None:
            x = GAP + column * (CELL + GAP)
            sheet.paste(Image.fromarray(picture), (x, y))
            for k, text in enumerate(texts[:2]):
                pen.text((x, y + picture.shape[0] + 3 + k * LINE), text, FAINT if faint else INK, font)

        if first:
            put(0, fitted(sample.image), wrapped(sample.instructions[0], font), faint=False)
        for proposal in (p for p in proposals if p.phrase == phrase):
            heatmap = proposal.heatmap
            verdict = (
                f"found, score {heatmap.score:.2f}" if heatmap.found else f"not found ({heatmap.score:.2f})"
            )
            if (proposal.expert, phrase) in voiceless:
                verdict = "nearly everything: no vote"
            put(
                1 + experts.index(proposal.expert),
                overlaid(sample.image, np.array(heatmap.values), heatmap.threshold),
                [f'"{phrase}"', verdict],
            )
        if first and sample.heatmap is not None:
            reliability = told["reliability"]
            about = [f"targets: {len(sample.targets)} of {len(told['phrases'])} found"]
            about += [] if reliability is None else [f"reliability {reliability:.2f}"]
            put(1 + len(experts), overlaid(sample.image, sample.heatmap.astype(np.float32), 0.5), about)
    return np.array(sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("uuids", nargs="*")
    given = parser.parse_args()
    rows = [row for row in stored(given.store, given.uuids) if row[1]]
    if not rows:
        raise SystemExit(f"{given.store} keeps no proposals of such samples")
    write_image(draw(rows), given.out)


if __name__ == "__main__":
    main()
