"""Turn trained weights into the folder that ships: `ivm export`, then thresholds from validation photos.

    python runs/export_compact.py OUT/average-800.safetensors --image-size 192

writes src/ivm/weights/compact/ (ONNX, int8) and runs/weights/compact.safetensors (float16, to go on from, or
for `ivm export`). Weights with a header, as `ivm train` writes them, know their image size themselves.

The mask threshold is the one of the best gIoU on photos. The found score is scaled to a probability (Platt,
1999), as if targets were there as often as not, and its threshold is the one of the best balanced accuracy,
over photos and scenes, each pack and kind of scene as heavy as another. All on the validation split and on a
seed of its own; test photos are not looked at. Without weights, only this is done anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from ivm.data.grammar import instructions_for, name_instructions
from ivm.data.materials import nouns_looked_for
from ivm.data.packs import data_folder, read_pack
from ivm.data.photo_scenes import photo_scene
from ivm.data.synthesis import Synthesis
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.models.compact import CompactConfig
from ivm.models.onnx import CompactRuntime
from ivm.training.checkpoints import read_header, weights_file, write_weights
from ivm.training.config import Model
from ivm.training.recipe import export

PACKS = ("voc", "coco", "clothing")
SEED, SCENES = 20_001, 150  # of the scenes that found scores are calibrated on, of each kind


def validation_answers(runtime: CompactRuntime, root: Path):
    """For each question on the validation photos: heatmap [H, W], target [H, W] or None, found logit."""
    runtime.found_scale, runtime.found_shift = 1.0, 0.0
    rng = np.random.default_rng(0)
    for name in PACKS:
        pack = read_pack(root / name)
        nouns = nouns_looked_for(pack)
        for photo in pack.split("val"):
            if not photo.regions:
                continue
            scene = photo_scene(photo, nouns)
            asked = name_instructions(scene, rng) + instructions_for(scene, rng, ("absent",))
            features = runtime.encode_images([scene.image])
            logits, scores = runtime.decode(features * len(asked), [one.text for one in asked])
            scores = np.clip(scores, 1e-6, 1 - 1e-6)
            for one, logit, score in zip(asked, logits, scores, strict=True):
                size = (photo.width, photo.height)
                heat = 1 / (1 + np.exp(-cv2.resize(logit, size, interpolation=cv2.INTER_LINEAR)))
                yield name, heat, (one.mask if one.mask.any() else None), float(np.log(score / (1 - score)))


def scene_answers(runtime: CompactRuntime, root: Path):
    """For each question about scenes that neither training nor evaluation makes: as `validation_answers`."""
    backgrounds, cutouts = (
        (str(root / "voc"), str(root / "coco")),
        (str(root / "cutouts"), str(root / "grocery")),
    )
    for source in ("tabletop", "collage"):
        spec = SynthesisSpec(
            {source: 1.0}, size=256, instructions=4, split="val", photos=backgrounds, cutouts=cutouts
        )
        with Synthesis(spec, SEED) as synthesis:
            for index in range(SCENES):
                scene, _, asked = synthesis.scene(index)
                features = runtime.encode_images([scene.image])
                _, scores = runtime.decode(features * len(asked), [one.text for one in asked])
                scores = np.clip(scores, 1e-6, 1 - 1e-6)
                for one, score in zip(asked, scores, strict=True):
                    yield source, one.mask.any(), float(np.log(score / (1 - score)))


def platt(answers: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """(scale, shift) of the logits by maximum likelihood.

    `answers`: logits of what is present and of what is absent, by where from; all of these count the same.
    """
    parts = [
        (logits, truth) for pair in answers.values() for logits, truth in zip(pair, (1.0, 0.0), strict=True)
    ]
    logits = torch.tensor(np.concatenate([part for part, _ in parts]))
    truth = torch.cat([torch.full((len(part),), there).double() for part, there in parts])
    weight = torch.cat([torch.full((len(part),), 1 / len(part)).double() for part, _ in parts]) / len(parts)
    fitted = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(
            fitted[0] * logits + fitted[1], truth, weight, reduction="sum"
        )
        value.backward()
        return value

    optimizer.step(loss)
    scale, shift = fitted.tolist()
    return round(scale, 3), round(shift, 3)


def calibrate(runtime: CompactRuntime, root: Path) -> dict[str, float]:
    """What config.json says of the two thresholds and of the found score."""
    limits = np.arange(0.15, 0.85, 0.05)
    ious: dict[str, list[np.ndarray]] = {}
    told: dict[str, tuple[list[float], list[float]]] = {}
    for source, there, score in scene_answers(runtime, root):
        told.setdefault(source, ([], []))[0 if there else 1].append(score)
    for pack, heat, target, score in validation_answers(runtime, root):
        told.setdefault(pack, ([], []))[0 if target is not None else 1].append(score)
        if target is None:
            continue
        row = [((heat > t) & target).sum() / max(1, ((heat > t) | target).sum()) for t in limits]
        ious.setdefault(pack, []).append(np.array(row))
    mean = np.mean([np.mean(rows, axis=0) for rows in ious.values()], axis=0)  # each pack counts the same
    threshold = float(limits[mean.argmax()])
    answers = {name: (np.array(present), np.array(absent)) for name, (present, absent) in told.items()}
    scale, shift = platt(answers)
    candidates = np.arange(0.05, 0.96, 0.01)
    rows = []
    for present, absent in answers.values():
        there, not_there = (1 / (1 + np.exp(-(scale * v + shift))) for v in (present, absent))
        rows.append([(np.mean(there >= c) + np.mean(not_there < c)) / 2 for c in candidates])
    balanced = np.mean(rows, axis=0)
    found = float(candidates[balanced.argmax()])
    print(
        "gIoU by threshold:",
        {round(float(t), 2): round(float(m), 3) for t, m in zip(limits, mean, strict=True)},
    )
    by_limit = {round(float(c), 2): round(float(v), 3) for c, v in zip(candidates, balanced, strict=True)}
    print(f"threshold {threshold:.2f} (best gIoU {mean.max():.3f}, at 0.5 {mean[7]:.3f})")
    print("balanced accuracy by found threshold:", dict(list(by_limit.items())[::5]))
    print(f"found_threshold {found:.2f} (best balanced accuracy {max(balanced):.3f})")
    print(f"found_scale {scale}, found_shift {shift}")
    return {
        "threshold": round(threshold, 2),
        "found_threshold": round(found, 2),
        "found_scale": scale,
        "found_shift": shift,
    }


def write_calibration(folder: Path, root: Path) -> None:
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content |= calibrate(CompactRuntime(folder, device="cpu"), root)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--image-size", type=int, default=CompactConfig().image_size)
    parser.add_argument("--out", type=Path, default=here.parent / "src/ivm/weights/compact")
    parser.add_argument("--keep", type=Path, default=here / "weights/compact.safetensors")
    arguments = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA: the thresholds are calibrated on validation photos of its packs")
    if arguments.weights is None:
        write_calibration(arguments.out, root)
        return
    file = weights_file(arguments.weights)
    state = load_file(file)
    header = read_header(file) or {
        "kind": "compact",
        "stage": "generator",
        "model": asdict(Model(image_size=arguments.image_size)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        halves, made = Path(scratch) / "compact.safetensors", Path(scratch) / "model"
        write_weights(halves, {key: value.half() for key, value in state.items()}, header)
        export(halves, made)
        write_calibration(made, root)
        arguments.out.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.copy(file, arguments.out / file.name)
        arguments.keep.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(halves, arguments.keep)
    total = sum(file.stat().st_size for file in arguments.out.iterdir())
    print(f"{arguments.out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
