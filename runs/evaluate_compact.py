"""The figures of the shipped compact model: held-out photos; scenes of held-out seeds, pairs and cut-outs.

    python runs/evaluate_compact.py --out docs/reports/compact.json

Photos: the test split of the packs in IVM_DATA. Scenes: seeds, pairs of shape and colour, and cut-outs that
training does not use. Prints the model card's tables as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

import ivm
from ivm import metrics
from ivm.data.packs import data_folder, read_pack
from ivm.data.synthesis import Synthesis
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.evaluation.masks import evaluate_masks, pack_questions, print_report
from train_compact import UNSEEN_PAIRS

SEED = 10_001  # of the scenes; training uses small seeds


def spec(source, root, tabletop=None, size=256):
    pictures = {"photos": (str(root / "coco"),), "cutouts": (str(root / "cutouts"), str(root / "grocery"))}
    return SynthesisSpec(
        {source: 1.0}, size=size, instructions=4, split="test", tabletop=tabletop or {},
        **(pictures if source == "collage" else {}),
    )  # fmt: skip


def scene_samples(described, count):
    with Synthesis(described, SEED) as synthesis:
        for index in range(count):
            image, samples = None, []
            for sample in synthesis.samples(index):
                if sample.instructions[0] not in {s.instructions[0] for s in samples}:
                    image = sample.image if image is None else image
                    samples.append(sample)
            yield from samples


def colour_swap(masker, described, count):
    """Both points right, for pairs of things of one name whose colours differ: [share, low, high], pairs."""
    right, scenes = [], []
    with Synthesis(described, SEED + 1) as synthesis:
        for index in range(count):
            scene = synthesis.scene(index)[0]
            by_name = {}
            for thing in scene.things:
                by_name.setdefault(thing.name, []).append(thing)
            for name, things in by_name.items():
                colours = [t.colour for t in things]
                if len(things) != 2 or None in colours or colours[0] == colours[1]:
                    continue
                texts = [f"the {colour} {name}" for colour in colours]
                heatmaps = masker.batch([scene.image], texts)
                right.append(
                    all(metrics.pointing_hit(h.values, t.mask) for h, t in zip(heatmaps, things, strict=True))
                )
                scenes.append(index)
    right = np.array(right, float)
    return [float(right.mean()), *metrics.clustered_interval(right, np.array(scenes))], len(right)


def markdown(reports):
    keys = (("gIoU", "giou"), ("pointing", "pointing"), ("P@0.5", "p_at_50"), ("found", "found_accuracy"))
    lines = [
        "| data | kind | n | " + " | ".join(title for title, _ in keys) + " | best baseline gIoU / pointing |"
    ]
    lines.append("|" + " --- |" * (len(keys) + 4))
    for name, report in reports.items():
        others = [t for masking, t in report.tables.items() if masking != report.model]
        for kind, row in report.tables[report.model].items():
            cells = []
            for _, key in keys:
                value = row.get(key)
                cells.append("" if value is None else f"{value[0]:.3f} [{value[1]:.2f}, {value[2]:.2f}]")
            best = ""
            if "giou" in row:
                best = " / ".join(
                    f"{max(t[kind][key][0] for t in others):.3f}" for key in ("giou", "pointing")
                )
            lines.append(f"| {name} | {kind} | {row['n']} | {' | '.join(cells)} | {best} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="compact")
    parser.add_argument("--scenes", type=int, default=300, help="scenes of each kind")
    parser.add_argument("--photos", type=int, help="at most so many photos of a pack")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA to the folder that holds the packs")
    masker = ivm.load(arguments.model)
    data = {}
    for name in ("voc", "coco", "clothing"):
        data[name] = pack_questions(read_pack(root / name), "test", limit=arguments.photos)
    seen, unseen = {"exclude_pairs": UNSEEN_PAIRS}, {"only_pairs": UNSEEN_PAIRS}
    data["tabletop"] = scene_samples(spec("tabletop", root, seen), arguments.scenes)
    data["tabletop, unseen pairs"] = scene_samples(spec("tabletop", root, unseen), arguments.scenes)
    data["collage, unseen cut-outs"] = scene_samples(spec("collage", root), arguments.scenes)
    reports = {}
    for name, samples in data.items():
        reports[name] = evaluate_masks(samples, masker, model=arguments.model, data=name)
        print_report(reports[name])
        print()
    swapped, pairs_asked = colour_swap(
        masker, spec("tabletop", root, {**seen, "twins": 0.8}), arguments.scenes
    )
    print(markdown(reports))
    print(
        "\n| data | AUROC of the found score | absent recognised at 5 % false alarms |\n| --- | --- | --- |"
    )
    for name, report in reports.items():
        found = report.detection[arguments.model]
        print(f"| {name} | {found['auroc']:.3f} | {found['absent_at_5']:.2f} |")
    share, low, high = swapped
    print(f"\ncolour swap, both points right: {share:.3f} [{low:.2f}, {high:.2f}], n {pairs_asked}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        content = {name: asdict(report) for name, report in reports.items()}
        content["colour swap"] = {"both_right": swapped, "pairs": pairs_asked}
        content = json.loads(
            json.dumps(content), parse_float=lambda x: round(float(x), 4), parse_constant=lambda _: None
        )
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        temporary.replace(arguments.out)


if __name__ == "__main__":
    main()
