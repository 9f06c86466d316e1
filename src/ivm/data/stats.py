"""Statistics of a store: kept areas by source (the paper's Figure 5), instructions, targets, duplicates,
bumps."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivm.data.measure import Measured, look_alikes
from ivm.errors import OutputError, require
from ivm.files import whole, write_text

__all__ = [
    "AREA_BINS",
    "Bump",
    "Statistics",
    "draw_areas",
    "draw_instructions",
    "summarise",
    "write_statistics",
]

AREA_BINS = 50
"""Bins of the kept area, of equal width over [0, 1]."""

_BUMP_FACTOR = 2.5  # as many samples as this times what the neighbouring bins let expect
_BUMP_SIGMA = 6.0  # and so many standard deviations of counting more
_BUMP_SHARE = 0.003  # and at least this share of the source
_NEIGHBOURS = 4  # bins on either side that let expect something

# Okabe and Ito's palette (2008), which people who see colours differently tell apart, without its yellow.
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#332288", "#117733")


@dataclass(frozen=True)
class Bump:
    """A range of kept areas with far more samples of one source than its neighbours let expect.

    Attributes:
        source: "coco, human".
        low, high: of the kept area.
        samples: how many are there.
        expected: how many the neighbouring bins let expect.
        uuids: all of them.
    """

    source: str
    low: float
    high: float
    samples: int
    expected: float
    uuids: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """What is in a store.

    Attributes:
        samples: in all.
        images: pictures; the frames of a robot episode are many, though one image_id holds them together.
        sources: samples by source and kind of annotation.
        kinds: samples by kind of instruction; "unknown" where it is not said.
        areas: source -> samples in each of AREA_BINS bins of the kept area.
        without_heatmap: samples that are still to be annotated.
        words: number of words -> samples, of the longest instruction.
        targets: number of names -> samples.
        instructions: instructions a sample, on average.
        repeated_texts: instructions that occur more than once, and how often, the commonest first (20).
        look_alike_images: pairs of image_id of which pictures look alike.
        repeated_annotations: pictures and instructions that are annotated more than once.
        bumps: abnormal ranges of kept areas.
    """

    samples: int
    images: int
    sources: Mapping[str, int]
    kinds: Mapping[str, int]
    areas: Mapping[str, tuple[int, ...]]
    without_heatmap: int
    words: Mapping[int, int]
    targets: Mapping[int, int]
    instructions: float
    repeated_texts: tuple[tuple[str, int], ...]
    look_alike_images: tuple[tuple[str, str], ...]
    repeated_annotations: int
    bumps: tuple[Bump, ...]


def summarise(measured: Iterable[Measured]) -> Statistics:
    """The statistics of a store's samples."""
    everything = list(measured)
    sources = Counter(one.group for one in everything)
    by_source: dict[str, list[Measured]] = defaultdict(list)
    for one in everything:
        if one.area is not None:
            by_source[one.group].append(one)
    looks = list(dict.fromkeys((one.image_id, one.hash) for one in everything))
    pairs = ((looks[i][0], looks[j][0]) for i, j in look_alikes([seen for _, seen in looks]))
    asked = Counter((one.picture, text) for one in everything for text in set(one.texts))
    texts = Counter(text for one in everything for text in set(one.texts))
    return Statistics(
        samples=len(everything),
        images=len({one.picture for one in everything}),
        sources=dict(sources.most_common()),
        kinds=dict(Counter(one.kind or "unknown" for one in everything).most_common()),
        areas={
            name: tuple(int(n) for n in _histogram(by_source[name]))
            for name, _ in sources.most_common()
            if name in by_source
        },
        without_heatmap=sum(one.area is None for one in everything),
        words=dict(sorted(Counter(one.words for one in everything).items())),
        targets=dict(sorted(Counter(one.targets for one in everything).items())),
        instructions=float(np.mean([len(one.texts) for one in everything])) if everything else 0.0,
        repeated_texts=tuple((text, n) for text, n in texts.most_common(20) if n > 1),
        look_alike_images=tuple(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1])),
        repeated_annotations=sum(n > 1 for n in asked.values()),
        bumps=tuple(bump for name in sources for bump in _bumps(name, by_source.get(name, []))),
    )


