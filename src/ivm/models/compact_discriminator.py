"""The compact discriminator: can the instruction be followed from the image as this annotation masks it?

It sees the masked image (white where irrelevant) and the instruction, and answers with one logit. The paper's
is an LMM with a LoRA; this one is small enough for a CPU. Ours: it may also see the whole image beside the
masked one, for "the cup left of the plate" cannot be judged from the cup alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivm.errors import OptionError
from ivm.models.compact import Block, ConvBlock, fourier_positions, initialise

__all__ = ["CompactDiscriminator", "CompactDiscriminatorConfig"]


@dataclass(frozen=True)
class CompactDiscriminatorConfig:
    """Sizes of a compact discriminator.

    Attributes:
        dim: width of the tokens.
        heads: attention heads; divides dim.
        stem: channels at strides 2, 4 and 8.
        blocks: transformer blocks that see picture and instruction.
        context: whether the whole image is seen beside the masked one.
    """

    dim: int = 192
    heads: int = 6
    stem: tuple[int, int, int] = (24, 48, 96)
    blocks: int = 4
    context: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "stem", tuple(self.stem))
        if self.dim % self.heads:
            raise OptionError(f"dim must be a multiple of heads, but got {self.dim} and {self.heads}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `CompactDiscriminatorConfig(**config.to_dict())` gives it back."""
        return {**asdict(self), "stem": list(self.stem)}


class CompactDiscriminator(nn.Module):
    """Masked image + instruction -> logit of D, the chance that the annotation is as good as a human one.

    `text_encoder` is frozen and kept out of `state_dict()`, as in `CompactModel`.
    """

    def __init__(
        self, config: CompactDiscriminatorConfig, text_encoder: nn.Module, text_dim: int = 384
    ) -> None:
        super().__init__()
        self.config = config
        self._text_encoder = [text_encoder.eval().requires_grad_(False)]  # in a list: not a sub-module
        c2, c4, c8 = config.stem
        self.conv2 = nn.Conv2d(6 if config.context else 3, c2, 3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(c2, c4, 3, stride=2, padding=1)
        self.conv8 = nn.Conv2d(c4, c8, 3, stride=2, padding=1)
        self.block8 = ConvBlock(c8)
        self.conv16 = nn.Conv2d(c8, config.dim, 3, stride=2, padding=1)
        self.position = nn.Linear(64, config.dim)
        self.text_project = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, config.dim))
        self.token = nn.Parameter(torch.randn(1, 1, config.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, cross=True) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.Linear(config.dim, 1))
        self.apply(initialise)

    @property
    def text_encoder(self) -> nn.Module:
        """The frozen text encoder."""
        return self._text_encoder[0]

    def forward(self, masked_B3HW: Tensor, whole_B3HW: Tensor, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Logits float [B].

        Args:
            masked_B3HW: uint8 or float in [0, 255], the image masked by the annotation (`ivm.blending.blend`,
                white), H and W multiples of 16.
            whole_B3HW: the image itself; not looked at unless `config.context`.
            ids_BT: int64 token ids of the instructions.
            mask_BT: bool, True: a token.
        """
        seen = torch.cat([masked_B3HW, whole_B3HW], dim=1) if self.config.context else masked_B3HW
        x = seen.to(self.conv2.weight.dtype) / 127.5 - 1.0
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.gelu(self.conv4(F.gelu(self.conv2(x))))
        x = self.conv16(F.gelu(self.block8(self.conv8(x))))
        waves = fourier_positions(x.shape[2], x.shape[3], x.device).to(self.position.weight.dtype)
        tokens = x.flatten(2).transpose(1, 2) + self.position(waves)
        with torch.no_grad():
            raw = self.text_encoder(ids_BT, mask_BT)
        text = self.text_project(raw)
        y = torch.cat([self.token.expand(len(x), -1, -1), tokens], dim=1)
        for block in self.blocks:
            y = block(y, context_BTD=text, keep_BT=mask_BT)
        return self.head(self.norm(y[:, 0]))[:, 0]
