"""A contact sheet as a page: pictures with their heatmaps, instructions and what is known of them, in one
file."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable
from itertools import islice

import cv2
import numpy as np
from PIL import Image

from ivm.errors import InputError
from ivm.files import write_text
from ivm.types import DEFAULT_THRESHOLD, Sample

__all__ = ["preview_page"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1d22; --faint: #656b76; --card: #f4f5f7;
  --line: #d9dce2 }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b; --ink: #e9ebef; --faint: #9aa1ad;
  --card: #1f2228; --line: #343944 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.4 system-ui, sans-serif }
header { position: sticky; top: 0; z-index: 1; display: flex; gap: 1rem; flex-wrap: wrap;
  padding: .7rem 1.2rem; background: var(--paper); border-bottom: 1px solid var(--line) }
h1 { font-size: 1rem; margin: 0; margin-right: auto; font-weight: 600 }
input[type=search] { padding: .35rem .6rem; font: inherit; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); color: inherit }
main { display: grid; gap: 1rem; padding: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)) }
article { background: var(--card); border-radius: 8px; overflow: hidden }
figure { position: relative; margin: 0; background: var(--line); aspect-ratio: 4 / 3 }
figure img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain }
body.plain figure img + img { display: none }
.text { padding: .6rem .8rem .8rem; overflow-wrap: anywhere }
.text p { margin: 0 0 .25rem }
.facts { color: var(--faint); font-size: .8rem }
.none { color: #b3261e } @media (prefers-color-scheme: dark) { .none { color: #ff8a80 } }
[hidden] { display: none !important }
"""

_SCRIPT = """
const find = document.querySelector('input[type=search]'), shown = document.querySelector('output');
find.addEventListener('input', () => {
  let count = 0;
  for (const card of document.querySelectorAll('article')) {
    card.hidden = !card.textContent.toLowerCase().includes(find.value.toLowerCase());
    count += !card.hidden;
  }
  shown.textContent = count + ' shown';
});
document.querySelector('input[type=checkbox]').addEventListener('change',
  event => document.body.classList.toggle('plain', !event.target.checked));
"""


def preview_page(
    samples: Iterable[Sample], path: str | os.PathLike[str], count: int = 60, side: int = 360, title: str = ""
) -> int:
    """Write up to `count` samples as one HTML file that needs nothing else, and no network.

    The irrelevant area is dimmed in proportion to the heatmap and the mask outlined; a switch shows the
    pictures without, a field finds by text.

    Args:
        samples: what to show.
        path: ends in .html.
        count: most samples, at least 1.
        side: longer side of the pictures in the file, at least 32 pixels.
        title: above the sheet.

    Returns:
        How many are shown.

    Raises:
        InputError: there is no sample, or a number is out of range.
        OutputError: the file cannot be written.
    """
    if count < 1 or side < 32:
        raise InputError(f"count must be at least 1 and side at least 32, but got {count} and {side}")
    cards = [_card(sample, side) for sample in islice(samples, count)]
    if not cards:
        raise InputError("a preview needs at least one sample, but got none")
    title = html.escape(title or "Samples")
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><header><h1>{title}</h1><output>{len(cards)} shown</output>"
        '<label><input type="checkbox" checked> heatmaps</label>'
        '<input type="search" placeholder="Find" aria-label="Find in the samples"></header>'
        f"<main>{''.join(cards)}</main><script>{_SCRIPT}</script></html>\n"
    )
    # Half a surrogate pair, as JSON may hold, is shown by its number.
    write_text(path, page, errors="backslashreplace")
    return len(cards)


def _card(sample: Sample, side: int) -> str:
    scale = min(1.0, side / max(sample.image.shape[:2]))
    size = (max(1, round(sample.image.shape[1] * scale)), max(1, round(sample.image.shape[0] * scale)))
    image = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    layers = _img(_jpeg(image), f"picture of sample {sample.uuid}")
    area = '<span class="none">no heatmap yet</span>'
    if sample.heatmap is not None:
        mask = sample.heatmap if sample.heatmap.dtype == bool else sample.heatmap > DEFAULT_THRESHOLD
        area = f"kept area {mask.mean():.1%}" if mask.any() else '<span class="none">nothing relevant</span>'
        layers += _img(_veil(sample.heatmap.astype(np.float32), size), "")
    texts = "".join(f"<p>{html.escape(text)}</p>" for text in sample.instructions[:5])
    if len(sample.instructions) > 5:
        texts += f'<p class="facts">and {len(sample.instructions) - 5} more</p>'
    known = [sample.source, sample.kind, "human" if sample.human else "machine"]
    facts = " · ".join([*(html.escape(part) for part in known if part), area])
    names = f"<br>targets: {html.escape(', '.join(sample.targets))}" if sample.targets else ""
    return (
        f"<article><figure>{layers}</figure><div class=text>{texts}"
        f'<div class="facts">{facts}{names}<br>{html.escape(sample.uuid)}</div></div></article>'
    )


def _veil(heatmap: np.ndarray, size: tuple[int, int]) -> bytes:
    """A picture to lay over: white where nothing is relevant, clear where all is, the mask's edge drawn."""
    small = cv2.resize(heatmap, size, interpolation=cv2.INTER_AREA)
    rgba = np.full((size[1], size[0], 4), 255, np.uint8)
    rgba[:, :, 3] = np.rint((1.0 - small) * 175)
    edges, _ = cv2.findContours(
        (small > DEFAULT_THRESHOLD).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(rgba, edges, -1, (255, 40, 160, 255), 2)
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "WEBP", quality=70, alpha_quality=70)
    return out.getvalue()


def _jpeg(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=82)
    return out.getvalue()


def _img(content: bytes, alt: str) -> str:
    kind = "jpeg" if content.startswith(b"\xff\xd8") else "webp"
    data = base64.b64encode(content).decode("ascii")
    return f'<img loading="lazy" alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}">'
