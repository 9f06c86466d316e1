"""The full-size presets: which base models, of which sizes, and what is between them.

The sizes of the base models stand here as their publishers give them, so that parameters can be counted and a
model laid out without a network; when a model is built, the base model's own configuration is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ivm.errors import OptionError
from ivm.models.ivm import IVMConfig, IVMModel

__all__ = ["FULL_PRESETS", "full_preset", "lay_out", "parameter_counts"]


def _sam_huge() -> dict[str, Any]:
    return {
        "model_type": "sam_vision_model", "hidden_size": 1280, "num_hidden_layers": 32,
        "num_attention_heads": 16, "global_attn_indexes": [7, 15, 23, 31], "mlp_dim": 5120,
    }  # fmt: skip


def _sam2(width: int, heads: int, blocks: list[int], everywhere: list[int], window: int) -> dict[str, Any]:
    widths = [width * 2**stage for stage in range(4)]
    return {
        "model_type": "sam2_vision_model",
        "backbone_channel_list": widths[::-1],
        "backbone_config": {
            "model_type": "sam2_hiera_det_model", "hidden_size": width, "num_attention_heads": heads,
            "blocks_per_stage": blocks, "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": [heads * 2**stage for stage in range(4)],
            "global_attention_blocks": everywhere,
            "window_positional_embedding_background_size": [window, window],
        },
    }  # fmt: skip


def _ivm_v1() -> IVMConfig:
    return IVMConfig(
        image_encoder=_sam_huge(),
        image_base="facebook/sam-vit-huge",
        lmm={
            "model_type": "llava", "image_seq_length": 576,
            "text_config": {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096,
                            "rms_norm_eps": 1e-5},
        },
        lmm_base="llava-hf/llava-1.5-7b-hf",
        upsampled=1024,
        threshold=0.1,
    )  # fmt: skip


def _ivm_qwen() -> IVMConfig:
    return IVMConfig(
        image_encoder=_sam2(112, 2, [2, 3, 16, 3], [12, 16, 20], 14),
        image_base="facebook/sam2.1-hiera-base-plus",
        lmm={
            "model_type": "qwen3_vl", "tie_word_embeddings": True,
            "text_config": {
                "model_type": "qwen3_vl_text", "hidden_size": 2048, "intermediate_size": 6144,
                "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
                "head_dim": 128, "max_position_embeddings": 262144,
                "rope_parameters": {"rope_type": "default", "rope_theta": 5000000,
                                    "mrope_section": [24, 20, 20], "mrope_interleaved": True},
            },
            "vision_config": {
                "model_type": "qwen3_vl_vision", "depth": 24, "hidden_size": 1024,
                "intermediate_size": 4096, "out_hidden_size": 2048, "deepstack_visual_indexes": [5, 11, 17],
            },
        },
        lmm_base="Qwen/Qwen3-VL-2B-Instruct",
    )  # fmt: skip


def _ivm_smolvlm() -> IVMConfig:
    return IVMConfig(
        image_encoder=_sam2(96, 1, [1, 2, 7, 2], [5, 7, 9], 7),
        image_base="facebook/sam2.1-hiera-tiny",
        lmm={
            "model_type": "smolvlm", "scale_factor": 4, "image_token_id": 49190,
            "text_config": {
                "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
                "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                "vocab_size": 49280, "max_position_embeddings": 8192, "pad_token_id": 2,
            },
            "vision_config": {
                "model_type": "smolvlm_vision", "hidden_size": 768, "intermediate_size": 3072,
                "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
            },
        },
        lmm_base="HuggingFaceTB/SmolVLM-256M-Instruct",
    )  # fmt: skip


FULL_PRESETS: Mapping[str, Callable[[], IVMConfig]] = MappingProxyType(
    {"ivm-v1": _ivm_v1, "ivm-qwen3-vl-2b-sam2": _ivm_qwen, "ivm-smolvlm-256m-sam2": _ivm_smolvlm}
)
"""ivm-v1 is the published model; the other two are ours, and nobody has trained them yet."""


def full_preset(name: str | Path) -> IVMConfig:
    """The configuration of a preset, or of a folder with the config.json of one.

    Raises:
        OptionError: there is neither.
    """
    if str(name) in FULL_PRESETS:
        return FULL_PRESETS[str(name)]()
    if (Path(name) / "config.json").is_file():
        made: IVMConfig = IVMConfig.from_pretrained(name, local_files_only=True)
        return made
    raise OptionError(
        f"preset must be one of {', '.join(FULL_PRESETS)}, or a folder with the config.json of a full-size "
        f"model, but is {str(name)!r}"
    )


def lay_out(config: IVMConfig) -> IVMModel:
    """A model without memory behind its weights (torch's meta device): to count and name them."""
    with torch.device("meta"):
        return IVMModel(config)


def parameter_counts(config: IVMConfig) -> dict[str, int]:
    """How many values each part of a model has: "image encoder", "LMM" (without language head), "trained".

    "trained" counts what a checkpoint holds: of ivm-v1 16,615,040, of which 256 are the frequencies of the
    positional encoding, which are kept but not learned.
    """
    model = lay_out(config)

    def size(module: nn.Module) -> int:
        return sum(value.numel() for name, value in module.named_parameters() if "lora_" not in name)

    state = model.state_dict()
    return {
        "image encoder": size(model.image_encoder),
        "LMM": size(model.instruction_encoder.backbone),
        "trained": sum(state[name].numel() for name in model.trained_names()),
    }
