"""Grounding DINO (arXiv 2303.05499) finds boxes for a phrase, SAM 2 (arXiv 2408.00714) turns them into masks.

Both by transformers; the pair is known as Grounded SAM (arXiv 2401.14159).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivm.errors import CheckpointError
from ivm.models.config import PRESETS, fetch
from ivm.models.pretrained import Runner, open_image_processor, open_model, open_tokenizer, to_squares
from ivm.types import check_threshold

__all__ = ["GroundedSam", "GroundedSamFeatures"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BOXES_AT_ONCE = 32  # bounds memory: SAM 2 repeats its finest features (8 MB in float32) for each box


@dataclass(frozen=True, eq=False)
class GroundedSamFeatures:
    """One encoded image.

    Attributes:
        size: (H, W) at which the detector saw it.
        detector: its backbone's answer: feature maps with masks, and position encodings; batch of one.
        segmenter: SAM 2's feature maps [1, D, h, w], finest first.
    """

    size: tuple[int, int]
    detector: tuple[Any, Any]
    segmenter: tuple[Any, ...]


class GroundedSam:
    """A zero-shot masker for phrases that name objects: "a red cup", or several: "cup. plate." A `Backend`.

    Colours and kinds it takes well, relations ("left of the plate") little, commands and questions as far as
    the nouns in them go. The text goes to it in lower case with a final full stop, the form that Grounding
    DINO was trained on; nothing else is changed. Full stops part phrases, each of which is looked for.

    Masks of all boxes whose score reaches `box_threshold` are joined by the maximum of their logits; the
    found score is the best box's. If no box reaches the threshold, the best one is masked, and it is
    not found.

    Args:
        folder: a GroundingDinoForObjectDetection with tokenizer and image processor.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None: torch's own number.
        dtype: "auto" (float32), "float32", "bfloat16" or "float16"; halves shift boxes by some pixels.
        segmenter: folder of a Sam2Model. None: the folder `sam2` inside `folder`, or, where there is none,
            the part of the preset "grounding-dino-sam2", from the hub.
        box_threshold: in [0, 1]; 0.35 is the default of Grounding DINO's own demonstration.

    Attributes:
        name: the folder's name.
        threshold: of heatmaps, 0.5.
        found_threshold: `box_threshold`.

    Raises:
        ModelError: there are no weights, no such device, or the hub does not give SAM 2.
        CheckpointError: the files are damaged, or do not fit each other.
        OptionError: unknown dtype, or a threshold outside [0, 1].
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        threads: int | None = None,
        dtype: str = "auto",
        segmenter: str | Path | None = None,
        box_threshold: float = 0.35,
    ) -> None:
        folder = Path(folder)
        self.found_threshold = check_threshold(box_threshold, "box_threshold")
        self._run = Runner(device, threads, dtype)
        from transformers import GroundingDinoForObjectDetection, Sam2Model

        self.name = folder.name
        self.threshold = 0.5
        self._detector = open_model(GroundingDinoForObjectDetection, folder, self._run)
        self._tokenize = open_tokenizer(folder, self._detector.config.max_text_len)
        self._process = open_image_processor(folder)
        self._detector.model.backbone = _with_memory(self._detector.model.backbone)
        if segmenter is None:
            beside = folder / "sam2"
            segmenter = beside if beside.is_dir() else fetch(*PRESETS["grounding-dino-sam2"].parts[0])
        if not (Path(segmenter) / "config.json").is_file():
            raise CheckpointError(
                f"segmenter must be the folder of a SAM 2 model, but {segmenter} has no config.json"
            )
        self._segmenter = open_model(Sam2Model, Path(segmenter), self._run)
        self._side = int(self._segmenter.prompt_encoder.input_image_size)

    def encode_images(self, images: list[np.ndarray]) -> list[GroundedSamFeatures]:
        """uint8 [H, W, 3] of any sizes -> features. The detector keeps the proportions, SAM 2 squashes."""
        features: list[GroundedSamFeatures] = []
        for image in images:  # one at a time: images of other proportions would be padded, and see it
            with self._run():
                seen = self._process(images=image, return_tensors="pt").to(self._run.device)
                pixels = seen["pixel_values"].to(self._run.dtype)
                found = self._detector.model.backbone(pixels, seen["pixel_mask"])
                square = to_squares([image], self._side, _MEAN, _STD, self._run)
                levels = tuple(self._segmenter.get_image_embeddings(square))
                features.append(GroundedSamFeatures((pixels.shape[2], pixels.shape[3]), found, levels))
        return features

    def decode(
        self, features: list[GroundedSamFeatures], instructions: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 [B, h, w] over the whole image each, and the best box's score float32 [B].

        Raises:
            InstructionError: an instruction is longer than the text encoder reads (256 tokens as published).
        """
        side = self._side // 4
        logits = np.zeros((len(features), side, side), np.float32)
        found = np.zeros(len(features), np.float32)
        pairs: dict[GroundedSamFeatures, list[int]] = {}  # by image: its instructions are detected together
        for index, one in enumerate(features):
            pairs.setdefault(one, []).append(index)
        for one, indices in pairs.items():
            with self._run():
                boxes, scores = self._detect(one, [instructions[index] for index in indices])
                for index, boxes_N4, scores_N in zip(indices, boxes, scores, strict=True):
                    kept = scores_N >= self.found_threshold
                    kept[scores_N.argmax()] = True
                    logits[index] = self._segment(one, boxes_N4[kept]).cpu().numpy()
                    found[index] = float(scores_N.max())
        return logits, found

    def _detect(self, features: GroundedSamFeatures, instructions: list[str]) -> tuple[Any, Any]:
        """Boxes float32 [B, N, 4] (x0, y0, x1, y1) as shares of the image, and scores float32 [B, N]."""
        import torch

        phrases = [text.lower().rstrip() for text in instructions]
        tokens = self._tokenize([text if text.endswith(".") else f"{text}." for text in phrases])
        count, device = len(instructions), self._run.device
        with self._detector.model.backbone.answering(_expanded(features.detector, count)):
            answer = self._detector(
                # Only the shape is looked at: the backbone has its answer.
                pixel_values=torch.empty(1, device=device, dtype=self._run.dtype).expand(
                    count, 3, *features.size
                ),
                pixel_mask=torch.ones(1, dtype=torch.long, device=device).expand(count, *features.size),
                **{name: ids.to(device) for name, ids in tokens.items()},
            )
        centre_x, centre_y, width, height = answer.pred_boxes.float().unbind(-1)
        corners = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
        return torch.stack(corners, dim=-1), answer.logits.float().sigmoid().amax(dim=-1)

    def _segment(self, features: GroundedSamFeatures, boxes_N4: Any) -> Any:
        """Logits float32 [h, w]: the maximum over the masks of N >= 1 boxes."""
        import torch

        joined = None
        for part in boxes_N4.split(_BOXES_AT_ONCE):
            masks = self._segmenter(
                image_embeddings=list(features.segmenter),
                input_boxes=(part.clamp(0, 1) * self._side).to(self._run.dtype)[None],
                multimask_output=False,
            ).pred_masks.float()
            best = masks.flatten(0, 2).amax(dim=0)
            joined = best if joined is None else torch.maximum(joined, best)
        return joined


def _with_memory(backbone: Any) -> Any:
    """`backbone` as a module that can be told its answer, so that an image is encoded once.

    GroundingDinoModel has no way in for encoded images, unlike its relatives. Each thread has its own answer.
    """
    from torch import nn

    class WithMemory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            self.position_embedding = backbone.position_embedding  # which the model asks for, too
            self._kept = threading.local()

        @contextmanager
        def answering(self, answer: tuple[Any, Any]) -> Iterator[None]:
            self._kept.answer = answer
            try:
                yield
            finally:
                del self._kept.answer

        def forward(self, pixel_values: Any, pixel_mask: Any) -> Any:
            answer = getattr(self._kept, "answer", None)
            return self.backbone(pixel_values, pixel_mask) if answer is None else answer

    return WithMemory()


def _expanded(answer: tuple[Any, Any], count: int) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """A backbone's answer for one image, for `count` of it, without a copy."""
    maps, positions = answer
    return (
        [(level.expand(count, -1, -1, -1), mask.expand(count, -1, -1)) for level, mask in maps],
        [position.expand(count, -1, -1, -1) for position in positions],
    )
