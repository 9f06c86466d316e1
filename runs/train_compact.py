"""Train the compact model on the packs in IVM_DATA and on synthetic scenes.

    python runs/train_compact.py OUT --size 128 --steps 3000 --mix photos=5 tabletop=2 collage=1
    python runs/train_compact.py OUT2 --size 192 --steps 800 --decay 800 --init OUT/average-3000.safetensors

The pairs of shape and colour in UNSEEN_PAIRS, the cut-outs and photos of the splits "val" and "test", and all
seeds but one's own stay unseen.

Interrupted and started again, it goes on from its last checkpoint. A larger model, trained alike with
`--sizes dim=384 image_blocks=12`, may teach a smaller one: `--teacher LARGE/average-3000.safetensors`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ivm.data.grammar import name_instructions
from ivm.data.materials import nouns_looked_for
from ivm.data.packs import data_folder, read_pack
from ivm.data.photo_scenes import photo_scene
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.models.compact import IMAGE_PARTS, CompactConfig, CompactModel, frozen_parts
from ivm.models.compact_config import BACKBONES
from ivm.models.minilm import build_tokenizer
from ivm.training.checkpoints import load_trainee
from ivm.training.loop import LoopConfig, train
from ivm.training.photos import CONTRAST, PhotoQuestions
from ivm.training.precision import flush_denormals, uses_bf16
from ivm.training.scenes import Mixture, SceneQuestions

SHARES = {"voc": 0.34, "coco": 0.36, "clothing": 0.30}

UNSEEN_PAIRS = [
    ["mug", "red"],
    ["bowl", "blue"],
    ["ball", "green"],
    ["block", "yellow"],
    ["plate", "red"],
    ["bottle", "yellow"],
    ["cup", "purple"],
    ["can", "orange"],
]
"""Shape and colour of tabletop things that training never shows together."""

TWINS = 0.5
"""Share of tabletop things that repeat the shape of another: what only colour or place tells apart."""

SOURCES = ("photos", "tabletop", "collage", "places")
PLACE_KINDS = ("part", "group place", "what is where", "side", "place", "pick position")
"""What the source "places" of a mix asks: only who listens to the words of place gets them right."""


def validation(packs, tokenizer, size):
    """gIoU and pointing accuracy of category names on the validation photos, per pack."""
    questions = []
    for pack in packs:
        nouns = nouns_looked_for(pack)
        for photo in pack.split("val"):
            scene = photo_scene(photo, nouns)
            image = cv2.resize(scene.image, (size, size), interpolation=cv2.INTER_AREA)
            for one in name_instructions(scene, np.random.default_rng(0), noise=0.0):
                questions.append((pack.name, photo.file_name, image, one.text, one.mask))

    @torch.inference_mode()
    def evaluate(model):
        ious, hits = {}, {}
        for start in range(0, len(questions), 32):
            part = questions[start : start + 32]
            encoded = tokenizer.encode_batch([text for _, _, _, text, _ in part])
            images = torch.from_numpy(np.stack([image for _, _, image, _, _ in part])).permute(0, 3, 1, 2)
            with torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16("auto", "cpu")):
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


def mix(words):
    """["photos=5", "tabletop=2"] -> [("photos", 5), ("tabletop", 2)]"""
    parts = []
    for word in words:
        name, _, share = word.partition("=")
        if name not in SOURCES or not share.isdigit() or int(share) < 1:
            sys.exit(f"--mix takes {', '.join(SOURCES)} with whole shares (photos=5), but got {word!r}")
        parts.append((name, int(share)))
    return parts


def sizes(words):
    """["dim=384"] -> {"dim": 384}: whole numbers of CompactConfig, which checks them."""
    pairs = [word.partition("=") for word in words]
    for name, _, value in pairs:
        if type(getattr(CompactConfig(), name, None)) is not int or not value.isdigit():
            sys.exit(f"--sizes takes whole numbers of CompactConfig (dim=384), but got {name}={value}")
    return {name: int(value) for name, _, value in pairs}


def scenes(source, root, arguments):
    places = source == "places"
    spec = SynthesisSpec(
        {"tabletop": 0.5, "collage": 0.5} if places else {source: 1.0},
        size=arguments.size,
        instructions=6 if places else 3,
        kinds=PLACE_KINDS if places else (),
        photos=(str(root / "voc"), str(root / "coco")),
        cutouts=(str(root / "cutouts"), str(root / "grocery")),
        split="train",
        contrast=CONTRAST,
        tabletop={"exclude_pairs": UNSEEN_PAIRS, "twins": TWINS},
    )
    return SceneQuestions(spec, seed=arguments.seed)


def main() -> None:
    defaults = LoopConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--size", type=int, default=128, help="side of the training pictures in pixels")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--mix",
        nargs="+",
        default=["photos=1"],
        metavar="SOURCE=SHARE",
        help="whole shares of photos, tabletop, collage and places",
    )
    for name in ("steps", "batch_size", "warmup", "decay", "save_every", "seed", "workers"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    weights = ("weight_decay", "found_weight", "names_weight", "teacher_share")
    for name in ("learning_rate", "backbone_rate", *weights):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    parser.add_argument("--freeze-image", action="store_true", help="train what listens, not what looks")
    parser.add_argument("--backbone", default=CompactConfig().backbone, choices=("", *BACKBONES))
    parser.add_argument("--sizes", nargs="+", default=[], metavar="NAME=N", help="such as dim=384")
    parser.add_argument("--teacher", type=Path, help="weights of a model to learn from, too")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default=defaults.optimizer)
    arguments = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit(
            "set IVM_DATA to the folder that holds the packs voc/, coco/, clothing/, cutouts/ and grocery/"
        )
    flush_denormals()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    config = replace(defaults, **{k: v for k, v in vars(arguments).items() if hasattr(defaults, k)})

    packs = [read_pack(root / name) for name in SHARES]
    photos = PhotoQuestions(
        [(pack, SHARES[pack.name]) for pack in packs], size=arguments.size, seed=arguments.seed
    )
    pictures = Mixture(
        [
            (photos if name == "photos" else scenes(name, root, arguments), share)
            for name, share in mix(arguments.mix)
        ]
    )
    torch.manual_seed(config.seed)
    compact = CompactConfig(backbone=arguments.backbone, **sizes(arguments.sizes))
    tokenizer = build_tokenizer(compact)
    model = CompactModel(compact, **frozen_parts(compact))
    if arguments.freeze_image:
        for name, parameter in model.named_parameters():
            if name.split(".")[0] in IMAGE_PARTS:
                parameter.requires_grad_(False)
    evaluate = validation(packs, tokenizer, arguments.size)
    teacher = load_trainee(arguments.teacher, "generator")[0].module if arguments.teacher else None
    file = train(
        model, tokenizer, pictures, arguments.folder, config, arguments.init, evaluate, teacher=teacher
    )
    print(file)


if __name__ == "__main__":
    main()
