"""Does the compact discriminator judge the mask, or the style of whoever drew it?

    IVM_DATA=folder-of-packs python runs/discriminator_evidence.py OUT [--steps 240] [--size 128]

Two things a and b of one photo, two instructions, two masks: a's mask answers "the a" and is wrong for
"the b", and the other way round. So each mask and each instruction is right as often as it is wrong, and a
discriminator that looks at one of them alone, style included, has an AUC of exactly a half. It learns on the
training photos and is measured on those of the splits "val" and "test".

It starts from runs/weights/compact.safetensors, which no photo of those two splits has trained. What that
generator knows without further training, its mean heat inside of the mask, is measured beside it.
Interrupted, the same command goes on. Writes OUT/discriminator.safetensors and
docs/reports/discriminator.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dwsl_data import Labels, LookUp, Photos, auc, iou, read_photos
from ivm.data.packs import data_folder
from ivm.models.compact import CompactConfig, CompactModel
from ivm.models.compact_discriminator import CompactDiscriminator, CompactDiscriminatorConfig
from ivm.models.efficientnet_lite import efficientnet_lite0
from ivm.models.minilm import build_tokenizer, minilm_text_encoder
from ivm.training.dwsl import discriminator_scores, discriminator_step
from ivm.training.loop import Batch

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "weights" / "compact.safetensors"
COMPACT = CompactConfig()
PAIRS = 16  # a batch: four annotations each
RATE = 2e-4
MOST = 2  # pairs of a held-out photo
APART = 0.3  # two things of a photo are two if their masks have an IoU below this


@torch.inference_mode()
def encode_texts(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """(float [U, T, 384], bool [U, T]) of the compact model's frozen text encoder."""
    encoded = build_tokenizer(COMPACT).encode_batch(texts)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded]).bool()
    encoder = minilm_text_encoder(COMPACT)
    parts = [encoder(i, m) for i, m in zip(ids.split(256), mask.split(256), strict=True)]
    return torch.cat(parts).clone(), mask


def pairs_of(photos: Photos, which: np.ndarray) -> list[list[tuple[int, int]]]:
    """Every two things of one photo, by number, that have names and masks of their own; a list a photo."""
    wanted = set(which.tolist())
    by_photo = defaultdict(list)
    for k, one in enumerate(photos.annotations):
        if one.photo in wanted:
            by_photo[one.photo].append(k)
    found = [
        [
            (a, b)
            for i, a in enumerate(mine)
            for b in mine[i + 1 :]
            if iou(photos.truth[a], photos.truth[b]) < APART
        ]
        for mine in by_photo.values()
    ]
    return [pairs for pairs in found if pairs]


