"""Time every deployment mode on a picture of one megapixel, on one core.

    python runs/bench_render.py            print the table
    python runs/bench_render.py --check    and exit with 1 where a mode takes over 25 ms

The picture is scikit-image's astronaut, enlarged to 1024x1024; the heatmaps are ellipses of three kinds:
one small target, one large, and forty scattered ones. Rounds are interleaved: in each, every mode is rendered
once by the default and once by `exact=True`, so that a slow moment of the machine hits both. Medians.
Reading the file is not part of it; the check of the heatmap, the copy and the drawing are.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import skimage.data

from ivm.render import MODES, render
from ivm.types import Heatmap

SIDE = 1024
LIMIT_MS = 25.0


def heatmaps() -> dict[str, Heatmap]:
    """Soft ellipses with values 0..1: name -> heatmap of SIDE x SIDE."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return np.hypot((x - cx) / rx, (y - cy) / ry)

    scattered = np.minimum.reduce(
        [ellipse(*rng.uniform(0.02, 0.98, 2), *rng.uniform(0.01, 0.05, 2)) for _ in range(40)]
    )
    kinds = {
        "small": ellipse(0.6, 0.3, 0.06, 0.08),
        "large": ellipse(0.45, 0.5, 0.3, 0.4),
        "scattered": scattered,
    }
    return {name: Heatmap(1 / (1 + np.exp(10 * np.minimum(d - 1, 2)))) for name, d in kinds.items()}


def reference(image: np.ndarray, heatmap: Heatmap) -> np.ndarray:
    """White overlay the way the reference code does it: OpenCV and NumPy at full resolution, in float32."""
    k = 2 * int(0.05 * image.shape[0]) + 1
    mask = (heatmap.values > heatmap.threshold).astype(np.float32)
    mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_RECT, (k, k)))
    mask = cv2.GaussianBlur(mask, (k, k), 0)[:, :, None]
    white = np.full(image.shape, 255, np.uint8)
    return image.astype(np.float32) * mask + white * (1 - mask)


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="renderings of each kind (default 15)")
    parser.add_argument(
        "--check", action="store_true", help=f"fail where a mode takes over {LIMIT_MS:.0f} ms"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    image = cv2.resize(skimage.data.astronaut(), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)

    jobs: dict[tuple[str, str, str], Callable[[], object]] = {}
    for kind, heatmap in heatmaps().items():
        jobs[kind, "reference", "exact"] = lambda h=heatmap: reference(image, h)
        for mode in MODES:
            jobs[kind, mode, "fast"] = lambda h=heatmap, m=mode: render(image, h, m)
            jobs[kind, mode, "exact"] = lambda h=heatmap, m=mode: render(image, h, m, exact=True)
    for job in jobs.values():
        job()
    times: dict[tuple[str, str, str], list[float]] = {key: [] for key in jobs}
    for _ in range(options.rounds):
        for key, job in jobs.items():
            times[key].append(milliseconds(job))
    median = {key: statistics.median(values) for key, values in times.items()}

    kinds = list(heatmaps())
    print(f"{SIDE}x{SIDE}, one core, median of {options.rounds} in ms; exact is the full-resolution way")
    print(f"\n| mode | {' | '.join(kinds)} | exact, large | exact / default |")
    print("|---|" + "---:|" * (len(kinds) + 2))
    slowest = 0.0
    for mode in MODES:
        fast = [median[kind, mode, "fast"] for kind in kinds]
        exact = median["large", mode, "exact"]
        slowest = max(slowest, *fast)
        cells = [
            *(f"{ms:.1f}" for ms in fast),
            f"{exact:.1f}",
            f"{exact / median['large', mode, 'fast']:.1f}",
        ]
        print(f"| {mode} | {' | '.join(cells)} |")
    print(f"\nthe reference code's overlay, large: {median['large', 'reference', 'exact']:.1f} ms")
    print(f"slowest mode: {slowest:.1f} ms (limit {LIMIT_MS:.0f} ms)")
    return 1 if options.check and slowest > LIMIT_MS else 0


if __name__ == "__main__":
    sys.exit(main())
