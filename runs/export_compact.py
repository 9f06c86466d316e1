"""Turn trained weights into the folder that ships: `ivm export`, then thresholds from validation photos.

    python runs/export_compact.py OUT/average-800.safetensors --image-size 192

writes src/ivm/weights/compact/ (ONNX, int8) and runs/weights/compact.safetensors (float16, to go on from, or
for `ivm export`). Weights with a header, as `ivm train` writes them, know their image size themselves.

How far a heatmap is shifted by how hot it gets, and the mask threshold, are those of the best gIoU. The found
score is scaled to a probability (Platt, 1999), as if targets were there as often as not, and its threshold is
the one of the best balanced accuracy. Both over photos and scenes, each pack and kind of scene as heavy as
another, on the validation split and on a seed of its own; test photos are not looked at. Without weights,
only this is done anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
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
from ivm.models.guided_filter import FINER, guided_filter, make_guide
from ivm.models.onnx import CompactRuntime, shift_logits
from ivm.training.checkpoints import read_header, weights_file, write_weights
from ivm.training.config import Model
from ivm.training.recipe import export

PACKS = ("voc", "coco", "clothing")
SEED, SCENES = 20_001, 150  # of the scenes that found scores are calibrated on, of each kind


LEVELS = np.arange(-12.0, 12.0, 0.1)
"""Logits that masks are cut at, to see which cut is best."""

THRESHOLDS = np.arange(0.15, 0.85, 0.05)


@dataclass(frozen=True)
class Answer:
    """What the model says to one question, before calibration: heatmap logits [h, w] and found logit.

    `target` is None where the target is absent.
    """

    source: str
    image: np.ndarray
    target: np.ndarray | None
    logits: np.ndarray
    found: float


def questions(root: Path):
    """(where from, scene, instructions) on the validation photos, and about scenes of a seed of their own."""
    rng = np.random.default_rng(0)
    for name in PACKS:
        pack = read_pack(root / name)
        nouns = nouns_looked_for(pack)
        for photo in pack.split("val"):
            if photo.regions:
                scene = photo_scene(photo, nouns)
                asked = name_instructions(scene, rng) + instructions_for(scene, rng, ("absent",))
                yield name, scene, asked
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
                yield source, scene, asked


def answers(runtime: CompactRuntime, root: Path):
    """An Answer a question."""
    for source, scene, asked in questions(root):
        logits, found = runtime.answer(
            runtime.encode_images([scene.image]) * len(asked), [q.text for q in asked]
        )
        for one, logit, score in zip(asked, logits, found, strict=True):
            target = one.mask if one.mask.any() else None
            yield Answer(source, scene.image, target, logit, float(score))


def ious_by_level(logit_HW: np.ndarray, target_HW: np.ndarray) -> np.ndarray:
    """IoU of the logits above each of LEVELS with the target."""
    edges = [*LEVELS, np.inf]
    kept = np.histogram(logit_HW, edges)[0][::-1].cumsum()[::-1]
    hit = np.histogram(logit_HW[target_HW], edges)[0][::-1].cumsum()[::-1]
    return hit / (kept + target_HW.sum() - hit)


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


def mean_by_source(values: np.ndarray, given: list[Answer]) -> np.ndarray:
    """Mean of [N, ...] over the answers, each source as heavy as another."""
    sources = np.array([one.source for one in given])
    return np.mean([values[sources == source].mean(axis=0) for source in np.unique(sources)], axis=0)


def best_slope(given: list[Answer]) -> tuple[float, float]:
    """(logit_slope, logit_middle) of the best gIoU at the threshold that is best with them."""
    there = [one for one in given if one.target is not None]
    ious = np.stack([ious_by_level(resized(one.logits, one.target), one.target) for one in there])
    hottest = np.array([one.logits.max() for one in there])
    middle = round(float(np.median(hottest)), 1)  # a heatmap as hot as most of them stays as it is
    slopes = np.arange(0.0, 0.75, 0.05)
    table = []
    for slope in slopes:
        cuts = np.log(THRESHOLDS / (1 - THRESHOLDS)) - slope * (middle - hottest[:, None])
        nearest = np.abs(LEVELS - cuts[:, :, None]).argmin(axis=2)
        table.append(mean_by_source(np.take_along_axis(ious, nearest, axis=1), there).max())
    print("gIoU by logit_slope:", by(slopes, table))
    return round(float(slopes[np.argmax(table)]), 2), middle


def best_threshold(given: list[Answer], slope: float, middle: float) -> float:
    """The threshold of the best gIoU, of heatmaps as the runtime makes them."""
    there = [one for one in given if one.target is not None]
    cuts = np.abs(LEVELS - np.log(THRESHOLDS / (1 - THRESHOLDS))[:, None]).argmin(axis=1)
    ious = []
    for one in there:
        shifted = shift_logits(one.logits[None], slope, middle)[0]
        fine = guided_filter(shifted, make_guide(one.image, one.logits.shape[0] * FINER))
        ious.append(ious_by_level(resized(fine, one.target), one.target)[cuts])
    table = mean_by_source(np.stack(ious), there)
    print("gIoU by threshold:", by(THRESHOLDS, table))
    return round(float(THRESHOLDS[table.argmax()]), 2)


def by(limits, values) -> dict[float, float]:
    return {round(float(k), 2): round(float(v), 3) for k, v in zip(limits, values, strict=True)}


def resized(logits_hw: np.ndarray, target_HW: np.ndarray) -> np.ndarray:
    return cv2.resize(logits_hw, target_HW.shape[::-1], interpolation=cv2.INTER_LINEAR)


def best_score(given: list[Answer]) -> dict[str, float]:
    """found_scale, found_shift and found_threshold, each source as heavy as another."""
    told = {}
    for source in dict.fromkeys(one.source for one in given):
        mine = [one for one in given if one.source == source]
        present, absent = (
            np.array([one.found for one in mine if (one.target is None) == gone]) for gone in (False, True)
        )
        told[source] = (present, absent)
    scale, shift = platt(told)
    candidates = np.arange(0.05, 0.96, 0.01)
    rows = []
    for present, absent in told.values():
        there, not_there = (1 / (1 + np.exp(-(scale * v + shift))) for v in (present, absent))
        rows.append([(np.mean(there >= c) + np.mean(not_there < c)) / 2 for c in candidates])
    balanced = np.mean(rows, axis=0)
    found = float(candidates[balanced.argmax()])
    print("balanced accuracy by found threshold:", by(candidates[::5], balanced[::5]))
    print(f"found_threshold {found:.2f} (best balanced accuracy {max(balanced):.3f})")
    print(f"found_scale {scale}, found_shift {shift}")
    return {"found_threshold": round(found, 2), "found_scale": scale, "found_shift": shift}


def calibrate(runtime: CompactRuntime, root: Path) -> dict[str, float]:
    """What config.json says of heatmaps' shifts, of the two thresholds and of the found score."""
    given = list(answers(runtime, root))
    slope, middle = best_slope(given)
    threshold = best_threshold(given, slope, middle)
    print(f"logit_slope {slope:.2f}, logit_middle {middle:.1f}, threshold {threshold:.2f}")
    cut = {"logit_slope": slope, "logit_middle": middle, "threshold": threshold}
    return cut | best_score(given)


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
    parser.add_argument("--image-size", type=int, help="if not that of the weights")
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
    header = read_header(file) or {"kind": "compact", "stage": "generator", "model": asdict(Model())}
    if arguments.image_size:
        header["model"]["image_size"] = arguments.image_size
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
