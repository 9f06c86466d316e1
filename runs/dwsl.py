"""Does weighting by a discriminator beat plain training on mixed labels? The experiment of docs/dwsl.md.

    IVM_DATA=folder-of-packs python runs/dwsl.py run OUT --size 64 --pictures 25600
    python runs/dwsl.py report OUT [--name dwsl-full]

Several processes may share OUT, each with its own --seeds, --amounts or --methods. --go-on REPORT starts a
new OUT with the runs of a report: what was measured elsewhere is not done again.

A small set of human annotations, and a large one that weak annotators made of the same photos: correct
masks, boxes, a colour-word expert, a saliency expert, an early checkpoint of the model itself, masks of
another thing, and the whole picture, at the rates in MACHINE. A part of the human annotations are boxes, too,
and a part of the machine's are right: style alone does not tell them apart. One run (method, seed, amount)
appends one line to OUT/results.jsonl; what is there is not done again. Held out: the photos of the splits
"val" and "test".
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dwsl_data import MACHINE, Labels, LookUp, Photos, auc, iou, read_photos
from ivm.data.packs import data_folder
from ivm.metrics import clustered_interval
from ivm.models.compact import CompactConfig, CompactModel
from ivm.models.compact_discriminator import CompactDiscriminator, CompactDiscriminatorConfig
from ivm.training.dwsl import discriminator_scores, discriminator_step, generator_step
from ivm.training.loop import Batch, LoopConfig, learning_rate
from ivm.training.precision import flush_denormals

METHODS = {  # name -> (weights, loss of the discriminator, whether it is taught things)
    "human only": ("human", None, False),
    "machine only": ("machine", None, False),
    "all equal": ("equal", None, False),
    "DWSL": ("dwsl", "paper", False),
    "PU + odds": ("odds", "positive-unlabelled", False),
    "DWSL, D from G": ("dwsl", "paper", True),
    "odds, D from G": ("odds", "paper", True),
    "human half": ("human half", None, False),
}
"""Taught things: the discriminator starts from the generator of "human only", same seed and photos. Half of
its negatives are the machine's annotations, half human masks of another thing of the same photo. "Human half"
is the human half of each batch alone, in as many steps: against it one sees what the machine's half adds."""
BATCH = 64
AMOUNTS = (100, 400, 1600)
"""Photos with human annotations."""


def plan(
    seeds: list[int], amounts: Collection[int] = AMOUNTS, methods: Collection[str] = tuple(METHODS)
) -> list[tuple[str, int, int]]:
    """(method, seed, human photos), in the order of their worth: 400 photos come first."""
    compared = ("human only", "DWSL, D from G")
    main = [(method, seed, 400) for seed in seeds for method in METHODS if method != "human half"]
    other = [(method, seed, n) for seed in seeds for n in (100, 1600) for method in compared]
    halves = [("human half", seed, n) for seed in seeds for n in (1600, 400, 100)]
    return [one for one in main + other + halves if one[0] in methods and one[2] in amounts]


