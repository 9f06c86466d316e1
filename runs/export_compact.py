"""Turn trained weights into the folder that ships: `ivm export`, then thresholds from validation photos.

    python runs/export_compact.py OUT/average-800.safetensors --image-size 192

writes src/ivm/weights/compact/ (ONNX, int8) and runs/weights/compact.safetensors (float16, to go on from, or
for `ivm export`). Weights with a header, as `ivm train` writes them, know their image size themselves.
The mask threshold is the lowest one within 0.005 of the best gIoU, the found threshold the one of best
balanced accuracy, both on the validation split; test photos are not looked at.
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
from safetensors.torch import load_file

from ivm.data.grammar import instructions_for, name_instructions
from ivm.data.materials import nouns_looked_for
from ivm.data.packs import data_folder, read_pack
from ivm.data.photo_scenes import photo_scene
from ivm.models.compact import CompactConfig
from ivm.models.onnx import CompactRuntime
from ivm.training.checkpoints import read_header, weights_file, write_weights
from ivm.training.config import Model
from ivm.training.recipe import export

PACKS = ("voc", "coco", "clothing")


def validation_answers(runtime: CompactRuntime, root: Path):
    """For each question on the validation photos: heatmap [H, W], target [H, W] (None: absent), score."""
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
            for one, logit, score in zip(asked, logits, scores, strict=True):
                size = (photo.width, photo.height)
                heat = 1 / (1 + np.exp(-cv2.resize(logit, size, interpolation=cv2.INTER_LINEAR)))
                yield name, heat, (one.mask if one.targets else None), float(score)


def calibrate(runtime: CompactRuntime, root: Path) -> tuple[float, float]:
    """(threshold, found_threshold)."""
    limits = np.arange(0.15, 0.85, 0.05)
    ious: dict[str, list[np.ndarray]] = {}
    present, absent = [], []
    for pack, heat, target, score in validation_answers(runtime, root):
        if target is None:
            absent.append(score)
            continue
        present.append(score)
        row = [((heat > t) & target).sum() / max(1, ((heat > t) | target).sum()) for t in limits]
        ious.setdefault(pack, []).append(np.array(row))
    mean = np.mean([np.mean(rows, axis=0) for rows in ious.values()], axis=0)  # each pack counts the same
    # Among thresholds that are as good, the lowest: a target cut away costs an LMM or a robot more than some
    # background left.
    threshold = float(limits[mean >= mean.max() - 0.005][0])
    candidates = np.unique(np.round(np.concatenate([present, absent]), 2))
    balanced = [(np.mean(np.array(present) >= c) + np.mean(np.array(absent) < c)) / 2 for c in candidates]
    found = float(candidates[int(np.argmax(balanced))])
    print(
        "gIoU by threshold:",
        {round(float(t), 2): round(float(m), 3) for t, m in zip(limits, mean, strict=True)},
    )
    print(f"threshold {threshold:.2f} (best gIoU {mean.max():.3f}, at 0.5 {mean[7]:.3f})")
    print(f"found_threshold {found:.2f} (balanced accuracy {max(balanced):.3f})")
    return round(threshold, 2), round(found, 2)


def main() -> None:
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--image-size", type=int, default=CompactConfig().image_size)
    parser.add_argument("--out", type=Path, default=here.parent / "src/ivm/weights/compact")
    parser.add_argument("--keep", type=Path, default=here / "weights/compact.safetensors")
    arguments = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA: the thresholds are calibrated on validation photos of its packs")
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
        threshold, found = calibrate(CompactRuntime(made, device="cpu"), root)
        content = json.loads((made / "config.json").read_text(encoding="utf-8"))
        content |= {"threshold": threshold, "found_threshold": found}
        (made / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        arguments.out.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.copy(file, arguments.out / file.name)
        arguments.keep.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(halves, arguments.keep)
    total = sum(file.stat().st_size for file in arguments.out.iterdir())
    print(f"{arguments.out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
