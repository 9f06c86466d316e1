"""The `tiny` preset: every part of the full-size model at a size that a test runs in milliseconds.

Its base models have random weights of a fixed seed, so that a folder that names them finds them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ivm.errors import OptionError
from ivm.models.ivm import IVMConfig
from ivm.models.lmm_families import FAMILIES
from ivm.models.pretrained import quiet

__all__ = ["TINY_IMAGES", "tiny_tokenizer", "write_tiny"]

TINY_IMAGES = ("sam", "sam2")
"""Image encoders that there are in tiny."""

_SIGNS = (
    "<s>", "</s>", "<pad>", "<image>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>",
    "<|im_end|>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
)  # fmt: skip
_TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 512,
}  # fmt: skip


def write_tiny(folder: Path, lmm: str = "llava", image: str = "sam", seed: int = 0) -> IVMConfig:
    """Write tiny base models to folder/lmm and folder/image, and return the configuration that names them.

    Args:
        folder: made if it is not there.
        lmm: a key of FAMILIES.
        image: one of TINY_IMAGES.
        seed: of the weights.

    Raises:
        OptionError: there is no such LMM or image encoder.
    """
    if lmm not in FAMILIES or image not in TINY_IMAGES:
        raise OptionError(f"tiny needs an LMM of {', '.join(FAMILIES)} and an image encoder of sam, sam2")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        language = _write_lmm(Path(folder) / "lmm", lmm)
        vision = _write_image(Path(folder) / "image", image)
    return IVMConfig(
        image_encoder=vision,
        lmm=language,
        image_base=str(Path(folder) / "image"),
        lmm_base=str(Path(folder) / "lmm"),
        lmm_side=64 if lmm == "qwen3_vl" else 0,
        lora_rank=2,
        lora_alpha=4.0,
        projection_dim=24,
        decoder_heads=2,
        decoder_mlp_dim=32,
        discriminator_dim=16,
    )


def _write_lmm(folder: Path, name: str) -> dict[str, Any]:
    import transformers

    tokenizer = tiny_tokenizer()
    ids = {sign: tokenizer.convert_tokens_to_ids(sign) for sign in _SIGNS}
    seen: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    pad: dict[str, Any] = {
        "pad_token_id": ids["<pad>"],
        "bos_token_id": ids["<s>"],
        "eos_token_id": ids["</s>"],
    }
    if name == "llava":
        config: Any = transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(**seen, image_size=28, patch_size=7),
            text_config=transformers.LlamaConfig(**_TEXT, **pad),
            image_token_index=ids["<image>"],
            image_seq_length=16,
        )
        model: Any = transformers.LlavaForConditionalGeneration(config)
    elif name == "smolvlm":
        config = transformers.SmolVLMConfig(
            vision_config={**seen, "image_size": 32, "patch_size": 8},
            text_config={"model_type": "llama", **_TEXT, **pad},
            image_token_id=ids["<image>"],
            scale_factor=2,
            **pad,
        )
        model = transformers.SmolVLMForConditionalGeneration(config)
    else:
        config = transformers.Qwen3VLConfig(
            vision_config={
                "depth": 3, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 8,
                "out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
            },
            text_config={**_TEXT, "head_dim": 16, "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            }},
            image_token_id=ids["<|image_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )  # fmt: skip
        model = transformers.Qwen3VLForConditionalGeneration(config)
    _shake(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    values: dict[str, Any] = model.config.to_dict()
    return values


def _write_image(folder: Path, name: str) -> dict[str, Any]:
    import transformers

    if name == "sam":
        sizes: dict[str, Any] = {"hidden_size": 16, "image_size": 64, "patch_size": 16}
        config: Any = transformers.SamConfig(
            vision_config={
                **sizes, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "mlp_dim": 32, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 8,
            },
            prompt_encoder_config=sizes,
            mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2},
        )  # fmt: skip
        model: Any = transformers.SamModel(config)
    else:
        config = transformers.Sam2Config(
            vision_config={
                "model_type": "sam2_vision_model",
                "backbone_config": {
                    "model_type": "sam2_hiera_det_model", "image_size": [64, 64], "hidden_size": 8,
                    "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                    "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4],
                    "global_attention_blocks": [3],
                },
                "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 32,
                "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            },
            prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
            mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2,
                                 "iou_head_hidden_dim": 16},
        )  # fmt: skip
        model = transformers.Sam2Model(config)
    _shake(model)
    model.save_pretrained(folder)
    values: dict[str, Any] = model.config.vision_config.to_dict()
    return values


def _shake(model: torch.nn.Module) -> None:
    """Larger weights than those of initialisation, with which answers hardly depend on anything."""
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.normal_(0.0, 0.2)


def tiny_tokenizer() -> Any:
    """Bytes, and the control signs of every family."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: i for i, sign in enumerate((*_SIGNS, *letters))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=list(_SIGNS[3:]),
    )
