"""The image encoder: SAM's ViT or SAM 2's Hiera, frozen, and the way from pictures to its pixels.

Pictures are squashed to a square as Pillow does it, bicubic with anti-aliasing, for that is what the
published model was trained on. On a GPU the same is two matrix products a picture size, for all pictures of
that size at once, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ivm.errors import ModelError

__all__ = ["IMAGENET", "IMAGE_ENCODERS", "ImageEncoder", "normalise", "squash"]

IMAGE_ENCODERS = {"sam_vision_model": "SamModel", "sam2_vision_model": "Sam2Model"}
"""model_type of the vision part -> class of transformers that it is a part of, as `vision_encoder`."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of pixels in [0, 1] that SAM and SAM 2 were trained with."""

_PRECISION = 1 << 22  # Pillow's weights are integers over this


def squash(images: Sequence[np.ndarray] | Tensor, side: int, device: torch.device) -> Tensor:
    """Pictures as squares, without padding or cropping: uint8 [B, 3, side, side] on `device`.

    Args:
        images: uint8 [H, W, 3] arrays of any sizes, or one uint8 tensor [B, 3, H, W].
        side: in pixels.
        device: where the result lies. On a CPU Pillow computes it, elsewhere two matrix products do.
    """
    if isinstance(images, Tensor):
        if images.shape[2:] == (side, side):
            return images.to(device)
        if device.type != "cpu":
            return _by_products(images.to(device), side)
        images = list(images.permute(0, 2, 3, 1).contiguous().numpy())
    if device.type == "cpu":
        squares = [np.asarray(Image.fromarray(one).resize((side, side))) for one in images]
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()
    return _in_groups(images, side, device)


def _in_groups(images: Sequence[np.ndarray], side: int, device: torch.device) -> Tensor:
    """All pictures of a size at once."""
    result = torch.empty(len(images), 3, side, side, dtype=torch.uint8, device=device)
    places: dict[tuple[int, ...], list[int]] = {}
    for place, one in enumerate(images):
        places.setdefault(one.shape, []).append(place)
    for same in places.values():
        stack = torch.from_numpy(np.stack([images[place] for place in same])).to(device)
        result[same] = _by_products(stack.permute(0, 3, 1, 2), side)
    return result


def normalise(
    pixels: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 [B, 3, H, W] -> (pixels / 255 - mean) / std, in `dtype`."""
    shape = (1, 3, 1, 1)
    mean_, std_ = (torch.tensor(list(values), device=pixels.device).view(shape) for values in (mean, std))
    return ((pixels.float() / 255.0 - mean_) / std_).to(dtype)


def _by_products(images_B3HW: Tensor, side: int) -> Tensor:
    """What Pillow computes, on any device: one axis after the other, with bytes between."""
    height, width = images_B3HW.shape[2:]
    # Integer weights times bytes pass float32's 24 bits; float64 is exact, and slow only on small GPUs.
    images = images_B3HW.double()
    across, down = (torch.from_numpy(_weights(size, side)).to(images.device) for size in (width, height))
    if side < height and 2 * width < height + side and _takes_columns_first():
        passes = (lambda x: down @ x, lambda x: x @ across.T)
    else:
        passes = (lambda x: x @ across.T, lambda x: down @ x)
    for one in passes:
        images = (one(images) + 0.5).floor().clamp(0, 255)
    return images.to(torch.uint8)


@lru_cache(maxsize=1)
def _takes_columns_first() -> bool:
    """Whether this version of Pillow begins with the columns of tall pictures, where that costs less."""
    tall = (np.arange(40 * 10, dtype=np.uint32) * 97 % 256).astype(np.uint8).reshape(40, 10)
    rows_first = tall.astype(np.float64)
    for one in (lambda x: x @ _weights(10, 16).T, lambda x: _weights(40, 16) @ x):
        rows_first = np.clip(np.floor(one(rows_first) + 0.5), 0, 255)
    return not np.array_equal(rows_first, np.asarray(Image.fromarray(tall).resize((16, 16))))


@lru_cache(maxsize=64)
def _weights(size: int, side: int) -> np.ndarray:
    """float64 [side, size]: Pillow's bicubic weights (a = -0.5, wider when it shrinks), as it rounds them."""
    scale = size / side
    widened = max(scale, 1.0)
    centres = (np.arange(side) + 0.5) * scale
    first = np.maximum((centres - 2.0 * widened + 0.5).astype(int), 0)[:, None]
    last = np.minimum((centres + 2.0 * widened + 0.5).astype(int), size)[:, None]
    places = np.arange(size)
    x = np.abs((places - centres[:, None] + 0.5) / widened)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    weights = np.where((places >= first) & (places < last), weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    rounded: np.ndarray = np.trunc(weights * _PRECISION + np.copysign(0.5, weights)) / _PRECISION
    return rounded


class ImageEncoder(nn.Module):
    """A frozen SAM or SAM 2 image encoder.

    Args:
        backbone: transformers' SamVisionEncoder or Sam2VisionModel.

    Attributes:
        side: of the square it sees, in pixels.
        channels: D of its features.

    Raises:
        ModelError: the backbone is of another kind.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        config: Any = backbone.config
        if config.model_type not in IMAGE_ENCODERS:
            raise ModelError(
                f"the image encoder must be one of {', '.join(IMAGE_ENCODERS)}, but is {config.model_type}"
            )
        self.backbone = backbone.requires_grad_(False)
        if config.model_type == "sam_vision_model":
            self.side, self.channels = int(config.image_size), int(config.output_channels)
        else:
            self.side = int(np.max(config.backbone_config.image_size))
            self.channels = int(config.fpn_hidden_size)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Features [B, D, h, w], with S / 16 rows and columns.

        Args:
            pixels_B3SS: uint8, of `squash`.
        """
        backbone: Any = self.backbone
        frozen = not any(value.requires_grad for value in backbone.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            answer = backbone(normalise(pixels_B3SS, *IMAGENET, dtype=backbone.dtype))
        if backbone.config.model_type == "sam_vision_model":
            features: Tensor = answer.last_hidden_state
        else:
            features = answer.fpn_hidden_states[-1]
        return features
