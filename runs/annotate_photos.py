"""How good are machine annotations? Photos with known masks, annotated as if nobody had, and compared.

    IVM_DATA=... python runs/annotate_photos.py [--experts compact --experts compact,tiles=2 ...]
        [--split test] [--photos 60] [--out FILE.json]

Every question of `ivm eval masks` about a target that is there is simplified by the rules; each expert
proposes for each phrase. Printed for each pack: gIoU of each expert asked the instruction as it is, of each
alone after simplification, of all fused, and of all fused beside an expert that keeps everything (by a plain
mean, too, which shows what its vote would do). A question that is left out counts as an empty mask, so that
nothing is gained by leaving out; "written" is the share that would be in the store, "of written" their gIoU.
Then: how many questions about absent targets are left out, and whether reliability tells good annotations
from bad.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ivm.annotation.experts import Expert, Panel, open_expert
from ivm.annotation.fuse import Proposal, calibrate, fuse
from ivm.annotation.rules import simplify
from ivm.data.packs import data_folder, read_pack
from ivm.evaluation.baselines import WholeImage
from ivm.evaluation.masks import pack_questions
from ivm.metrics import clustered_interval, giou, iou
from ivm.types import Sample

PACKS = ("voc", "coco", "clothing")


class Table:
    """What came of each way to annotate, question by question."""

    def __init__(self) -> None:
        self.ious: dict[str, list[float]] = {}
        self.written: dict[str, list[bool]] = {}
        self.photos: list[str] = []
        self.reliability: list[float | None] = []

    def add(self, way: str, mask_HW: np.ndarray, target_HW: np.ndarray, fault: str) -> None:
        empty = np.zeros_like(target_HW) if fault else mask_HW
        self.ious.setdefault(way, []).append(iou(empty, target_HW))
        self.written.setdefault(way, []).append(not fault)

    def rows(self) -> Iterator[dict[str, Any]]:
        for way, values in self.ious.items():
            ious, written = np.array(values), np.array(self.written[way])
            low, high = clustered_interval(ious, np.array(self.photos))
            yield {
                "way": way, "giou": giou(ious), "low": low, "high": high,
                "written": float(written.mean()), "giou_written": giou(ious[written]),
            }  # fmt: skip


def plain_mean(proposals: Sequence[Proposal]) -> np.ndarray:
    """bool [H, W]: the union over phrases of the mean of all experts that found it, whatever they keep."""
    proposals = [proposal for proposal in proposals if proposal.heatmap.found]
    phrases = dict.fromkeys(p.phrase for p in proposals)
    means = [np.mean([calibrate(p.heatmap) for p in proposals if p.phrase == one], axis=0) for one in phrases]
    return np.max(means, axis=0) > 0.5


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank."""

    def ranks(values: Sequence[float]) -> np.ndarray:
        _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def annotate(samples: Iterator[Sample], panel: Panel) -> tuple[Table, dict[str, int]]:
    """Annotate questions with known answers in every way, and count absent targets by what became of them."""
    table, absent = Table(), {"questions": 0, "left out": 0}
    everything = Expert("everything", WholeImage())
    names = [expert.name for expert in panel.experts]
    for sample in samples:
        assert sample.heatmap is not None
        target, text = sample.heatmap > 0.5, sample.instructions[0]
        named = simplify(text)
        if named.whole:  # no question of these packs is about the whole picture: the rules were wrong
            named = simplify(sample.targets[0] if sample.targets else "object")
        proposals = panel.propose(sample.image, named.phrases)
        fused = fuse(proposals, text)
        if not target.any():
            absent["questions"] += 1
            absent["left out"] += bool(fused.fault)
            continue
        table.photos.append(sample.image_id)
        table.reliability.append(None if fused.fault else fused.reliability)
        for answer in panel.propose(sample.image, [text]):
            one = fuse([answer])
            table.add(f"{answer.expert}, instruction as it is", one.heatmap.to_mask(), target, one.fault)
        for name in names:
            one = fuse([p for p in proposals if p.expert == name])
            table.add(f"{name} alone", one.heatmap.to_mask(), target, one.fault)
        table.add("fused", fused.heatmap.to_mask(), target, fused.fault)
        whole = [
            Proposal(everything.name, phrase, everything.masking.batch([sample.image], [phrase])[0])
            for phrase in named.phrases
        ]
        beside = fuse([*proposals, *whole])
        table.add("fused beside one that keeps everything", beside.heatmap.to_mask(), target, beside.fault)
        table.add("the same by a plain mean", plain_mean([*proposals, *whole]), target, fused.fault)
    return table, absent


def trust(table: Table) -> dict[str, float]:
    """Whether the reliability of the fused annotations goes with their IoU."""
    pairs = [(r, i) for r, i in zip(table.reliability, table.ious["fused"], strict=True) if r is not None]
    if len(pairs) < 10:
        return {}
    reliability, ious = (np.array(column) for column in zip(*pairs, strict=True))
    middle = float(np.median(reliability))
    return {
        "rank correlation": spearman(reliability, ious),
        "gIoU of the more reliable half": giou(ious[reliability > middle]),
        "gIoU of the rest": giou(ious[reliability <= middle]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--experts", action="append", help="default: compact, with tiles and without")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--photos", type=int, default=60, help="of each pack")
    parser.add_argument("--packs", nargs="+", default=PACKS)
    parser.add_argument("--out", type=Path, help="also write all figures as JSON")
    parser.add_argument("--threads", type=int, help="CPU threads of each expert")
    given = parser.parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("IVM_DATA must name the folder of packs")
    panel = Panel(
        [open_expert(text, threads=given.threads) for text in given.experts or ["compact", "compact,tiles=2"]]
    )
    found: dict[str, Any] = {"experts": [expert.name for expert in panel.experts], "split": given.split}
    for name in given.packs:
        samples = pack_questions(read_pack(folder / name), given.split, limit=given.photos)
        table, absent = annotate(samples, panel)
        rows = list(table.rows())
        print(
            f"\n{name}: {len(table.photos)} questions about {len(set(table.photos))} photos of {given.split}"
        )
        print(f"{'':44}  gIoU  [95 %]        written  gIoU of written")
        for row in rows:
            print(
                f"{row['way']:44} {row['giou']:.3f}  [{row['low']:.2f}, {row['high']:.2f}]  "
                f"{row['written']:7.2f}  {row['giou_written']:.3f}"
            )
        print(f"absent targets: {absent['left out']} of {absent['questions']} left out")
        for what, value in trust(table).items():
            print(f"{what}: {value:.3f}")
        found[name] = {"rows": rows, "absent": absent, "reliability": trust(table), "n": len(table.photos)}
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
