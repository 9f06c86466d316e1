"""Tiny, randomly initialised models of transformers, saved as their publishers save them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CLIP_SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}


def shake(model, spread: float) -> None:
    """Other weights than those of initialisation, with which answers hardly depend on anything."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, spread)


def save_clip_tokenizer(folder: Path, longest: int) -> None:
    """A byte-level BPE tokenizer without merges, with CLIP's conventions: begin, letters, end; end pads."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(letters)}
    vocabulary |= {"<|startoftext|>": len(letters), "<|endoftext|>": len(letters) + 1}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", len(letters)), ("<|endoftext|>", len(letters) + 1)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=longest,
    ).save_pretrained(folder)


def save_bert_tokenizer(folder: Path) -> None:
    """Letters as word pieces; the special signs have the ids that Grounding DINO has built in."""
    from transformers import BertTokenizer

    words = [f"[unused{i}]" for i in range(1100)]
    words[0], words[100], words[101], words[102], words[103] = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
    words[1012], words[1029] = ".", "?"
    for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz"):
        words[200 + i], words[300 + i] = letter, f"##{letter}"
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


@pytest.fixture(scope="session")
def clipseg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("zero-shot") / "tiny-clipseg"
    torch.manual_seed(0)
    config = transformers.CLIPSegConfig(
        text_config={
            **CLIP_SIZES, "vocab_size": 300, "max_position_embeddings": 40,
            "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257,
        },
        # As published: pictures are larger than those that the positions were made for.
        vision_config={**CLIP_SIZES, "image_size": 32, "patch_size": 16},
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )  # fmt: skip
    model = transformers.CLIPSegForImageSegmentation(config)
    shake(model, 0.2)
    model.save_pretrained(folder)
    save_clip_tokenizer(folder, 40)
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    ViTImageProcessorPil(
        size={"height": 64, "width": 64}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def grounded_sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Grounding DINO with a SAM 2 in its subfolder `sam2`."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("zero-shot") / "tiny-dino"
    torch.manual_seed(0)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
            out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(
            vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64,
        ),
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=10, max_text_len=48,
    )  # fmt: skip
    detector = transformers.GroundingDinoForObjectDetection(config)
    shake(detector, 0.2)
    with torch.no_grad():  # its scores are products of these with the text: not all of them 0 or 1
        detector.model.decoder.layer_norm.weight.fill_(0.05)
    detector.save_pretrained(folder)
    save_bert_tokenizer(folder)
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    sizes = {"hidden_size": 32}
    sam2 = transformers.Sam2Config(
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
        prompt_encoder_config={**sizes, "image_size": 64, "patch_size": 16},
        mask_decoder_config={**sizes, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    segmenter = transformers.Sam2Model(sam2)
    shake(segmenter, 0.2)
    segmenter.save_pretrained(folder / "sam2")
    return folder


@pytest.fixture(scope="session")
def sam3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("zero-shot") / "tiny-sam3"
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_layers": 1}
    config = transformers.Sam3Config(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": {
                "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32,
                "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14,
                "window_size": 2, "global_attn_indexes": [1], "pretrain_image_size": 28,
            },
            "fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config={
            "model_type": "clip_text_model", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 32,
            "projection_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 32, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 257,
        },
        geometry_encoder_config={**small, "roi_size": 2},
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )  # fmt: skip
    model = transformers.Sam3Model(config)
    shake(model, 0.2)
    model.save_pretrained(folder)
    save_clip_tokenizer(folder, 32)
    return folder


@pytest.fixture
def broken(tmp_path: Path):
    """broken(folder, **changes) -> a copy of a model's folder with values of its config.json changed."""
    import shutil

    def make(folder: Path, **changes: object) -> Path:
        copy = tmp_path / "broken"
        shutil.copytree(folder, copy)
        content = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(content | changes))
        return copy

    return make


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory: pytest.TempPathFactory):
    """tiny_bases(lmm, image) -> a configuration that names tiny base models on disk."""
    pytest.importorskip("peft")
    from ivm.models.tiny import write_tiny

    made: dict[tuple[str, str], dict] = {}

    def make(lmm: str = "llava", image: str = "sam"):
        from ivm.models.ivm import IVMConfig

        if (lmm, image) not in made:
            made[lmm, image] = write_tiny(tmp_path_factory.mktemp("tiny"), lmm, image).to_dict()
        return IVMConfig.from_dict(made[lmm, image])

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_bases):
    """tiny_model(lmm, image) -> a new IVMModel over tiny bases whose adapter does something, in eval mode."""
    import torch

    def make(lmm: str = "llava", image: str = "sam", **changes):
        from ivm.models.checkpoint import assemble, runner_of

        config = tiny_bases(lmm, image)
        for name, value in changes.items():
            setattr(config, name, value)
        torch.manual_seed(1)
        model = assemble(config, runner_of("cpu", None))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_B" in name or (name.startswith("mask_decoder") and value.ndim > 1):
                    value.normal_(0.0, 0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def tiny_folder(tiny_model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as training exports it."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def squares():
    """squares(count, side) -> uint8 tensor [count, 3, side, side] of noise in blocks."""
    import torch

    def make(count: int = 2, side: int = 64):
        generator = torch.Generator().manual_seed(3)
        blocks = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        return blocks.repeat_interleave(side // 8, 2).repeat_interleave(side // 8, 3)

    return make
