"""Photos, human annotations and weak annotators of runs/dwsl.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ivm.data.materials import nouns_looked_for
from ivm.data.packs import read_pack
from ivm.data.photo_scenes import photo_scene
from ivm.evaluation.baselines import ColourWords
from ivm.metrics import auroc
from ivm.models.compact import CompactConfig
from ivm.models.minilm import build_tokenizer, minilm_text_encoder

MACHINE = {
    "correct": 0.25, "box": 0.20, "colour words": 0.10, "saliency": 0.10, "early checkpoint": 0.10,
    "another thing": 0.15, "whole picture": 0.10,
}  # fmt: skip
"""Weak annotator -> its share of the machine annotations."""
HUMAN_BOXES = 0.2
"""Share of the human annotations that are boxes: people draw them, too, and style must not tell."""
BASE = CompactConfig(text_layers=2)


@dataclass(frozen=True)
class Annotation:
    """A question about a photo, by number; `text` is a number, too."""

    photo: int
    name: str
    text: int


@dataclass
class Labels:
    """Annotations of one source: masks bool [S, S], beside the truth, and which annotator made each."""

    annotations: list[Annotation]
    masks: list[np.ndarray]
    truth: list[np.ndarray]
    kinds: np.ndarray
    human: bool

    @staticmethod
    def box(mask: np.ndarray) -> np.ndarray:
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        out = np.zeros_like(mask)
        out[y : y + h, x : x + w] = True
        return out

    def other(self, k: int) -> np.ndarray | None:
        """The true mask of another thing in the photo of annotation `k`; None if there is none."""
        for step in (1, -1, 2, -2):
            j = k + step
            same = 0 <= j < len(self.annotations) and self.annotations[j].photo == self.annotations[k].photo
            if same and iou(self.truth[j], self.truth[k]) < 0.3:
                return self.truth[j]
        return None

    def swapped(self) -> Labels:
        """Each instruction with the mask of another thing of its photo, in its own style: not human."""
        which = [k for k in range(len(self.annotations)) if self.other(k) is not None]
        masks = []
        for k in which:
            mask = self.other(k)
            boxed = not np.array_equal(self.masks[k], self.truth[k])
            masks.append(self.box(mask) if boxed else mask)
        return Labels(
            [self.annotations[k] for k in which], masks, [self.truth[k] for k in which],
            np.array(["swapped"] * len(which)), human=False,
        )  # fmt: skip

    def quality(self) -> dict[str, list[float]]:
        """Annotator -> [annotations, mean IoU with the truth, share above 0.5]."""
        ious = np.array([iou(a, b) for a, b in zip(self.masks, self.truth, strict=True)])
        return {
            str(kind): [int((self.kinds == kind).sum()), float(ious[self.kinds == kind].mean()),
                        float((ious[self.kinds == kind] > 0.5).mean())]
            for kind in dict.fromkeys(self.kinds)
        }  # fmt: skip


@dataclass
class Photos:
    """Every photo at [S, S], its questions with true masks, and the texts as the frozen encoder sees them."""

    images: np.ndarray
    annotations: list[Annotation]
    truth: list[np.ndarray]
    texts: list[str]
    text_table: torch.Tensor
    text_mask: torch.Tensor
    train: np.ndarray
    held_out: np.ndarray

    def draw(self, count: int, seed: int) -> np.ndarray:
        """`count` training photos."""
        return np.random.default_rng((seed, 7)).permutation(self.train)[:count]

    def labels(self, photos: np.ndarray, who: str, seed: int = 0, early=None) -> Labels:
        """The annotations of these photos: "human", true but for HUMAN_BOXES, or by "machine", weak ones."""
        wanted = set(photos.tolist())
        chosen = [k for k, one in enumerate(self.annotations) if one.photo in wanted]
        ones, truth = [self.annotations[k] for k in chosen], [self.truth[k] for k in chosen]
        made = Labels(ones, list(truth), truth, np.array(["human"] * len(ones), dtype="<U20"), who == "human")
        rng = np.random.default_rng((seed, 3))
        if who == "human":
            if early is None and len(photos) == len(self.held_out) and (photos == self.held_out).all():
                return made  # what is measured with is true throughout
            for k in np.flatnonzero(rng.random(len(ones)) < HUMAN_BOXES):
                made.masks[k] = Labels.box(truth[k])
            return made
        made.kinds[:] = rng.choice(list(MACHINE), size=len(ones), p=list(MACHINE.values()))
        for k, one in enumerate(ones):
            kind, image = made.kinds[k], self.images[one.photo]
            if kind == "box":
                made.masks[k] = Labels.box(truth[k])
            elif kind == "colour words":
                made.masks[k] = ColourWords().batch([image], [self.texts[one.text]])[0].to_mask(0.5)
            elif kind == "saliency":
                made.masks[k] = saliency(image)
            elif kind == "another thing":
                other = made.other(k)
                made.masks[k] = other if other is not None else np.ones_like(truth[k])
            elif kind == "whole picture":
                made.masks[k] = np.ones_like(truth[k])
        self._by_checkpoint(made, np.flatnonzero(made.kinds == "early checkpoint"), early)
        for k, mask in enumerate(made.masks):
            if not mask.any():  # an annotator that sees nothing keeps everything, as the reference does
                made.masks[k] = np.ones_like(mask)
        return made

    @torch.inference_mode()
    def _by_checkpoint(self, made: Labels, which: np.ndarray, early) -> None:
        for start in range(0, len(which), 128):
            part = which[start : start + 128]
            texts = torch.tensor([made.annotations[k].text for k in part])
            images = np.stack([self.images[made.annotations[k].photo] for k in part])
            logits, _ = early(
                torch.from_numpy(images).permute(0, 3, 1, 2),
                texts[:, None].expand(-1, self.text_mask.shape[1]),
                self.text_mask[texts],
                torch.arange(len(part)),
            )
            for k, heat in zip(part, logits.float().numpy(), strict=True):
                made.masks[k] = (
                    cv2.resize(heat, self.images.shape[2:0:-1], interpolation=cv2.INTER_LINEAR) > 0
                )


class LookUp(torch.nn.Module):
    """The frozen text encoder's answers, made once for every text: ids hold the text's number."""

    def __init__(self, table_UTD: torch.Tensor) -> None:
        super().__init__()
        self.table = table_UTD

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        return self.table[ids_BT[:, 0]]


def read_photos(root: Path, size: int) -> Photos:
    """The packs voc, coco and clothing, one question a name and photo; told by its colour now and then."""
    images, annotations, truth, texts, train, held = [], [], [], [], [], []
    numbers: dict[str, int] = {}
    rng = np.random.default_rng(0)
    for name in ("voc", "coco", "clothing"):
        pack = read_pack(root / name)
        nouns = nouns_looked_for(pack)
        for split in ("train", "val", "test"):
            for photo in pack.split(split):
                if not photo.regions:
                    continue
                scene = photo_scene(photo, nouns)
                number = len(images)
                images.append(cv2.resize(scene.image, (size, size), interpolation=cv2.INTER_AREA))
                (train if split == "train" else held).append(number)
                for noun in dict.fromkeys(thing.name for thing in scene.things):
                    mine = [thing for thing in scene.things if thing.name == noun]
                    mask = np.logical_or.reduce([thing.mask for thing in mine]).astype(np.float32)
                    small = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) > 0.5
                    if small.sum() < 8:
                        continue
                    colour = mine[0].colour if len(mine) == 1 and rng.random() < 0.4 else None
                    text = f"the {colour} {noun}" if colour else f"the {noun}"
                    texts.append(text)
                    annotations.append(Annotation(number, noun, numbers.setdefault(text, len(numbers))))
                    truth.append(small)
    known = list(numbers)
    encoded = build_tokenizer(BASE).encode_batch(known)
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded]).bool()
    with torch.inference_mode():
        encoder = minilm_text_encoder(BASE)
        parts = [encoder(i, m) for i, m in zip(ids.split(256), mask.split(256), strict=True)]
    return Photos(
        np.stack(images),
        annotations,
        truth,
        known,
        torch.cat(parts).clone(),
        mask,
        np.array(train),
        np.array(held),
    )


def saliency(image: np.ndarray) -> np.ndarray:
    """bool [S, S]: above 1.5 times the mean of the spectral residual (Hou and Zhang, 2007)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    spectrum = np.fft.fft2(grey)
    amplitude = np.log(np.abs(spectrum) + 1e-6).astype(np.float32)
    residual = amplitude - cv2.blur(amplitude, (3, 3))
    heat = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    heat = cv2.GaussianBlur(heat.astype(np.float32), (0, 0), image.shape[0] / 16)
    return heat > 1.5 * heat.mean()


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def auc(right: np.ndarray, wrong: np.ndarray) -> float:
    """Share of pairs in which the right one scores higher."""
    return float(auroc(np.concatenate([right, wrong]), np.repeat([True, False], [len(right), len(wrong)])))
