"""The full-size discriminator: can the instruction be followed from the image as this annotation masks it?

It reads the masked image (white where irrelevant, by `ivm.blending.blend`, the one masking code) and the
instruction with the published question, by the generator's LMM with a LoRA adapter of its own. The hidden
state of the last token goes through a small MLP (4096-1024-1 for ivm-v1) to one logit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ivm.blending import blend
from ivm.errors import InputError
from ivm.images import ImageLike, read_image
from ivm.models.image_encoder import squash
from ivm.models.instruction_encoder import InstructionEncoder, Projection, Tokenized
from ivm.types import Heatmap

__all__ = ["IVMDiscriminator"]


class IVMDiscriminator(nn.Module):
    """Masked image + instruction -> logit of D, the chance that the annotation is as good as a human one.

    The LMM is that of `encoder`, which may be a generator's: it is no sub-module, so that what is trained,
    saved and switched to evaluation here is the adapter `discriminator` and the head alone.

    Args:
        encoder: gets the adapter, unless it has it.
        side: of the square that pictures are masked and squashed to, in pixels: the generator's.
        hidden: width inside of the head.
    """

    def __init__(self, encoder: InstructionEncoder, side: int = 1024, hidden: int = 1024) -> None:
        super().__init__()
        self._encoder = [encoder]  # in a list: not a sub-module
        self.side = side
        self.adapter = encoder.add_adapter("discriminator")
        self.head = Projection(encoder.width, hidden, 1)

    @property
    def encoder(self) -> InstructionEncoder:
        """The LMM with its adapters."""
        return self._encoder[0]

    def train(self, mode: bool = True) -> IVMDiscriminator:
        """As of any module; layers of the LMM that are computed again in the backward pass know it, too."""
        super().train(mode)
        for part in self.encoder.backbone.modules():
            if getattr(part, "gradient_checkpointing", False):
                part.training = mode  # of the layer alone: what is inside of it stays as it is
        return self

    def forward(self, masked_B3SS: Tensor, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits float32 [B].

        Args:
            masked_B3SS: uint8 squares, masked by the annotation.
            ids: of `InstructionTokens` with asks=True, [B, T].
            lengths: of the same, [B].
        """
        hidden = self.encoder(masked_B3SS, Tokenized(ids, lengths), "discriminator", -1)
        logits: Tensor = self.head(hidden)[:, 0].float()
        return logits

    @torch.inference_mode()
    def score(
        self, images: Sequence[ImageLike], instructions: Sequence[str], heatmaps: Sequence[Heatmap]
    ) -> np.ndarray:
        """D in [0, 1] of annotations, float32 [B].

        Args:
            images: as `ivm.images.read_image` takes them.
            instructions: one an image.
            heatmaps: one an image, of its size.

        Raises:
            InputError: the numbers differ, or a heatmap is not of its image's size.
            InstructionError: an instruction does not fit into the LMM's context.
        """
        if not len(images) == len(instructions) == len(heatmaps):
            raise InputError(
                "images, instructions and heatmaps must be as many, "
                f"but are {len(images)}, {len(instructions)} and {len(heatmaps)}"
            )
        if not images:
            return np.zeros(0, np.float32)
        masked = [
            blend(read_image(image), heatmap.values) for image, heatmap in zip(images, heatmaps, strict=True)
        ]
        device = self.head.fc1.weight.device
        assert self.encoder.tokens is not None
        ids, lengths = self.encoder.tokens(instructions, asks=True)
        logits = self(squash(masked, self.side, device), ids.to(device), lengths)
        scores: np.ndarray = logits.sigmoid().cpu().numpy()
        return scores
