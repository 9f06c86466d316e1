"""What differs between the LMMs that can read instructions: image tokens, pixels, positions, templates.

Each is a row of one table. Templates of LLaVA-1.5 are those of the paper; the others have the template of
their own chats, and see the picture as one square, without tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ivm.errors import ModelError

__all__ = ["FAMILIES", "Family"]

_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Family:
    """One kind of LMM.

    Attributes:
        model: class of transformers, without a language head: its answer is not read.
        language: name of the language model inside of it.
        image_token: as text.
        template: what it reads; {image} and {instruction} stand for themselves.
        question: what follows the instruction for the discriminator.
        position: of the token that the generator reads, from the end.
        normal: mean and standard deviation of pixels in [0, 1].
        side: (config) -> side of the square picture it sees, where the caller has no wish.
        image_tokens: (config, side) -> how many tokens a picture is.
        image_text: (config, side) -> text that stands for the picture.
        pixels: (config, normalised pixels [B, 3, S, S]) -> arguments of the model.
        positions: (config, prefix ids [P], side, tokens after it) -> int64 [P + after] or [3, P + after].
    """

    model: str
    language: str
    image_token: str
    template: str
    question: str
    position: int
    normal: tuple[tuple[float, float, float], tuple[float, float, float]]
    side: Callable[[Any], int]
    image_tokens: Callable[[Any, int], int]
    image_text: Callable[[Any, int], str]
    pixels: Callable[[Any, Tensor], dict[str, Any]]
    positions: Callable[[Any, Tensor, int, int], Tensor]


def _patches(side: int, patch: int) -> int:
    if side % patch:
        raise ModelError(f"the LMM's picture must have a side that is a multiple of {patch}, but has {side}")
    return side // patch


def _fixed_side(config: Any) -> int:
    return int(config.vision_config.image_size)


def _plain_positions(config: Any, prefix: Tensor, side: int, after: int) -> Tensor:
    return torch.arange(len(prefix) + after)


def _llava_tokens(config: Any, side: int) -> int:
    # "full" keeps the class token beside those of the patches.
    extra = 1 if config.vision_feature_select_strategy == "full" else 0
    return (side // int(config.vision_config.patch_size)) ** 2 + extra


def _smol_tokens(config: Any, side: int) -> int:
    return (_patches(side, int(config.vision_config.patch_size)) // int(config.scale_factor)) ** 2


def _smol_text(config: Any, side: int) -> str:
    fake = "<fake_token_around_image>"
    return f"{fake}<global-img>{'<image>' * _smol_tokens(config, side)}{fake}"


def _qwen_cell(config: Any) -> int:
    return int(config.vision_config.patch_size) * int(config.vision_config.spatial_merge_size)


def _qwen_tokens(config: Any, side: int) -> int:
    return _patches(side, _qwen_cell(config)) ** 2


def _qwen_pixels(config: Any, pixels: Tensor) -> dict[str, Any]:
    """Patches in the order that the vision tower merges them in, each repeated over its frames."""
    vision = config.vision_config
    patch, merge, frames = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    count, channels, side = pixels.shape[:3]
    grid = side // patch
    cells = pixels.reshape(count, channels, grid // merge, merge, patch, grid // merge, merge, patch)
    cells = cells.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)  # [B, gh, gw, mh, mw, C, 1, ph, pw]
    cells = cells.expand(*cells.shape[:6], frames, patch, patch)
    grids = torch.tensor([[1, grid, grid]], device=pixels.device).expand(count, -1)
    return {"pixel_values": cells.reshape(count * grid * grid, -1), "image_grid_thw": grids}


def _qwen_positions(config: Any, prefix: Tensor, side: int, after: int) -> Tensor:
    """Time, row and column of each token (M-RoPE): text counts on from the larger side of the picture."""
    grid = side // _qwen_cell(config)
    before = int((prefix != config.image_token_id).sum())  # the image's tokens end the prefix
    lead = torch.arange(before).expand(3, -1)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    image = torch.stack([torch.zeros(grid * grid).long(), rows.flatten(), columns.flatten()]) + before
    return torch.cat([lead, image, (torch.arange(after) + before + grid).expand(3, -1)], dim=1)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llava": Family(
            model="LlavaModel",
            language="language_model",
            image_token="<image>",
            template="USER: {image}\n{instruction} \n ASSISTANT:",
            question=" \n Can you follow instruction above based on the given image?",
            position=-2,
            normal=_CLIP,
            side=_fixed_side,
            image_tokens=_llava_tokens,
            image_text=lambda config, side: "<image>" * _llava_tokens(config, side),
            pixels=lambda config, pixels: {"pixel_values": pixels},
            positions=_plain_positions,
        ),
        "qwen3_vl": Family(
            model="Qwen3VLModel",
            language="language_model",
            image_token="<|image_pad|>",
            template="<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{instruction}<|im_end|>\n"
            "<|im_start|>assistant\n",
            question="\nCan you follow instruction above based on the given image?",
            position=-1,
            normal=_HALF,
            side=lambda config: 16 * _qwen_cell(config),  # 256 tokens
            image_tokens=_qwen_tokens,
            image_text=lambda config, side: "<|image_pad|>" * _qwen_tokens(config, side),
            pixels=_qwen_pixels,
            positions=_qwen_positions,
        ),
        "smolvlm": Family(
            model="SmolVLMModel",
            language="text_model",
            image_token="<image>",
            template="<|im_start|>User:{image}{instruction}<end_of_utterance>\nAssistant:",
            question="\nCan you follow instruction above based on the given image?",
            position=-1,
            normal=_HALF,
            side=_fixed_side,
            image_tokens=_smol_tokens,
            image_text=_smol_text,
            pixels=lambda config, pixels: {"pixel_values": pixels[:, None]},
            positions=_plain_positions,
        ),
    }
)
"""By the model_type of the LMM's config.json."""
