"""Time synthesis on one core: labelled scenes a second, and whether memory stays flat.

    python runs/bench_synthesis.py                print the table
    python runs/bench_synthesis.py --check        and exit with 1 where a figure misses its limit

Every row makes whole scenes (arranged, drawn, masks, relations) of 256 pixels, each with its own things,
places, colours, lights and camera, on one core: the process binds itself to one, and software OpenGL to one
thread. Compiling is part of it: a row covers whole blocks of scenes that share one compiled model. Limits
hold for a second of processor time, which other work on the machine disturbs less than the clock; both are
printed. Memory is what the process holds more at the end than half way.
"""

from __future__ import annotations

import os

os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's software renderer reads it when it is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ivm.data.collage import collage_scene
from ivm.data.grammar import instructions_for
from ivm.data.materials import read_materials
from ivm.data.packs import data_folder
from ivm.data.tabletop import Studio, TabletopSpec

MEMORY_LIMIT_MB = 40.0


@dataclass(frozen=True)
class Row:
    """One line of the table: `make(i)` makes item number i; `least` is the fewest a second that pass."""

    name: str
    make: Callable[[int], object]
    items: int
    least: float | None
    warm: int = 1  # items made before the clock starts


def memory_mb() -> float:
    """What this process holds; 0 where the system does not tell."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if file.exists() else 0.0


def tabletop_rows(blocks: int) -> list[Row]:
    """Tabletop scenes with and without shadows and smooth edges, `blocks` blocks of each."""

    def row(name: str, least: float | None, **options: object) -> Row:
        spec = TabletopSpec(**options)  # type: ignore[arg-type]
        studio = Studio(spec, 0)
        return Row(name, studio.scene, blocks * spec.block, least)

    return [
        row("tabletop", 60.0, shadows=False),
        row("tabletop, rough edges", None, shadows=False, smooth=False),
        row("tabletop, shadows", 25.0),
        row("tabletop, shadows, rough edges", None, smooth=False),
    ]


def collage_rows(count: int) -> list[Row]:
    """Collages and instructions from the packs of IVM_DATA; none where they are absent.

    What is decoded is kept, up to 304 MiB; that fills first, and memory is flat from then on.
    """
    folder = data_folder()
    if folder is None:
        print("(no collages: set IVM_DATA to a folder with the packs coco, voc, clothing, cutouts, grocery)")
        return []
    photos = [folder / name for name in ("coco", "voc", "clothing")]
    materials = read_materials(photos, [folder / "cutouts", folder / "grocery"])
    names = materials.names()
    scenes = [collage_scene(materials, 1, i) for i in range(40)]

    def ask(i: int) -> object:
        return instructions_for(scenes[i % 40], np.random.default_rng(i), count=4, others=names)

    return [
        Row("collage", lambda i: collage_scene(materials, 0, i), count, 150.0, warm=2500),
        Row("four instructions of a collage", ask, count, None),
    ]


def measure(row: Row) -> tuple[float, float, float]:
    """(items a processor second, items a second by the clock, growth in MB); warm ones are not timed."""
    for i in range(row.warm):
        row.make(i)
    middle = 0.0
    start, clock = time.process_time(), time.perf_counter()
    for i in range(row.items):
        row.make(i + row.warm - 1)
        if i == row.items // 2:
            middle = memory_mb()
    busy, waited = time.process_time() - start, time.perf_counter() - clock
    return row.items / busy, row.items / waited, memory_mb() - middle


def main() -> int:
    parser = argparse.ArgumentParser(description="Time synthesis on one core.")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a limit is missed")
    parser.add_argument("--blocks", type=int, default=2, help="blocks of scenes a row (default: 2)")
    parser.add_argument("--collages", type=int, default=2000, help="collages timed (default: 2000)")
    parser.add_argument("--only", choices=("tabletop", "collage"), help="measure one part")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    missed = False
    print(f"{'':32}{'a core s':>10}{'at least':>10}{'by clock':>10}{'growth MB':>11}")
    rows = [] if options.only == "collage" else tabletop_rows(options.blocks)
    rows += [] if options.only == "tabletop" else collage_rows(options.collages)
    for row in rows:
        rate, clock, growth = measure(row)
        limit = f"{row.least:10.0f}" if row.least else f"{'':10}"
        print(f"{row.name:32}{rate:10.1f}{limit}{clock:10.1f}{growth:11.1f}", flush=True)
        missed |= (row.least is not None and rate < row.least) or growth > MEMORY_LIMIT_MB
    return int(options.check and missed)


if __name__ == "__main__":
    sys.exit(main())
