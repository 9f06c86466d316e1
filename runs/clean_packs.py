"""Kept areas before and after cleaning: the figure of docs/data-cleaning.md.

    IVM_DATA=folder-of-packs python runs/clean_packs.py [--work FOLDER] [--picture FILE]

Two kinds of annotation go into stores and are cleaned: the packs' own masks, which people made, and a machine
annotation run of ours: the embedded model annotates the test photos, and where it finds no target it keeps
the whole picture, as the reference inference does. Prints what was dropped and which bumps are named. The
stores stay in the work folder; run again, it goes on where it stopped. Needs the extra `data`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import chain, groupby
from pathlib import Path

import numpy as np

import ivm
from ivm.data.clean import RULES, Limits, clean
from ivm.data.measure import measure
from ivm.data.packs import data_folder, read_pack
from ivm.data.readers import entries
from ivm.data.records import Entry, Record
from ivm.data.shards import write_shards
from ivm.data.stats import draw_areas, summarise
from ivm.data.stream import ShardReader
from ivm.evaluation.masks import pack_questions
from ivm.types import Sample

PACKS = ("coco", "voc", "clothing")
MACHINE = "embedded model"


def annotated(home: Path) -> Iterator[Entry]:
    """The test photos' questions, present targets and absent ones, answered by the embedded model."""
    masker = ivm.load("compact", device="cpu")
    for name in PACKS:
        for _, group in groupby(
            pack_questions(read_pack(home / name), "test", looks=0), lambda s: s.image_id
        ):
            yield Entry(name, "", partial(annotate, masker, list(group)))


def annotate(masker: ivm.Masker, samples: list[Sample]) -> Iterator[Record]:
    heatmaps = masker.batch([samples[0].image], [sample.instructions[0] for sample in samples])
    for sample, heatmap in zip(samples, heatmaps, strict=True):
        mask = heatmap.to_mask()
        if not heatmap.found or not mask.any():
            mask = np.ones_like(mask)  # the reference's fallback: keep the whole image
        yield Record(
            replace(
                sample, uuid=f"machine-{sample.uuid}", heatmap=mask, source=MACHINE, human=False, targets=()
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("outputs/clean-packs"), help="folder for the stores"
    )
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/kept-areas.png"))
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    home = data_folder()
    if home is None:
        parser.error("IVM_DATA must name the folder of the packs")

    stores = {pack: partial(entries, "coco", home / pack, {"source": pack}) for pack in PACKS}
    stores["machine"] = partial(annotated, home)
    counts: dict[str, Counter[str]] = {"people's": Counter(), "the machine's": Counter()}
    for name, given in stores.items():
        raw, cleaned = options.work / name, options.work / f"{name}-clean"
        write_shards(given(), raw, {"source": name, "version": version("ivm")})
        clean(raw, cleaned, limits=Limits(people=True), workers=options.workers)
        who = "the machine's" if name == "machine" else "people's"
        for line in (cleaned / "dropped.jsonl").read_text(encoding="utf-8").splitlines():
            counts[who][json.loads(line)["rule"]] += 1
    before, after = (
        summarise(
            chain.from_iterable(
                measure(ShardReader(options.work / (pack + suffix)), options.workers) for pack in stores
            )
        )
        for suffix in ("", "-clean")
    )
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    draw_areas({"before cleaning": before, "after cleaning": after}, options.picture)
    print(f"{before.samples:,} annotations, {after.samples:,} after cleaning")
    print(f"| rule | {' | '.join(counts)} |\n| --- | --- | --- |")
    for rule in RULES:
        print(f"| `{rule}` | {' | '.join(str(one[rule]) for one in counts.values())} |")
    for name, one in (("before", before), ("after", after)):
        for bump in one.bumps:
            print(
                f"{name}: {bump.source}: {bump.samples} in {bump.low:.2f}-{bump.high:.2f}, "
                f"expected {bump.expected:.0f}: {', '.join(bump.uuids[:6])}"
            )


if __name__ == "__main__":
    main()
