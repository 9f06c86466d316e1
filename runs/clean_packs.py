"""Kept areas of the packs in IVM_DATA before and after cleaning: the figure of docs/data-cleaning.md.

    IVM_DATA=folder-of-packs python runs/clean_packs.py [--work FOLDER] [--picture FILE]

Converts each pack to a store, cleans it by every rule (those about areas included, though people made these
masks), draws both side by side, and prints what was dropped. The stores stay in the work folder; run again, it
goes on where it stopped. Needs the extra `data`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import chain
from pathlib import Path

from ivm.data.clean import RULES, Limits, clean
from ivm.data.measure import measure
from ivm.data.packs import data_folder
from ivm.data.readers import entries
from ivm.data.shards import write_shards
from ivm.data.stats import draw_areas, draw_instructions, summarise
from ivm.data.stream import ShardReader

PACKS = ("coco", "voc", "clothing")


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

    counts: Counter[str] = Counter()
    for pack in PACKS:
        raw, cleaned = options.work / pack, options.work / f"{pack}-clean"
        given = {"source": pack}
        write_shards(
            entries("coco", home / pack, given), raw, {"reader": "coco", "source": pack, "options": given}
        )
        clean(raw, cleaned, limits=Limits(people=True), workers=options.workers)
        for line in (cleaned / "dropped.jsonl").read_text(encoding="utf-8").splitlines():
            dropped = json.loads(line)
            counts[dropped["rule"]] += 1
            print(f"{dropped['uuid']:60} {dropped['rule']:20} {dropped['detail']}")
    before, after = (
        summarise(
            chain.from_iterable(
                measure(ShardReader(options.work / (pack + suffix)), options.workers) for pack in PACKS
            )
        )
        for suffix in ("", "-clean")
    )
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    draw_areas({"before cleaning": before, "after cleaning": after}, options.picture)
    draw_instructions(before, options.picture.with_name("instructions.png"))
    print(f"\n{before.samples:,} samples of {before.images:,} pictures, {counts.total():,} dropped")
    for rule in RULES:
        print(f"| `{rule}` | {counts[rule]} |")
    for name, one in (("before", before), ("after", after)):
        print(f"{name}: look-alike pairs {len(one.look_alike_images)}: {one.look_alike_images[:5]}")
        for bump in one.bumps:
            print(
                f"{name}: {bump.source}: {bump.samples} in {bump.low:.2f}-{bump.high:.2f}, "
                f"expected {bump.expected:.0f}: {', '.join(bump.uuids[:6])}"
            )


if __name__ == "__main__":
    main()
