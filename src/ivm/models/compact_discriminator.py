"""The compact discriminator: is this annotation as good as a human one?

The paper's discriminator is an LMM with a LoRA that reads the masked image and the instruction. This one
is small enough for a CPU, and ours: it is a generator that says where it would look. Its logit is the
mean of the generator's logits inside of the annotation's mask, corrected by a small network that sees a
few figures of how well heatmap and mask agree. All of it learns. Started from a trained generator, it
knows from the first step on what a cup is; one bit an annotation is little to learn that from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ivm.errors import CheckpointError
from ivm.models.compact import CompactConfig, CompactModel, initialise
from ivm.models.efficientnet_lite import EfficientNetLite

__all__ = ["CompactDiscriminator", "CompactDiscriminatorConfig", "agreement"]

_FIGURES = 10
_HIDDEN = 32
_SCALE = 5.0
"""Logits of a trained generator lie within about twice this."""


@dataclass(frozen=True)
class CompactDiscriminatorConfig(CompactConfig):
    """Sizes of a compact discriminator: those of a generator, and

    Attributes:
        context: whether the generator within looks at the whole image. If not, it looks at the masked one, as
            the paper's does: then "the cup left of the plate" must be judged from the cup alone.
    """

    context: bool = True


class CompactDiscriminator(CompactModel):
    """Image, mask and instruction -> logit of D, the chance that the annotation is as good as a human one."""

    def __init__(
        self,
        config: CompactDiscriminatorConfig,
        text_encoder: nn.Module,
        text_dim: int = 384,
        backbone: EfficientNetLite | None = None,
    ) -> None:
        super().__init__(config, text_encoder, text_dim, backbone)
        self.context = config.context
        self.judge = nn.Sequential(nn.Linear(_FIGURES, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))
        self.judge.apply(initialise)  # as good as no correction

    def start_from(self, generator: Mapping[str, Tensor]) -> None:
        """Take all but the last network from the state of a `CompactModel` of the same sizes.

        Raises:
            CheckpointError: a part is missing or of another size, or has no place here.
        """
        wanted = {key: value for key, value in self.state_dict().items() if not key.startswith("judge.")}
        wrong = [
            key
            for key, value in wanted.items()
            if key not in generator or generator[key].shape != value.shape
        ]
        if more := sorted(generator.keys() - wanted.keys()):
            raise CheckpointError(
                f"the discriminator cannot start from this generator: it has no place for {len(more)} of its "
                f"tensors, {more[0]} first; give both the same sizes"
            )
        if wrong:
            raise CheckpointError(
                f"the discriminator cannot start from this generator: {len(wrong)} of {len(wanted)} tensors "
                f"are missing there or of another size, {wrong[0]} first; give both the same sizes"
            )
        with torch.no_grad():
            for key, value in wanted.items():
                value.copy_(generator[key])

    def forward(  # type: ignore[override]  # it judges what its base class makes
        self,
        images_B3HW: Tensor,
        kept_QHW: Tensor,
        ids_QT: Tensor,
        mask_QT: Tensor,
        image_Q: Tensor | None = None,
    ) -> Tensor:
        """Logits float [Q] of Q annotations, each of picture `image_Q` (int64 [Q]; without it, one each).

        Args:
            images_B3HW: uint8 or float in [0, 255], H and W multiples of 16.
            kept_QHW: float [Q, H/4, W/4] in [0, 1], the annotation's mask: 1 where relevant.
            ids_QT: int64 token ids of the instructions.
            mask_QT: bool, True: a token.
        """
        if not self.context:
            images_B3HW = _masked(images_B3HW if image_Q is None else images_B3HW[image_Q], kept_QHW)
            image_Q = None
        logits, found = super().forward(images_B3HW, ids_QT, mask_QT, image_Q)
        with torch.autocast(logits.device.type, enabled=False):  # sums over thousands of cells
            figures = agreement(logits.float(), kept_QHW.float(), found.float())
            correction = self.judge(figures.to(self.conv2.weight.dtype))[:, 0]
            return _SCALE * figures[:, 0] + correction


def agreement(logits_QHW: Tensor, kept_QHW: Tensor, found_Q: Tensor) -> Tensor:
    """How well a heatmap agrees with a mask: float [Q, 10], each of the order of 1.

    Mean and highest logit inside and outside of the mask; heat inside as a share of all heat, and of the
    mask's area; their soft IoU; area of the mask and of the heat; the found logit.
    """
    heat = logits_QHW.sigmoid()
    area, rest = kept_QHW.sum((1, 2)), (1.0 - kept_QHW).sum((1, 2))
    inside = (heat * kept_QHW).sum((1, 2))
    scaled = (logits_QHW / _SCALE).clamp(-3.0, 3.0)
    lowest = torch.full_like(scaled, -3.0)
    return torch.stack(
        [
            (scaled * kept_QHW).sum((1, 2)) / (area + 0.1),
            (scaled * (1.0 - kept_QHW)).sum((1, 2)) / (rest + 0.1),
            torch.where(kept_QHW > 0.5, scaled, lowest).amax((1, 2)),
            torch.where(kept_QHW < 0.5, scaled, lowest).amax((1, 2)),
            inside / (heat.sum((1, 2)) + 0.1),
            inside / (area + 0.1),
            torch.minimum(heat, kept_QHW).sum((1, 2)) / (torch.maximum(heat, kept_QHW).sum((1, 2)) + 0.1),
            kept_QHW.mean((1, 2)),
            heat.mean((1, 2)),
            (found_Q / _SCALE).clamp(-3.0, 3.0),
        ],
        dim=1,
    )


def _masked(images_Q3HW: Tensor, kept_QHW: Tensor) -> Tensor:
    """float [Q, 3, H, W] in [0, 255]: white where the mask is 0."""
    images = images_Q3HW.float()
    kept = nn.functional.interpolate(
        kept_QHW[:, None], size=images.shape[2:], mode="bilinear", align_corners=False
    )
    return images * kept + 255.0 * (1.0 - kept)
