"""SAM 3 (arXiv 2511.16719), by transformers: every instance of the concept that a noun phrase names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivm.models.pretrained import Runner, open_model, open_tokenizer, to_squares
from ivm.types import check_threshold

__all__ = ["Sam3", "Sam3Features"]

_MEAN = _STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Sam3Features:
    """One encoded image: the levels [D, h, w] of its feature pyramid, finest first, without the coarsest."""

    levels: tuple[Any, ...]


class Sam3:
    """A zero-shot masker for concepts: short noun phrases such as "striped cat" or "yellow school bus".

    It masks all instances of the concept. A command or a question is not what it was trained on, and "the
    left cup" asks for more than a concept. The text goes to it as it is. A `Backend`.

    The masks of all instances whose score reaches `instance_threshold` are joined by the maximum of their
    logits; the found score is the best instance's: its own probability times the probability that the concept
    is in the image at all. If no instance reaches the threshold, the best one is shown, and it is not found.

    Args:
        folder: a Sam3Model (or the published folder, which holds the video model, too) with its tokenizer.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None: torch's own number.
        dtype: "auto" (float32), "float32", "bfloat16" or "float16".
        instance_threshold: in [0, 1].

    Attributes:
        name: the folder's name.
        threshold: of heatmaps, 0.5.
        found_threshold: `instance_threshold`.

    Raises:
        ModelError: there are no weights, or no such device.
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
        instance_threshold: float = 0.5,
    ) -> None:
        self.found_threshold = check_threshold(instance_threshold, "instance_threshold")
        self._run = Runner(device, threads, dtype)
        from transformers import Sam3Model

        self.name = Path(folder).name
        self.threshold = 0.5
        self._model = open_model(Sam3Model, Path(folder), self._run)
        config = self._model.config
        self._tokenize = open_tokenizer(Path(folder), config.text_config.max_position_embeddings)
        self._side = int(np.max(config.image_size))
        self._positions: tuple[Any, ...] = ()  # the same for every image

    def encode_images(self, images: list[np.ndarray]) -> list[Sam3Features]:
        """uint8 [H, W, 3] of any sizes -> features; each image is squashed to the model's square."""
        if not images:
            return []
        with self._run():
            pixels = to_squares(images, self._side, _MEAN, _STD, self._run)
            answer = self._model.get_vision_features(pixel_values=pixels)
            # Copies: a slice would keep its whole batch in memory, and the coarsest level is never read.
            self._positions = tuple(level[:1].clone() for level in answer.fpn_position_encoding[:-1])
            levels = answer.fpn_hidden_states[:-1]
            return [
                Sam3Features(tuple(level[index].clone() for level in levels)) for index in range(len(images))
            ]

    def decode(self, features: list[Sam3Features], instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 [B, h, w] over the whole image each, and the best instance's score float32 [B].

        Raises:
            InstructionError: an instruction is longer than the text encoder reads (32 tokens as published).
        """
        import torch
        from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

        if not features:
            return np.zeros((0, 1, 1), np.float32), np.zeros(0, np.float32)
        tokens = {name: ids.to(self._run.device) for name, ids in self._tokenize(instructions).items()}
        count = len(features)
        with self._run():
            levels = zip(*(one.levels for one in features), strict=True)
            hidden = tuple(torch.stack(level) for level in levels)
            positions = tuple(level.expand(count, -1, -1, -1) for level in self._positions)
            answer = self._model(
                # The model drops the last entry, its coarsest level.
                vision_embeds=Sam3VisionEncoderOutput(
                    fpn_hidden_states=(*hidden, hidden[-1]), fpn_position_encoding=(*positions, positions[-1])
                ),
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
            )
            scores = answer.pred_logits.float().sigmoid() * answer.presence_logits.float().sigmoid()
            best, kept = scores.amax(dim=1), scores >= self.found_threshold
            kept[torch.arange(count), scores.argmax(dim=1)] = True
            logits = [
                masks[row].amax(dim=0).float() for masks, row in zip(answer.pred_masks, kept, strict=True)
            ]
            return torch.stack(logits).cpu().numpy(), best.cpu().numpy()
