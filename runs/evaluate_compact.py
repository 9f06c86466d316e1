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
from itertools import islice
from pathlib import Path

import numpy as np

import ivm
from ivm import metrics
from ivm.data.grammar import name_instructions
from ivm.data.materials import nouns_looked_for, read_materials
from ivm.data.packs import data_folder, read_pack
from ivm.data.photo_scenes import photo_scene
from ivm.data.synthesis import Synthesis
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.evaluation.masks import evaluate_masks, pack_questions, print_report
from train_compact import UNSEEN_PAIRS

SEED = 10_001  # of the scenes; training uses small seeds
APART = 0.2  # sides are asked of two things whose centres lie so far apart, in widths of the picture
KEYS = ("giou", "pointing")
SAME = 100  # photos of a pack whose names are asked for twice


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


def swaps(masker, described, count):
    """Does it listen? Two things of one name, told apart by colour or by side: are both points right?

    A point misses in two ways: it is on neither of the two things (not recognised), or on the other one (not
    listened to). {"colour": {"both_right": [share, low, high], "pairs": n, "on_one": share of the points that
    are on one of the two, "on_the_meant": of those, on the one that is meant}, "side": the same}
    """
    points = {"colour": [], "side": []}  # a pair: of each of its two points (on the meant, on the other)
    scenes = {"colour": [], "side": []}
    with Synthesis(described, SEED + 1) as synthesis:
        for index in range(count):
            scene = synthesis.scene(index)[0]
            by_name = {}
            for thing in scene.things:
                by_name.setdefault(thing.name, []).append(thing)
            for name, things in by_name.items():
                if len(things) != 2:
                    continue
                pairs = {}
                colours = [thing.colour for thing in things]
                if None not in colours and colours[0] != colours[1]:
                    pairs["colour"] = (things, [f"the {colour} {name}" for colour in colours])
                places = [np.nonzero(thing.mask)[1].mean() / scene.image.shape[1] for thing in things]
                if abs(places[0] - places[1]) > APART:
                    ordered = [things[k] for k in np.argsort(places)]
                    pairs["side"] = (ordered, [f"the {name} on the {side}" for side in ("left", "right")])
                for by, ((one, other), texts) in pairs.items():
                    first, second = (h.values for h in masker.batch([scene.image], texts))
                    hit = metrics.pointing_hit
                    points[by].append(
                        [(hit(first, one.mask), hit(first, other.mask)),
                         (hit(second, other.mask), hit(second, one.mask))]
                    )  # fmt: skip
                    scenes[by].append(index)
    told = {}
    for by, given in points.items():
        meant, other = np.array(given, float).transpose(2, 0, 1)  # [pairs, 2]
        both = meant.all(axis=1).astype(float)
        told[by] = {
            "both_right": [both.mean(), *metrics.clustered_interval(both, np.array(scenes[by]))],
            "pairs": len(both),
            "on_one": (meant + other).mean(),
            "on_the_meant": meant.sum() / max(1.0, (meant + other).sum()),
        }
    return told


def by_names(masker, root, count):
    """Questions about collages apart by what is asked for: is it new names that fail?

    Cut-outs whose names something in the training split has, too; cut-outs whose names nothing there has; and
    things of photos (of the ground, or cut from one). What mixes them is left out, and so is the kind "part".
    {group: {"n": ..., "giou": [mean, low, high], "pointing": the same}}
    """
    packs = [root / name for name in ("voc", "coco")]
    folders = [root / name for name in ("cutouts", "grocery")]
    of_photos = (photo for folder in packs for photo in read_pack(folder).split("train"))
    known = {region.name for photo in of_photos for region in photo.regions}
    known |= set(read_materials(packs, folders, "train").names())
    pasted = set(read_materials(packs[1:], folders, "test").cutouts)
    samples = [s for s in scene_samples(spec("collage", root), count) if s.targets and s.kind != "part"]
    groups = {
        "cut-outs, names that training has": (pasted & known).issuperset,
        "cut-outs, names of held-out ones alone": (pasted - known).issuperset,
        "things of photos": pasted.isdisjoint,
    }
    told = {}
    for name, fits in groups.items():
        given = [sample for sample in samples if fits(sample.targets)]
        report = evaluate_masks(given, masker, model="it", data=name, baselines=False)
        row = report.tables["it"]["all present"]
        told[name] = {"n": row["n"], **{key: row[key] for key in KEYS}}
    return told


def paraphrases(masker, scenes):
    """Mean IoU of the masks of two phrasings of one request for a name, [mean, low, high], and how many."""
    ious, clusters = [], []
    for number, scene in enumerate(scenes):
        one, other = (name_instructions(scene, np.random.default_rng((number, k)), noise=0.0) for k in (0, 1))
        pairs = [(a.text, b.text) for a, b in zip(one, other, strict=True) if a.text != b.text]
        if not pairs:
            continue
        heatmaps = masker.batch([scene.image], [text for pair in pairs for text in pair])
        masks = [heatmap.to_mask() for heatmap in heatmaps]
        for a, b in zip(masks[::2], masks[1::2], strict=True):
            ious.append(metrics.iou(a, b) if (a | b).any() else 1.0)
            clusters.append(number)
    ious = np.array(ious)
    interval = metrics.clustered_interval(ious, np.array(clusters))
    return {"iou": [float(ious.mean()), *interval], "pairs": len(ious)}


def test_photos(pack, limit):
    nouns = nouns_looked_for(pack)
    for photo in islice(pack.split("test"), limit):
        if photo.regions:
            yield photo_scene(photo, nouns)


def tabletops(described, count):
    with Synthesis(described, SEED + 2) as synthesis:
        for index in range(count):
            yield synthesis.scene(index)[0]


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
    named = by_names(masker, root, arguments.scenes)
    listens = swaps(masker, spec("tabletop", root, {**seen, "twins": 0.8}), arguments.scenes)
    agree = {
        name: paraphrases(masker, test_photos(read_pack(root / name), arguments.photos or SAME))
        for name in ("voc", "coco", "clothing")
    }
    agree["tabletop"] = paraphrases(masker, tabletops(spec("tabletop", root, seen), arguments.scenes))
    print(markdown(reports))
    print(
        "\n| data | AUROC of the found score | absent recognised at 5 % false alarms |\n| --- | --- | --- |"
    )
    for name, report in reports.items():
        found = report.detection[arguments.model]
        print(f"| {name} | {found['auroc']:.3f} | {found['absent_at_5']:.2f} |")
    for name, told in named.items():
        cells = "; ".join(
            f"{key} {told[key][0]:.3f} [{told[key][1]:.2f}, {told[key][2]:.2f}]" for key in KEYS
        )
        print(f"collage, {name}: {cells}, n {told['n']}")
    for by, told in listens.items():
        share, low, high = told["both_right"]
        print(f"{by} swap, both points right: {share:.3f} [{low:.2f}, {high:.2f}], n {told['pairs']}")
        print(f"  on one of the two {told['on_one']:.3f}, of those on the meant {told['on_the_meant']:.3f}")
    for name, told in agree.items():
        mean, low, high = told["iou"]
        print(f"paraphrases, {name}: IoU {mean:.3f} [{low:.2f}, {high:.2f}], n {told['pairs']}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        content = {name: asdict(report) for name, report in reports.items()}
        content |= {"swaps": listens, "paraphrases": agree, "collage by names": named}
        content = json.loads(
            json.dumps(content), parse_float=lambda x: round(float(x), 4), parse_constant=lambda _: None
        )
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
        temporary.replace(arguments.out)


if __name__ == "__main__":
    main()
