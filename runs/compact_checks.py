"""What quantisation costs the shipped compact model, and whether its found score is honest.

    python runs/compact_checks.py [--photos N] [--scenes 100]

The photos of the test split of the packs in IVM_DATA and tabletop scenes that training does not use are asked
about twice: by the package's ONNX files, and by torch in float32 with the weights they were made from, inside
the same masker. Then the found scores of the shipped model are held against how often the target is there.
Writes docs/reports/compact-checks.json and docs/pictures/found-reliability.svg.

Those weights are runs/weights/compact.safetensors, as `export_compact.py` leaves them: where training has
gone on since, as the model card then says, export first, or the comparison is of different weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

import ivm
from evaluate_compact import scene_samples, spec
from ivm import metrics
from ivm.data.packs import data_folder, read_pack
from ivm.evaluation.masks import answers, pack_questions
from ivm.masker import Masker
from ivm.models.compact import CompactConfig, CompactModel, frozen_parts
from ivm.models.guided_filter import FINER, make_guide
from ivm.models.minilm import build_tokenizer
from ivm.models.onnx import CompactRuntime
from train_compact import UNSEEN_PAIRS

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
PACKS = ("voc", "coco", "clothing")
BINS = 10


class Float:
    """The compact model in torch, float32, as a masker's backend: what ONNX and int8 are compared with."""

    name = "float32"

    def __init__(self, shipped: CompactRuntime) -> None:
        self.threshold, self.found_threshold = shipped.threshold, shipped.found_threshold
        self.finish, self.size = shipped.finish, shipped.image_size
        config = CompactConfig(image_size=self.size)
        self.tokenizer = build_tokenizer(config)
        self.model = CompactModel(config, **frozen_parts(config)).eval()
        state = load_file(HERE / "weights" / "compact.safetensors")
        self.model.load_state_dict({key: value.float() for key, value in state.items()})

    @torch.inference_mode()
    def encode_images(self, images):
        made = []
        for image in images:
            shrinks = min(image.shape[:2]) >= self.size
            way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            small = torch.from_numpy(cv2.resize(image, (self.size, self.size), interpolation=way))
            guide = make_guide(small.numpy(), self.size // 4 * FINER)
            made.append((guide, self.model.encode_image(small.permute(2, 0, 1)[None])))
        return made

    @torch.inference_mode()
    def decode(self, features, instructions):
        encoded = self.tokenizer.encode_batch(instructions)
        ids, mask = (torch.tensor([getattr(e, k) for e in encoded]) for k in ("ids", "attention_mask"))
        guides, encodings = zip(*features, strict=True)
        parts = tuple(torch.cat(part) for part in zip(*encodings, strict=True))
        logits, found = self.model.decode(parts, self.model.encode_text(ids, mask.bool()), mask.bool())
        return self.finish(logits.numpy(), found.numpy(), list(guides))


def compare(shipped, full) -> dict:
    """Both gIoUs and pointing accuracies, and the differences, shipped minus float, clustered by picture."""
    pairs = [(a, b) for a, b in zip(shipped, full, strict=True) if a.present]
    clusters = np.array([a.image_id for a, _ in pairs])
    told = {"questions": len(pairs)}
    for key, value in (("giou", lambda a: a.iou), ("pointing", lambda a: float(a.hit))):
        ours, theirs = (np.array([value(pair[i]) for pair in pairs]) for i in (0, 1))
        told[key] = {
            "shipped": ours.mean(),
            "float32": theirs.mean(),
            "difference": [(ours - theirs).mean(), *metrics.clustered_interval(ours - theirs, clusters)],
        }
    told["found agrees"] = float(np.mean([a.found == b.found for a, b in zip(shipped, full, strict=True)]))
    return told


def reliability(given) -> dict:
    """How often the target is there, by found score, as if it were there as often as not.

    Ten bins; each side counts half, whatever the numbers of present and absent questions. "error" is the
    expected calibration error (Guo et al., 2017) with those weights.
    """
    present = np.array([a.present for a in given])
    score = np.array([a.score for a in given])
    weight = np.where(present, 0.5 / present.sum(), 0.5 / (~present).sum())
    which = np.minimum((score * BINS).astype(int), BINS - 1)
    rows = []
    for b in range(BINS):
        mine = which == b
        if mine.any():
            mass = weight[mine].sum()
            rows.append(
                [
                    (score[mine] * weight[mine]).sum() / mass,
                    weight[mine & present].sum() / mass,
                    mass,
                    int(mine.sum()),
                ]
            )
    error = sum(mass * abs(said - is_so) for said, is_so, mass, _ in rows)
    return {"present": int(present.sum()), "absent": int((~present).sum()), "error": error, "bins": rows}


def draw(found: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ivm"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(3.0 * len(found), 3.1), sharey=True)
    for ax, (name, one) in zip(np.atleast_1d(axes), found.items(), strict=True):
        said, is_so, mass, _ = (np.array(column) for column in zip(*one["bins"], strict=True))
        ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
        ax.bar((np.floor(said * BINS) + 0.5) / BINS, mass, width=0.09, color="#d9e8f2")
        ax.plot(said, is_so, "o-", color="#0072b2", markersize=4)
        ax.set(title=f"{name}\nerror {one['error']:.2f}", xlabel="found score", xlim=(0, 1), ylim=(0, 1))
        ax.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(axes)[0].set_ylabel("target is there\n(bars: share of questions)")
    figure.tight_layout()
    temporary = path.with_suffix(".new.svg")
    figure.savefig(temporary, metadata={"Date": None})
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, help="at most so many photos of a pack")
    parser.add_argument("--scenes", type=int, default=100, help="tabletop scenes")
    parser.add_argument("--out", type=Path, default=DOCS / "reports" / "compact-checks.json")
    options = parser.parse_args()
    root = data_folder()
    if root is None:
        sys.exit("set IVM_DATA to the folder that holds the packs")
    torch.set_num_threads(1)
    shipped = ivm.load("compact", threads=1)
    full = Masker(Float(shipped.backend))
    data = {
        name: lambda n=name: pack_questions(read_pack(root / n), "test", limit=options.photos)
        for name in PACKS
    }
    data["tabletop"] = lambda: scene_samples(
        spec("tabletop", root, {"exclude_pairs": UNSEEN_PAIRS}), options.scenes
    )
    quantised, found = {}, {}
    for name, samples in data.items():
        ours = list(answers(samples(), shipped))
        quantised[name] = compare(ours, list(answers(samples(), full)))
        found[name] = reliability(ours)
        print(name, json.dumps(quantised[name]), json.dumps(found[name]["error"]), flush=True)
    content = {"date": f"{date.today():%Y-%m}", "quantisation": quantised, "found score": found}
    content = json.loads(json.dumps(content), parse_float=lambda x: round(float(x), 4))
    temporary = options.out.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(options.out)
    draw(found, DOCS / "pictures" / "found-reliability.svg")


if __name__ == "__main__":
    main()