def batch_of(photos: Photos, asked: list[tuple[int, int, str]], text_mask, views=None) -> Batch:
    """Annotations as (whose instruction, whose mask, style); `views`: (y, x, side, mirrored) of each."""
    size = photos.images.shape[1]
    images, picture, targets, right = [], [], [], []
    shown = None
    for i, (question, answer, style) in enumerate(asked):
        number = photos.annotations[question].photo
        image = photos.images[number]
        mask = photos.truth[answer]
        if style == "whole":
            mask = np.ones_like(mask)
        elif style == "box":
            mask = Labels.box(mask)
        mask = mask.astype(np.float32)
        if views is not None:
            y, x, side, mirrored = views[i]
            image, mask = image[y : y + side, x : x + side], mask[y : y + side, x : x + side]
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
            if mirrored:
                image, mask = image[:, ::-1], mask[:, ::-1]
        if shown != (shown := (number, None if views is None else views[i])):  # the image is encoded once
            images.append(np.ascontiguousarray(image))
        picture.append(len(images) - 1)
        targets.append(cv2.resize(mask, (size // 4, size // 4), interpolation=cv2.INTER_AREA))
        right.append(question == answer and style != "whole")
    texts = torch.tensor([photos.annotations[question].text for question, _, _ in asked])
    stacked = torch.from_numpy(np.stack(targets))
    return Batch(
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        ids=texts[:, None].expand(-1, text_mask.shape[1]),
        mask=text_mask[texts],
        picture=torch.tensor(picture),
        targets=stacked,
        found=torch.ones(len(asked), dtype=torch.bool),
        human=torch.tensor(right),
    )


def training_batch(photos: Photos, chosen: list[tuple[int, int]], text_mask, rng) -> Batch:
    """Both masks for both instructions of each pair; some as boxes, some wrong ones the whole picture."""
    size = photos.images.shape[1]
    asked, views = [], []
    for a, b in chosen:
        side = int(size * np.sqrt(rng.uniform(0.7, 1.0)))
        y, x = (int(v) for v in rng.integers(size - side + 1, size=2))
        inside = [photos.truth[k][y : y + side, x : x + side].sum() for k in (a, b)]
        if min(now / photos.truth[k].sum() for now, k in zip(inside, (a, b), strict=True)) < 0.5:
            y, x, side = 0, 0, size  # the crop would cut a thing away
        view = (y, x, side, rng.random() < 0.5)
        for question in (a, b):
            for answer in (a, b):
                style = "box" if rng.random() < 0.4 else "mask"
                if question != answer and rng.random() < 0.1:
                    style = "whole"
                asked.append((question, answer, style))
                views.append(view)
    return batch_of(photos, asked, text_mask, views)


def initial(table: torch.Tensor) -> CompactDiscriminator:
    """A discriminator that starts from the compact model."""
    torch.manual_seed(0)
    model = CompactDiscriminator(CompactDiscriminatorConfig(), LookUp(table), backbone=efficientnet_lite0())
    model.start_from(load_file(WEIGHTS))
    return model


def heat_inside(compact: CompactModel, batch: Batch) -> torch.Tensor:
    """float [Q]: sigmoid of the generator's mean logit inside of each mask; a rival not trained for it."""
    logits, _ = compact(batch.images, batch.ids, batch.mask, batch.picture)
    kept = batch.targets
    return ((logits * kept).sum((1, 2)) / kept.sum((1, 2))).sigmoid()


@torch.inference_mode()
def judged(photos: Photos, score, asked: list[tuple[int, int, str]], text_mask) -> np.ndarray:
    """float [Q]: `score(batch)` of every annotation asked for."""
    parts = [asked[k : k + 128] for k in range(0, len(asked), 128)]
    return np.concatenate([score(batch_of(photos, part, text_mask)).float().numpy() for part in parts])


def interval(right: np.ndarray, wrong: np.ndarray, photo: np.ndarray, rounds: int = 200) -> list[float]:
    """[AUC, low, high]: 95 % of resamplings, photo by photo."""
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(photo == number) for number in np.unique(photo)]
    drawn = []
    for _ in range(rounds):
        chosen = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
        drawn.append(auc(right[chosen], wrong[chosen]))
    return [round(float(v), 3) for v in (auc(right, wrong), *np.percentile(drawn, (2.5, 97.5)))]


def measure(photos: Photos, pairs: list[tuple[int, int]], score, text_mask) -> dict:
    """Right against wrong in either style, right boxes against wrong masks, and how much the score moves."""
    whose = [(q, other) for a, b in pairs for q, other in ((a, b), (b, a))]
    photo = np.array([photos.annotations[q].photo for q, _ in whose])
    found = {
        (who, style): judged(
            photos, score, [(q, q if who == "right" else o, style) for q, o in whose], text_mask
        )
        for who in ("right", "wrong")
        for style in ("mask", "box")
    }
    whole = judged(photos, score, [(q, q, "whole") for q, _ in whose], text_mask)
    right, wrong = found["right", "mask"], found["wrong", "mask"]
    edges = np.clip((np.concatenate([right, wrong]) * 10).astype(int), 0, 9)
    values, truth = np.concatenate([right, wrong]), np.repeat([1.0, 0.0], len(right))
    return {
        "questions": len(whose),
        "photos": len(np.unique(photo)),
        "auc": interval(right, wrong, photo),
        "auc within boxes": interval(found["right", "box"], found["wrong", "box"], photo),
        "auc right box, wrong mask": interval(found["right", "box"], wrong, photo),
        "auc right mask, wrong box": interval(right, found["wrong", "box"], photo),
        "auc against the whole picture": interval(right, whole, photo),
        "right above wrong, same photo and instruction": round(float((right > wrong).mean()), 3),
        "mean change with the mask": round(float(np.abs(right - wrong).mean()), 3),
        "reliability": [
            [round(float(values[edges == b].mean()), 3), round(float(truth[edges == b].mean()), 3),
             int((edges == b).sum())]
            for b in range(10) if (edges == b).any()
        ],
    }  # fmt: skip


def train(out: Path, photos: Photos, pairs, table, text_mask, steps: int) -> CompactDiscriminator:
    """Go on from OUT/state.pt, or begin; a batch depends on its step alone."""
    model, state = initial(table), out / "state.pt"
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, betas=(0.9, 0.98))
    begin = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        if saved["steps"] != steps:
            sys.exit(f"{state} is of a run of {saved['steps']} steps: choose another folder, or those steps")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        begin = saved["step"]
    model.train()
    started, told = time.monotonic(), []
    for step in range(begin, steps):
        rng = np.random.default_rng((step, 11))
        drawn = [pairs[k] for k in rng.integers(len(pairs), size=PAIRS)]  # photo by photo, not pair by pair
        chosen = [mine[rng.integers(len(mine))] for mine in drawn]
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 100, 2 * (steps - step) / steps)
        told.append(
            discriminator_step(model, training_batch(photos, chosen, text_mask, rng), optimizer)["loss"]
        )
        if (step + 1) % 50 == 0 or step + 1 == steps:
            each = (time.monotonic() - started) / (step + 1 - begin)
            print(f"step {step + 1}: {np.mean(told[-50:]):.3f}, {each:.2f} s a step", flush=True)
            temporary = state.with_suffix(".new")
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                 "steps": steps}, temporary,
            )  # fmt: skip
            temporary.replace(state)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, a multiple of 16")
    options = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA to the folder of the packs")
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    photos = read_photos(root, options.size)
    table, text_mask = encode_texts(photos.texts)
    learnt = pairs_of(photos, photos.train)
    rng = np.random.default_rng(0)
    held = [  # a few of each photo, or photos with many things would count for all the others
        mine[k]
        for mine in pairs_of(photos, photos.held_out)
        for k in rng.permutation(len(mine))[:MOST].tolist()
    ]
    print(f"{len(learnt)} photos to learn from, {len(held)} pairs held out", flush=True)

    compact = CompactModel(COMPACT, LookUp(table), backbone=efficientnet_lite0()).eval()
    compact.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS).items()})
    before = measure(photos, held, lambda b: heat_inside(compact, b), text_mask)
    print(f"mean heat of the compact model inside of the mask: AUC {before['auc']}", flush=True)
    model = train(options.out, photos, learnt, table, text_mask, options.steps)
    after = measure(photos, held, lambda b: discriminator_scores(model, b), text_mask)
    save_file(model.state_dict(), options.out / "discriminator.safetensors")
    told = {
        "date": f"{date.today():%Y-%m}", "size": options.size, "steps": options.steps,
        "annotations seen": options.steps * PAIRS * 4, "training photos": len(learnt),
        "discriminator": after, "heat of the compact model inside of the mask": before,
    }  # fmt: skip
    path = HERE.parent / "docs" / "reports" / "discriminator.json"
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
