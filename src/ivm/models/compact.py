"""The compact model: small enough to ship inside the package and to run on a CPU.

    picture -> convolutions to 1/8 -> transformer at 1/16 ------------+      (independent of the instruction)
      +-> EfficientNet-Lite0 (frozen up to 1/8) -> added to both      |
    instruction -> MiniLM (frozen, first layers) -> two own layers -+ |
                                                                    v v
                    mask token + picture tokens attend to the text tokens (fusion blocks)
                                                                    |
          mask token -> the weights of the last layer (a hypernetwork, as in SAM), and the found score
          picture tokens -> up to 1/4 with skip features from the convolutions -> logits
          text tokens -> votes for places ("left", "top") and for looks ("mug") -> added to them
          logits -> three figures of how hot they are -> added to the found score

This file is for training and export; `ivm.models.onnx` runs what it exports. The design is ours; the mask
token with a hypernetwork head is SAM's (Kirillov et al., 2023) and that of the paper's mask decoder.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivm.errors import OptionError
from ivm.models.compact_config import CompactConfig
from ivm.models.efficientnet_lite import CHANNELS as BACKBONE_CHANNELS
from ivm.models.efficientnet_lite import EfficientNetLite, efficientnet_lite0
from ivm.models.minilm import minilm_text_encoder

__all__ = [
    "IMAGE_PARTS",
    "Block",
    "CompactConfig",
    "CompactModel",
    "ConvBlock",
    "ImageFeatures",
    "fourier_positions",
    "frozen_parts",
    "initialise",
]

IMAGE_PARTS = frozenset(
    "conv2 conv4 block4 conv8 block8 conv16 position image_blocks image_norm skip8 skip4 "
    "deep seen8_norm seen8 seen16_norm seen16".split()
)
"""The modules that `CompactModel.encode_image` uses: frozen together, pictures cost no backward pass."""

_PLACE_WAVES = 6
"""Frequencies of the places that words vote for: half a wave to one and a half across the picture."""

_LOOKS = 128
"""Numbers that tell how a cell of the picture looks to the words that vote for looks."""

# What `encode_image` returns: tokens [B, h*w, D] at 1/16, maps [B, 96, H/8, W/8] and [B, 48, H/4, W/4].
ImageFeatures = tuple[Tensor, Tensor, Tensor]


class CompactModel(nn.Module):
    """Picture and instruction -> heatmap logits at 1/4 resolution and the logit that the target is there.

    The frozen parts are kept out of `state_dict()`: they never change and can be built again.

    Args:
        text_encoder: `minilm_text_encoder`; text_encoder(ids_BT, mask_BT) -> float [B, T, text_dim].
        text_dim: see there.
        backbone: of `config.backbone`: `efficientnet_lite0()`. What it does up to 1/8 stays frozen; its deep
            stages become a part of the model.
    """

    def __init__(
        self,
        config: CompactConfig,
        text_encoder: nn.Module,
        text_dim: int = 384,
        backbone: EfficientNetLite | None = None,
    ) -> None:
        super().__init__()
        if bool(config.backbone) != (backbone is not None):
            raise OptionError(f"backbone must be that of the config, {config.backbone!r}, but is {backbone}")
        self.config = config
        d = config.dim
        c2, c4, c8 = config.stem
        # In lists: no sub-modules.
        self._text_encoder = [text_encoder.eval().requires_grad_(False)]
        self._backbone = [] if backbone is None else [backbone.shallow.eval().requires_grad_(False)]

        self.conv2 = nn.Conv2d(3, c2, 3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(c2, c4, 3, stride=2, padding=1)
        self.block4 = ConvBlock(c4)
        self.conv8 = nn.Conv2d(c4, c8, 3, stride=2, padding=1)
        self.block8 = nn.Sequential(ConvBlock(c8), ConvBlock(c8))
        self.conv16 = nn.Conv2d(c8, d, 3, stride=2, padding=1)
        self.position = nn.Linear(64, d)
        self.image_blocks = nn.ModuleList(Block(d, config.heads) for _ in range(config.image_blocks))
        self.image_norm = nn.LayerNorm(d)

        self.text_project = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, d))
        self.text_blocks = nn.ModuleList(Block(d, config.heads) for _ in range(config.text_blocks))
        self.text_norm = nn.LayerNorm(d)

        self.mask_token = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.fusion_blocks = nn.ModuleList(
            Block(d, config.heads, cross=True) for _ in range(config.fusion_blocks)
        )
        self.fusion_norm = nn.LayerNorm(d)

        self.up8 = nn.Linear(d, 96)
        self.skip8 = nn.Conv2d(c8, 96, 1)
        self.mix8 = ConvBlock(96)
        self.up4 = nn.Conv2d(96, 48, 1)
        self.skip4 = nn.Conv2d(c4, 48, 1)
        self.mix4 = ConvBlock(48)
        self.norm4 = _LayerNorm2d(48)
        self.hyper = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 48 + 1))
        self.found = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, 1))
        if backbone is not None:
            at8, at16, at32 = BACKBONE_CHANNELS
            self.seen8_norm, self.seen8 = _LayerNorm2d(at8), nn.Conv2d(at8, c8, 1, bias=False)
            self.seen16_norm = nn.LayerNorm(at16 + at32)
            self.seen16 = nn.Linear(at16 + at32, 2 * d, bias=False)
        self.apply(initialise)
        if backbone is not None:  # after that: its weights are trained already
            self.deep = backbone.deep.requires_grad_(True)
        self.place = nn.Linear(d, 4 * _PLACE_WAVES, bias=False)
        self.looks = nn.Linear(d, _LOOKS)
        self.looks_like = nn.Linear(d, _LOOKS, bias=False)
        self.found_heat = nn.Linear(3, 1, bias=False)
        # No word is about a place or a look, and no heat says anything, until training says so.
        for added in (self.place, self.looks_like, self.found_heat):
            nn.init.zeros_(added.weight)
        head = self.hyper[2]
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            head.bias[-1] = -2.0  # most pixels are irrelevant: start there

    @property
    def text_encoder(self) -> nn.Module:
        """The frozen text encoder."""
        return self._text_encoder[0]

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """All that is no part of `state_dict()`."""
        return (*self._text_encoder, *self._backbone)

    def encode_image(self, images_B3HW: Tensor) -> ImageFeatures:
        """uint8 or float in [0, 255] [B, 3, H, W], H and W multiples of 16 -> features."""
        x = images_B3HW.to(self.conv2.weight.dtype) / 127.5 - 1.0
        x = x.contiguous(memory_format=torch.channels_last)
        seen8, before, after = self._see(x)
        x = F.gelu(self.conv2(x))
        x4 = self.block4(self.conv4(x))
        x8 = self.block8(self.conv8(F.gelu(x4))) + seen8
        x = self.conv16(F.gelu(x8))
        tokens = x.flatten(2).transpose(1, 2) + before + self._positions(x.shape[2], x.shape[3])
        for block in self.image_blocks:
            tokens = block(tokens)
        # The decoder's skip features are projected here: once a picture instead of once an instruction.
        return self.image_norm(tokens) + after, self.skip8(x8), self.skip4(x4)

    def _see(self, images_B3HW: Tensor) -> tuple[Tensor | float, ...]:
        """What the backbone adds to the maps at 1/8, and to the tokens before and after the blocks."""
        if not self._backbone:
            return 0.0, 0.0, 0.0
        with torch.no_grad():
            at8 = self._backbone[0](images_B3HW)
        # In bf16, CPU depthwise convolutions go backward at half the speed of float32.
        mixed = torch.is_autocast_enabled(at8.device.type) and at8.device.type != "cpu"
        with torch.autocast(at8.device.type, enabled=mixed):
            at16 = self.deep[:2](at8.to(self.conv2.weight.dtype))
            at32 = self.deep[2](at16)
        at32 = F.interpolate(at32, size=at16.shape[2:], mode="bilinear", align_corners=False)
        cells = torch.cat([at16, at32], dim=1).flatten(2).transpose(1, 2)
        before, after = self.seen16(self.seen16_norm(cells)).chunk(2, dim=2)
        return self.seen8(self.seen8_norm(at8)), before, after

    def encode_text(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """int64 ids and bool mask (True: a token) -> float [B, T, D]."""
        with torch.no_grad():
            raw = self.text_encoder(ids_BT, mask_BT)
        tokens = self.text_project(raw)
        for block in self.text_blocks:
            tokens = block(tokens, keep_BT=mask_BT)
        return self.text_norm(tokens)

    def decode(self, features: ImageFeatures, text_BTD: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Features and text of equal batch -> logits [B, H/4, W/4] and found logits [B]."""
        tokens, map8, map4 = features
        batch, count = tokens.shape[0], tokens.shape[1]
        h, w = map8.shape[2] // 2, map8.shape[3] // 2
        # The first text token summarises the instruction ([CLS]).
        query = self.mask_token.expand(batch, -1, -1) + text_BTD[:, :1]
        # In mixed precision the token alone is float32: it would drag all of them along.
        x = torch.cat([query.to(tokens.dtype), tokens + self._positions(h, w)], dim=1)
        for block in self.fusion_blocks:
            x = block(x, context_BTD=text_BTD, keep_BT=mask_BT)
        x = self.fusion_norm(x)
        token, x = x[:, 0], x[:, 1:]
        x = self.up8(x).transpose(1, 2).reshape(batch, -1, h, w)
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) + map8
        x = self.mix8(x)
        x = F.interpolate(self.up4(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = F.gelu(self.norm4(self.mix4(x + map4)))
        weights = self.hyper(token)
        # [B, 1, 48] x [B, 48, H/4 * W/4]: the token decides which mix of features is relevant.
        logits = weights[:, None, :-1] @ x.flatten(2) + weights[:, None, -1:]
        logits = logits + self._place(text_BTD, mask_BT, x.shape[2], x.shape[3])
        logits = logits.reshape(batch, x.shape[2], x.shape[3])
        looks = (self.looks(tokens) @ self._look(text_BTD, mask_BT)[:, :, None]).reshape(batch, 1, h, w)
        logits = logits + F.interpolate(looks, scale_factor=4.0, mode="bilinear", align_corners=False)[:, 0]
        assert count == h * w
        found = self.found(token) + self.found_heat(_heat_figures(logits).to(token.dtype))
        return logits, found[:, 0]

    def forward(
        self, images_B3HW: Tensor, ids_QT: Tensor, mask_QT: Tensor, image_Q: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Q instructions, each about picture `image_Q` (int64 [Q]): logits [Q, H/4, W/4] and [Q].

        Without `image_Q` each picture has one instruction, the one at its place.
        """
        return self.answer(self.encode_image(images_B3HW), ids_QT, mask_QT, image_Q)

    def answer(
        self, features: ImageFeatures, ids_QT: Tensor, mask_QT: Tensor, image_Q: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`forward` of pictures that `encode_image` has read."""
        text = self.encode_text(ids_QT, mask_QT)
        if image_Q is not None:
            tokens, map8, map4 = features
            features = (tokens[image_Q], map8[image_Q], map4[image_Q])
        return self.decode(features, text, mask_QT)

    def look(self, tokens_BND: Tensor, text_CTD: Tensor, mask_CT: Tensor) -> Tensor:
        """What the words alone say of each cell of each picture: logits [B, C, N] of C texts.

        The first way to what bears a name, and the shortest: no fusion block is on it. Ours.
        """
        return (self.looks(tokens_BND) @ self._look(text_CTD, mask_CT).T).transpose(1, 2)

    def _look(self, text_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """How that looks which the words mean, summed over them: [B, _LOOKS]."""
        return (self.looks_like(text_BTD) * mask_BT[:, :, None].to(text_BTD.dtype)).sum(dim=1)

    def _place(self, text_BTD: Tensor, mask_BT: Tensor, h: int, w: int) -> Tensor:
        """Where in the picture the words say it is, whatever is there: logits [B, 1, h*w].

        Each word votes for places. Ours: attention alone never told left from right, for its gradient is a
        product of what it has learnt of the word and of the place; this one needs neither to begin with.
        """
        votes = (self.place(text_BTD) * mask_BT[:, :, None].to(text_BTD.dtype)).sum(dim=1, keepdim=True)
        waves = fourier_positions(h, w, text_BTD.device, _PLACE_WAVES)
        # The waves first: quantisation takes a constant second factor for weights.
        return (waves.to(votes.dtype) @ votes.transpose(1, 2)).transpose(1, 2)

    def _positions(self, h: int, w: int) -> Tensor:
        waves = fourier_positions(h, w, self.position.weight.device)
        return self.position(waves.to(self.position.weight.dtype))


def _heat_figures(logits_BHW: Tensor) -> Tensor:
    """How hot a heatmap is, float [B, 3]: highest logit, mean of the highest 64th, log of the mean heat.

    Each as a quarter, to be of the order of 1. No gradient: what is found must not be drawn hotter. Ours.
    """
    flat = logits_BHW.detach().flatten(1).float()
    hottest = flat.topk(max(1, flat.shape[1] // 64), dim=1).values
    heat = flat.sigmoid().mean(dim=1)
    return torch.stack([hottest[:, 0], hottest.mean(dim=1), (heat + 1e-4).log()], dim=1) / 4.0


def fourier_positions(h: int, w: int, device: torch.device, count: int = 16) -> Tensor:
    """Sines and cosines of the cell centres in [-1, 1], the same place at any resolution: [1, h*w, 4*count].

    `count`: of the 16 frequencies, from half a wave to 16 waves a picture, the lowest so many.
    """
    frequencies = math.pi * 2.0 ** torch.linspace(-1, 4, 16, device=device)[:count]
    y = (torch.arange(h, device=device) + 0.5) / h * 2 - 1
    x = (torch.arange(w, device=device) + 0.5) / w * 2 - 1
    ay = (y[:, None] * frequencies)[:, None, :].expand(h, w, -1)
    ax = (x[:, None] * frequencies)[None, :, :].expand(h, w, -1)
    return torch.cat([ay.sin(), ay.cos(), ax.sin(), ax.cos()], dim=-1).reshape(1, h * w, 4 * count)


class _LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, H, W]: no dependence on the batch, cheap in channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvBlock(nn.Module):
    """Residual: norm, 3x3, GELU, 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _LayerNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(self.norm(x))))


class Block(nn.Module):
    """Pre-norm transformer block; with `cross`, it also attends to a context."""

    def __init__(self, dim: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.cross = cross
        if cross:
            self.norm_cross = nn.LayerNorm(dim)
            self.cross_q = nn.Linear(dim, dim)
            self.cross_kv = nn.Linear(dim, 2 * dim)
            self.cross_out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(
        self, x_BND: Tensor, context_BTD: Tensor | None = None, keep_BT: Tensor | None = None
    ) -> Tensor:
        x = x_BND
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.out(self._attend(q, k, v, None if context_BTD is not None else keep_BT))
        if context_BTD is not None:
            k, v = self.cross_kv(context_BTD).chunk(2, dim=-1)
            x = x + self.cross_out(self._attend(self.cross_q(self.norm_cross(x)), k, v, keep_BT))
        return x + self.mlp(self.norm2(x))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, keep_BT: Tensor | None) -> Tensor:
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        # Written out: on so short sequences CPU flash attention goes backward several times slower.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        if keep_BT is not None:
            scores = scores.masked_fill(~keep_BT[:, None, None, :], -1e4)
        return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def initialise(module: nn.Module) -> None:
    """Weights of one module at the start of training; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, ConvBlock):  # start as the identity
        nn.init.zeros_(module.conv2.weight)


def frozen_parts(config: CompactConfig) -> dict[str, Any]:
    """What a compact model stands on: `CompactModel(config, **frozen_parts(config))`.

    Raises:
        MissingExtraError: what carries them is not installed.
        CheckpointError: what it carries does not fit.
    """
    return {
        "text_encoder": minilm_text_encoder(config),
        "backbone": efficientnet_lite0() if config.backbone else None,
    }