def batch_of(photos: Photos, labels: list[Labels], counts: list[int], rng: np.random.Generator) -> Batch:
    """`counts[i]` annotations of `labels[i]`, cropped and mirrored."""
    images, targets, texts, human = [], [], [], []
    for source, count in zip(labels, counts, strict=True):
        for k in rng.integers(len(source.annotations), size=count):
            one = source.annotations[k]
            image, mask = photos.images[one.photo], source.masks[k]
            size = image.shape[0]
            side = int(size * np.sqrt(rng.uniform(0.6, 1.0)))
            y, x = rng.integers(size - side + 1, size=2)
            image, mask = image[y : y + side, x : x + side], mask[y : y + side, x : x + side]
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
            mask = cv2.resize(mask.astype(np.float32), (size // 4, size // 4), interpolation=cv2.INTER_AREA)
            if rng.random() < 0.5:
                image, mask = image[:, ::-1], mask[:, ::-1]
            images.append(np.ascontiguousarray(image))
            targets.append(np.ascontiguousarray(mask))
            texts.append(one.text)
            human.append(source.human)
    return batch(photos, images, targets, texts, human)


def batch(photos: Photos, images: list, targets: list, texts: list[int], human: list[bool]) -> Batch:
    ids = torch.tensor(texts)[:, None].expand(-1, photos.text_mask.shape[1])
    stacked = torch.from_numpy(np.stack(targets)).float()
    return Batch(
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        ids=ids,
        mask=photos.text_mask[torch.tensor(texts)],
        picture=torch.arange(len(images)),
        targets=stacked,
        found=stacked.flatten(1).amax(1) > 0,
        human=torch.tensor(human),
    )


SIZES = {
    "dim": 128,
    "heads": 4,
    "stem": (16, 32, 64),
    "image_blocks": 4,
    "fusion_blocks": 2,
    "text_blocks": 1,
    "backbone": "",  # from nothing: what labels teach is to be seen
}


def generator(photos: Photos, size: int, seed: int) -> CompactModel:
    torch.manual_seed(seed)
    return CompactModel(CompactConfig(image_size=size, **SIZES), LookUp(photos.text_table))


def train_discriminator(
    photos, human, machine, loss, seed, steps, precision, start=None
) -> CompactDiscriminator:
    """With `start`, the state of a generator, it begins there and has wrong things among its negatives."""
    torch.manual_seed(1000 + seed)
    model = CompactDiscriminator(CompactDiscriminatorConfig(**SIZES), LookUp(photos.text_table))
    sources, counts = [human, machine], [BATCH // 2] * 2
    if start is not None:
        model.start_from(start)
        sources, counts = [human, machine, human.swapped()], [BATCH // 2, BATCH // 4, BATCH // 4]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    rng = np.random.default_rng((seed, 1))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-4 * min(1.0, (step + 1) / 50, 2 * (steps - step) / steps)
        made = batch_of(photos, sources, counts, rng)
        discriminator_step(model, made, optimizer, loss, precision=precision)
    return model.eval()


def train_generator(
    photos, human, machine, weights, judge, seed, steps, size, precision, report=None
) -> CompactModel:
    model = generator(photos, size, seed)
    config = LoopConfig(
        steps=steps, batch_size=BATCH, learning_rate=8e-4, warmup=50, decay=steps // 2, precision=precision
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-4, weight_decay=0.05, betas=(0.9, 0.98))
    rng = np.random.default_rng((seed, 2))
    alone = {"human": [BATCH, 0], "human half": [BATCH // 2, 0], "machine": [0, BATCH]}
    counts = alone.get(weights, [BATCH // 2] * 2)
    weights = "human" if weights == "human half" else weights
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, config)
        made = batch_of(photos, [human, machine], counts, rng)
        told = generator_step(model, judge, made, optimizer, config, weights, (step + 1) / steps)
        if report and step % 100 == 0:
            report(f"  step {step}: {told['loss']:.3f}, mean weight {told['weight']:.2f}")
    return model.eval()


@torch.inference_mode()
def evaluate(photos: Photos, model: CompactModel, held: Labels) -> dict:
    """gIoU and pointing on the held-out annotations, with intervals clustered by photo."""
    ious, hits = [], []
    for start in range(0, len(held.annotations), 128):
        part = range(start, min(start + 128, len(held.annotations)))
        ones = [held.annotations[k] for k in part]
        size = photos.images.shape[1] // 4
        made = batch(
            photos, [photos.images[o.photo] for o in ones], [np.zeros((size, size))] * len(ones),
            [o.text for o in ones], [True] * len(ones),
        )  # fmt: skip
        logits, _ = model(made.images, made.ids, made.mask, made.picture)
        for k, heat in zip(part, logits.float().numpy(), strict=True):
            target = held.masks[k]
            heat = cv2.resize(heat, target.shape[::-1], interpolation=cv2.INTER_LINEAR)
            ious.append(iou(heat > 0, target))
            hits.append(bool(target.flat[heat.argmax()]))
    clusters = np.array([one.photo for one in held.annotations])
    ious, hits = np.array(ious), np.array(hits, float)
    return {
        "giou": [float(ious.mean()), *clustered_interval(ious, clusters)],
        "pointing": [float(hits.mean()), *clustered_interval(hits, clusters)],
    }


@torch.inference_mode()
def scores(photos: Photos, judge: CompactDiscriminator, annotations: list, masks: list) -> np.ndarray:
    found = []
    size = photos.images.shape[1] // 4
    for start in range(0, len(annotations), 128):
        ones = annotations[start : start + 128]
        targets = [
            cv2.resize(m.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
            for m in masks[start : start + 128]
        ]
        made = batch(
            photos,
            [photos.images[o.photo] for o in ones],
            targets,
            [o.text for o in ones],
            [True] * len(ones),
        )
        found.append(discriminator_scores(judge, made).numpy())
    return np.concatenate(found)


def judge_the_judge(photos: Photos, judge: CompactDiscriminator, held: Labels, machine: Labels) -> dict:
    """AUC of right against wrong-instance masks of the same photo, as masks and as boxes; reliability."""
    pairs = [(k, other) for k in range(len(held.annotations)) if (other := held.other(k)) is not None]
    ones = [held.annotations[k] for k, _ in pairs]
    result = {"pairs": len(pairs)}
    for style, change in (("masks", lambda m: m), ("boxes", Labels.box)):
        right = scores(photos, judge, ones, [change(held.masks[k]) for k, _ in pairs])
        wrong = scores(photos, judge, ones, [change(other) for _, other in pairs])
        result[f"auc {style}"] = auc(right, wrong)
        if style == "masks":
            empty = scores(photos, judge, ones, [np.ones_like(held.masks[k]) for k, _ in pairs])
            result["auc right against whole picture"] = auc(right, empty)
            result["mean change with the mask"] = float(np.abs(right - wrong).mean())
    given = scores(photos, judge, machine.annotations, machine.masks)
    good = np.array([iou(m, t) > 0.5 for m, t in zip(machine.masks, machine.truth, strict=True)])
    result["auc machine good against bad"] = auc(given[good], given[~good])
    result["by annotator"] = {
        kind: float(given[machine.kinds == kind].mean()) for kind in MACHINE if (machine.kinds == kind).any()
    }
    edges = np.linspace(0, 1, 11)
    which = np.clip(np.digitize(given, edges) - 1, 0, 9)
    result["reliability"] = [
        [float(given[which == b].mean()), float(good[which == b].mean()), int((which == b).sum())]
        for b in range(10)
        if (which == b).any()
    ]
    return result


def keep(model: CompactModel, file: Path) -> None:
    save_file(model.state_dict(), file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


def go_on(report: Path, out: Path) -> None:
    """Start `out` with the runs of a report; a folder that has runs of its own goes first."""
    if not (out / "results.jsonl").exists():
        lines = json.loads(report.read_text(encoding="utf-8"))["runs"]
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(out: Path, size: int, pictures: int, precision: str, wanted: list[tuple[str, int, int]]) -> None:
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA to the folder of the packs")
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    setting = {"size": size, "pictures": pictures, "precision": precision}
    if (
        lines
        and (there := {"precision": "fp32"} | {k: lines[0][k] for k in setting if k in lines[0]}) != setting
    ):
        sys.exit(f"{results} holds runs of {there}, but these would be of {setting}: take another folder")
    done = {(line["method"], line["seed"], line["human_photos"]) for line in lines}
    photos = read_photos(root, size)
    held = photos.labels(photos.held_out, "human")
    steps = pictures // BATCH
    early: dict[tuple[int, int], CompactModel] = {}
    for method, seed, amount in wanted:
        if (method, seed, amount) in done:
            continue
        begin = time.monotonic()
        human = photos.labels(photos.draw(amount, seed), "human", seed=seed)
        if (seed, amount) not in early:
            early = {
                (seed, amount): train_generator(
                    photos, human, human, "human", None, 50 + seed, steps // 5, size, precision
                )
            }
        machine = photos.labels(photos.train, "machine", seed=seed, early=early[seed, amount])
        weights, loss, taught = METHODS[method]
        line = {"method": method, "seed": seed, "human_photos": amount, **setting}
        kept = out / f"human-{amount}-{seed}.safetensors"  # left by the first method, for the last two
        judge = None
        if loss is not None:
            if taught and not kept.exists():  # the first method's row came from elsewhere, without weights
                first = train_generator(
                    photos, human, machine, "human", None, seed, steps, size, precision, print
                )
                keep(first, kept)
            start = load_file(kept) if taught else None
            judge = train_discriminator(photos, human, machine, loss, seed, steps // 2, precision, start)
            line["discriminator"] = judge_the_judge(photos, judge, held, machine)
        model = train_generator(photos, human, machine, weights, judge, seed, steps, size, precision, print)
        if method == "human only":
            keep(model, kept)
        line |= evaluate(photos, model, held)
        line |= {
            "human_annotations": len(human.annotations), "machine_annotations": len(machine.annotations),
            "held_out": len(held.annotations), "annotators": machine.quality(),
            "seconds": round(time.monotonic() - begin),
        }  # fmt: skip
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{method}, seed {seed}, {amount} human photos: gIoU {line['giou'][0]:.3f}, pointing "
              f"{line['pointing'][0]:.3f}, {line['seconds']} s", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=64, help="side of the pictures, a multiple of 16")
    parser.add_argument("--pictures", type=int, default=25_600, help="that a generator sees a run")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="one for all runs, so that those of several machines stand in one table; bf16 is slow where the "
        "processor has no instructions for it",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--amounts", type=int, nargs="+", choices=AMOUNTS, default=AMOUNTS)
    parser.add_argument(
        "--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), metavar="METHOD"
    )
    parser.add_argument("--go-on", type=Path, metavar="REPORT", help="a report whose runs count as done")
    parser.add_argument("--name", default="dwsl", help="of the report's files in docs/")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    flush_denormals()
    if options.command == "run":
        if options.go_on is not None:
            go_on(options.go_on, options.out)
        wanted = plan(options.seeds, options.amounts, options.methods)
        run(options.out, options.size, options.pictures, options.precision, wanted)
    else:
        from dwsl_report import report

        report(options.out / "results.jsonl", list(METHODS), options.name)


if __name__ == "__main__":
    main()
