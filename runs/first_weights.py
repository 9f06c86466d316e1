"""Train the compact model's first weights on the packs in IVM_DATA.

    python runs/first_weights.py OUT --size 128 --steps 3000
    python runs/first_weights.py OUT2 --size 192 --steps 800 --decay 800 --init OUT/average-3000.safetensors

Interrupted and started again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ivm.data.packs import data_folder, read_cutouts, read_pack
from ivm.data.phrases import category_questions
from ivm.models.compact import CompactConfig, CompactModel, build_tokenizer, minilm_text_encoder
from ivm.training.loop import LoopConfig, train
from ivm.training.photos import PhotoQuestions

SHARES = {"voc": 0.42, "coco": 0.23, "clothing": 0.35}


def validation(packs, tokenizer, size):
    """gIoU and pointing accuracy of category names on the validation photos, per pack."""
    questions = []
    for pack in packs:
        for photo in pack.split("val"):
            image, names = photo.image(), [region.name for region in photo.regions]
            if not names:
                continue
            masks = np.stack([region.mask() for region in photo.regions])
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
            for q in category_questions(names, masks, np.random.default_rng(0)):
                questions.append((pack.name, photo.file_name, image, q.text, q.mask))

    @torch.inference_mode()
    def evaluate(model):
        ious, hits = {}, {}
        for start in range(0, len(questions), 32):
            part = questions[start : start + 32]
            encoded = tokenizer.encode_batch([text for _, _, _, text, _ in part])
            images = torch.from_numpy(np.stack([image for _, _, image, _, _ in part])).permute(0, 3, 1, 2)
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = model(
                    images,
                    torch.tensor([e.ids for e in encoded]),
                    torch.tensor([e.attention_mask for e in encoded]).bool(),
                    torch.arange(len(part)),
                )
            for (pack, _, _, _, target), heat in zip(part, logits.float().numpy(), strict=True):
                heat = cv2.resize(heat, target.shape[::-1], interpolation=cv2.INTER_LINEAR)
                mask = heat > 0
                ious.setdefault(pack, []).append((mask & target).sum() / max(1, (mask | target).sum()))
                hits.setdefault(pack, []).append(target.flat[heat.argmax()])
        return {f"giou_{p}": round(float(np.mean(v)), 3) for p, v in ious.items()} | {
            f"pointing_{p}": round(float(np.mean(v)), 3) for p, v in hits.items()
        }

    return evaluate


def main() -> None:
    defaults = LoopConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--size", type=int, default=128, help="side of the training pictures in pixels")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--paste", type=float, default=0.35, help="share of pictures with pasted cut-outs")
    for name in ("steps", "batch_size", "warmup", "decay", "save_every", "seed", "workers"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    for name in ("learning_rate", "weight_decay", "found_weight"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    arguments = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit(
            "set IVM_DATA to the folder that holds the packs voc/, coco/, clothing/, cutouts/ and grocery/"
        )
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    config = replace(defaults, **{k: v for k, v in vars(arguments).items() if hasattr(defaults, k)})

    packs = [read_pack(root / name) for name in SHARES]
    cutouts = read_cutouts(root / "cutouts") + read_cutouts(root / "grocery")
    pictures = PhotoQuestions(
        [(pack, SHARES[pack.name]) for pack in packs],
        size=arguments.size,
        cutouts=cutouts,
        paste=arguments.paste,
        seed=arguments.seed,
    )
    torch.manual_seed(config.seed)
    compact = CompactConfig()
    tokenizer = build_tokenizer(compact)
    model = CompactModel(compact, minilm_text_encoder(compact))
    evaluate = validation(packs, tokenizer, arguments.size)
    file = train(model, tokenizer, pictures, arguments.folder, config, arguments.init, evaluate)
    print(file)


if __name__ == "__main__":
    main()