def _bins(samples: Sequence[Measured]) -> np.ndarray:
    areas = np.array([one.area for one in samples], np.float64)
    return np.minimum((areas * AREA_BINS).astype(np.int64), AREA_BINS - 1)


def _histogram(samples: Sequence[Measured]) -> np.ndarray:
    return np.bincount(_bins(samples), minlength=AREA_BINS)


def _bumps(source: str, samples: Sequence[Measured]) -> list[Bump]:
    """Bins far above what their neighbours let expect; neighbouring ones are one bump.

    Expected is the mean of the neighbours' medians on either side, so that a steep but even slope is no bump.
    Bins already found let expect nothing, so that a broad bump is found whole. The first bin, where small
    targets pile up in every data set, is never one.
    """
    if not samples:
        return []
    counts, bins = _histogram(samples), _bins(samples)
    high: dict[int, float] = {}
    while True:
        more = {}
        for k in range(1, AREA_BINS):
            sides = [
                [int(counts[m]) for m in side if 0 <= m < AREA_BINS and m not in high]
                for side in (range(k - _NEIGHBOURS, k), range(k + 1, k + 1 + _NEIGHBOURS))
            ]
            medians = [float(np.median(side)) for side in sides if side]
            expected = sum(medians) / max(1, len(medians))
            enough = counts[k] >= _BUMP_SHARE * len(samples) and counts[k] > _BUMP_FACTOR * expected
            if enough and counts[k] - expected > _BUMP_SIGMA * np.sqrt(expected + 1.0):
                more[k] = expected
        if more.keys() <= high.keys():
            break
        high |= more
    found: list[list[tuple[int, float]]] = []
    for k, expected in sorted(high.items()):
        if found and found[-1][-1][0] == k - 1:
            found[-1].append((k, expected))
        else:
            found.append([(k, expected)])
    bumps = []
    for group in found:
        first, last = group[0][0], group[-1][0]
        uuids = [one.uuid for one, k in zip(samples, bins, strict=True) if first <= k <= last]
        expected = sum(value for _, value in group)
        bumps.append(
            Bump(source, first / AREA_BINS, (last + 1) / AREA_BINS, len(uuids), expected, tuple(uuids))
        )
    return bumps


