"""The mask decoder: an image's features and one condition token become the logits of a heatmap.

A learned mask token and the condition token go through SAM's two-way transformer together with the image
(transformers' own, with the reference's epsilon); the image's tokens are brought to four times their grid by
two transposed convolutions, and a small MLP turns the mask token into the weights of their last product.
State-dict names follow the paper's reference code where they can (`ivm.models.checkpoint` maps the rest).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamLayerNorm, SamTwoWayTransformer

from ivm.errors import OptionError

__all__ = ["Layers", "MaskDecoder", "RandomFourier"]


class RandomFourier(nn.Module):
    """Positions in [0, 1]^2 as sines and cosines of random frequencies (SAM's positional encoding).

    The frequencies stay in float32 whatever the model's precision: half of it shifts the phases of far
    positions. They are a buffer, trained never and saved always.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        matrix = torch.randn(2, dim // 2, dtype=torch.float32)
        self.register_buffer("positional_encoding_gaussian_matrix", matrix)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RandomFourier:
        before = self.positional_encoding_gaussian_matrix
        super()._apply(fn, recurse)
        after = self.positional_encoding_gaussian_matrix
        if not after.is_meta and not before.is_meta:
            self.positional_encoding_gaussian_matrix = before.to(after.device)
        return self

    def forward(self, rows: int, columns: int) -> Tensor:
        """float32 [D, rows, columns], of the centres of the cells."""
        matrix = self.positional_encoding_gaussian_matrix
        y = (torch.arange(rows, device=matrix.device, dtype=matrix.dtype) + 0.5) / rows
        x = (torch.arange(columns, device=matrix.device, dtype=matrix.dtype) + 0.5) / columns
        grid_hw2 = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        with torch.autocast(matrix.device.type, enabled=False):
            waves = 2.0 * math.pi * ((2.0 * grid_hw2 - 1.0) @ matrix)
        return torch.cat([waves.sin(), waves.cos()], dim=-1).permute(2, 0, 1)


class Layers(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """[..., first size] -> [..., last size]"""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        last: Tensor = self.layers[-1](x)
        return last


class MaskDecoder(nn.Module):
    """Features and conditions -> logits, at four times the grid of the features.

    Args:
        dim: channels of features and tokens; a multiple of 8 and of twice the heads.
        depth: two-way blocks.
        heads: attention heads.
        mlp_dim: width inside of the blocks' MLPs.
        attention: how attention is computed: "sdpa" or "eager".

    Raises:
        OptionError: the sizes do not fit.
    """

    def __init__(
        self,
        dim: int = 256,
        depth: int = 2,
        heads: int = 8,
        mlp_dim: int = 2048,
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        if dim % 8 or dim % (2 * heads):
            raise OptionError(f"dim must be a multiple of 8 and of twice the heads ({heads}), but is {dim}")
        # The reference's norms have torch's own epsilon, 1e-5; transformers' default is 1e-6.
        config = SamMaskDecoderConfig(
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            mlp_dim=mlp_dim,
            layer_norm_eps=1e-5,
            attn_implementation=attention,  # type: ignore[call-arg]  # taken by every config
        )
        self.transformer = SamTwoWayTransformer(config)
        self.pe_layer = RandomFourier(dim)
        self.mask_tokens = nn.Embedding(1, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            SamLayerNorm(dim // 4, eps=1e-6, data_format="channels_first"),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = Layers(dim, dim, dim, dim // 8)

    def forward(self, features_BDhw: Tensor, condition_BD: Tensor) -> Tensor:
        """Logits float [B, 4h, 4w].

        Args:
            features_BDhw: of the image encoder, in the decoder's precision or another.
            condition_BD: of the instruction encoder.
        """
        dtype = self.mask_tokens.weight.dtype
        features_BDhw = features_BDhw.to(dtype)
        count, _, rows, columns = features_BDhw.shape
        tokens_B2D = torch.stack([self.mask_tokens.weight.expand(count, -1), condition_BD.to(dtype)], dim=1)
        positions = self.pe_layer(rows, columns).to(dtype).expand(count, -1, -1, -1)
        outputs: tuple[Tensor, Any] = self.transformer(
            point_embeddings=tokens_B2D[:, None],
            image_embeddings=features_BDhw,
            image_positional_embeddings=positions,
            attention_similarity=None,
        )
        tokens, image = outputs
        seen = image[:, 0].transpose(1, 2).reshape(features_BDhw.shape)
        upscaled = self.output_upscaling(seen)
        weights_BD = self.output_hypernetworks_mlps(tokens[:, 0, 0])
        return torch.einsum("bd,bdhw->bhw", weights_BD, upscaled)