def write_statistics(statistics: Statistics, folder: str | os.PathLike[str], title: str = "") -> list[Path]:
    """Write stats.json, areas.png, instructions.png and, where there are bumps, bumps.jsonl.

    Each file is written whole or not at all; one of an earlier call that is not written again is removed.

    Returns:
        The files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, wanted in (("areas.png", statistics.areas), ("bumps.jsonl", statistics.bumps)):
            if not wanted:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    files = [folder / "stats.json"]
    content: dict[str, Any] = {key: value for key, value in vars(statistics).items() if key != "bumps"}
    content["bumps"] = [{k: v for k, v in vars(bump).items() if k != "uuids"} for bump in statistics.bumps]
    write_text(files[0], json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if statistics.areas:
        files.append(folder / "areas.png")
        draw_areas({title: statistics}, files[-1])
    files.append(folder / "instructions.png")
    draw_instructions(statistics, files[-1])
    if statistics.bumps:
        files.append(folder / "bumps.jsonl")
        lines = [json.dumps(vars(bump), ensure_ascii=False) for bump in statistics.bumps]
        write_text(files[-1], "\n".join(lines) + "\n")
    return files


def draw_areas(panels: Mapping[str, Statistics], path: str | os.PathLike[str]) -> None:
    """Draw the paper's Figure 5: samples by kept area, stacked by source, on a cube-root scale.

    The cube root makes bins of a few samples visible beside bins of a thousand. It is taken of the stack's
    height, so that only the outline is to be read off the axis; colours share a bar in proportion to samples.

    Args:
        panels: title -> statistics; several are drawn side by side with one scale.
        path: PNG or SVG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    figure, axes = _figure(len(panels), 1, width=5.6 * len(panels), height=3.9)
    names = list(dict.fromkeys(name for one in panels.values() for name in one.areas))
    names.sort(key=lambda name: -max(sum(one.areas.get(name, ())) for one in panels.values()))
    colours = {name: _PALETTE[k % len(_PALETTE)] for k, name in enumerate(names)}
    tallest = 1
    width = 1 / AREA_BINS
    places = (np.arange(AREA_BINS) + 0.5) * width
    for axis, (title, one) in zip(axes, panels.items(), strict=True):
        total = np.sum([one.areas[name] for name in one.areas], axis=0) if one.areas else np.zeros(AREA_BINS)
        tallest = max(tallest, int(total.max()))
        roots, reached = np.cbrt(total), np.zeros(AREA_BINS)
        for name in (name for name in names if name in one.areas):
            part = np.array(one.areas[name])
            height = np.divide(part, total, out=np.zeros(AREA_BINS), where=total > 0) * roots
            axis.bar(places, height, width * 0.94, bottom=reached, color=colours[name], label=name)
            reached += height
        if title:
            axis.set_title(f"{title}: {one.samples - one.without_heatmap:,} samples", loc="left", fontsize=10)
        axis.set_xlabel("kept area (share of the picture)")
        axis.set_xlim(0, 1)
        for bump in one.bumps:
            middle = (bump.low + bump.high) / 2
            top = np.cbrt(total[int(middle * AREA_BINS)])
            axis.annotate(
                f"{bump.samples:,}",
                (middle, top),
                xytext=(0, 14),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                arrowprops={"arrowstyle": "-|>", "lw": 0.8},
            )
    ticks = [0]
    for n in sorted(k * 10**power for power in range(8) for k in (1, 3)):
        if n <= tallest and np.cbrt(n) - np.cbrt(ticks[-1]) > 0.07 * np.cbrt(tallest):
            ticks.append(n)
    for axis in axes:
        axis.set_yticks(np.cbrt(ticks), [f"{n:,}" for n in ticks])
        axis.set_ylim(0, np.cbrt(tallest) * 1.15)
    axes[0].set_ylabel("samples in a bin of 0.02 (cube-root scale)")
    axes[0].legend(fontsize=8, frameon=False, loc="upper right", reverse=True)
    _save(figure, path)


def draw_instructions(statistics: Statistics, path: str | os.PathLike[str]) -> None:
    """Draw words an instruction, kinds of instruction, and targets a sample.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: it cannot be written.
    """
    figure, axes = _figure(3, 1, width=11.0, height=3.4)
    words = statistics.words
    longest = min(60, max(words, default=1))
    counts = [words.get(n, 0) for n in range(longest)] + [sum(v for k, v in words.items() if k >= longest)]
    axes[0].bar(range(longest + 1), counts, color=_PALETTE[0])
    axes[0].set_xlim(0, max(8, longest + 1))
    axes[0].set_title("words in the longest instruction", loc="left", fontsize=10)
    kinds = list(statistics.kinds.items())[:12][::-1]
    axes[1].barh([name[:24] for name, _ in kinds], [n for _, n in kinds], color=_PALETTE[2])
    axes[1].set_title("kinds of instruction", loc="left", fontsize=10)
    axes[1].set_ylim(min(-0.6, len(kinds) - 5.6), len(kinds) - 0.4)
    targets = statistics.targets
    axes[2].bar([str(n) for n in targets], list(targets.values()), color=_PALETTE[1])
    axes[2].set_xlim(-0.6, max(4.4, len(targets) - 0.4))
    axes[2].set_title("names of targets a sample", loc="left", fontsize=10)
    for axis in axes:
        axis.tick_params(labelsize=8)
    _save(figure, path)


def _figure(columns: int, rows: int, width: float, height: float) -> tuple[Any, list[Any]]:
    require("matplotlib", "data")
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(rows * columns)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_axisbelow(True)
        axis.grid(axis="both", color="#dddddd", lw=0.6)
    return figure, axes


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150)
