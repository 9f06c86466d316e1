from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import ivm
from ivm.errors import CheckpointError, ModelError, OptionError
from ivm.models import grounded_sam
from ivm.models.pretrained import Runner, to_squares

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def boxes_of_the_plain_model(folder: Path, text: str, limit: float):
    """Boxes (shares of the image) and scores by transformers' own processor, one forward pass from pixels."""
    from transformers import AutoTokenizer, GroundingDinoForObjectDetection
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )
    from transformers.models.grounding_dino.processing_grounding_dino import GroundingDinoProcessor

    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    )
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=IMAGE, text=[[text]], return_tensors="pt")
    with torch.no_grad():
        answer = model(**inputs)
    found = processor.post_process_grounded_object_detection(answer, threshold=limit)[0]
    return found["boxes"], found["scores"]


def masks_of_the_plain_model(folder: Path, boxes: torch.Tensor) -> torch.Tensor:
    from transformers import Sam2Model

    model = Sam2Model.from_pretrained(folder).eval()
    pixels = to_squares([IMAGE], 64, MEAN, STD, Runner("cpu"))
    with torch.no_grad():
        return model(pixel_values=pixels, input_boxes=boxes[None] * 64, multimask_output=False).pred_masks[
            0, :, 0
        ]


def test_boxes_and_masks_are_those_of_the_plain_models(grounded_sam_folder: Path) -> None:
    limit = 0.3
    boxes, scores = boxes_of_the_plain_model(grounded_sam_folder, "A red cup", limit)
    assert len(boxes) >= 2
    masks = masks_of_the_plain_model(grounded_sam_folder / "sam2", boxes.clamp(0, 1))
    backend = ivm.load(grounded_sam_folder, device="cpu", box_threshold=limit).backend
    logits, found = backend.decode(backend.encode_images([IMAGE]), ["A red cup"])
    assert found[0] == pytest.approx(scores.max().item(), abs=1e-5)
    np.testing.assert_allclose(logits[0], masks.amax(dim=0).numpy(), atol=1e-3)


def test_boxes_in_parts_are_boxes_at_once(grounded_sam_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masker = ivm.load(grounded_sam_folder, device="cpu", box_threshold=0.0)  # all ten boxes
    at_once = masker(IMAGE, "cup").values
    monkeypatch.setattr(grounded_sam, "_BOXES_AT_ONCE", 3)
    sizes = []
    masker.backend._segmenter.mask_decoder.register_forward_pre_hook(
        lambda _, given, named: sizes.append(named["sparse_prompt_embeddings"].shape[1]), with_kwargs=True
    )
    np.testing.assert_allclose(masker(IMAGE, "cup").values, at_once, atol=1e-5)
    assert sizes == [3, 3, 3, 1]


def test_without_a_box_above_the_threshold_nothing_is_found(grounded_sam_folder: Path) -> None:
    boxes, scores = boxes_of_the_plain_model(grounded_sam_folder, "cup", 0.0)
    best = boxes[scores.argmax()][None].clamp(0, 1)
    backend = ivm.load(grounded_sam_folder, device="cpu", box_threshold=0.999).backend
    logits, found = backend.decode(backend.encode_images([IMAGE]), ["cup"])
    assert found[0] < backend.found_threshold
    expected = masks_of_the_plain_model(grounded_sam_folder / "sam2", best)[0]  # the best guess is shown
    np.testing.assert_allclose(logits[0], expected.numpy(), atol=1e-3)
    assert not ivm.load(grounded_sam_folder, device="cpu", box_threshold=0.999)(IMAGE, "cup").found


def test_case_and_the_final_full_stop_do_not_matter(grounded_sam_folder: Path) -> None:
    masker = ivm.load(grounded_sam_folder, device="cpu")
    first, *others = masker.batch([IMAGE], ["red cup", "Red cup.", "RED CUP . "])
    for other in others:
        np.testing.assert_allclose(other.values, first.values, atol=1e-5)


def test_sam_2_may_lie_elsewhere(grounded_sam_folder: Path, broken, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = broken(grounded_sam_folder)
    elsewhere = Path(shutil.move(apart / "sam2", apart.with_name("segmenter")))
    expected = ivm.load(grounded_sam_folder, device="cpu")(IMAGE, "cup").values
    np.testing.assert_array_equal(
        ivm.load(apart, device="cpu", segmenter=elsewhere)(IMAGE, "cup").values, expected
    )
    # From nowhere: the part of the preset.
    asked = []
    monkeypatch.setattr(grounded_sam, "fetch", lambda *part: asked.append(part) or elsewhere)
    np.testing.assert_array_equal(ivm.load(apart, device="cpu")(IMAGE, "cup").values, expected)
    assert asked == [("facebook/sam2.1-hiera-small", "main")]


def test_the_published_segmenter_comes_with_its_video_model(
    grounded_sam_folder: Path, tmp_path: Path
) -> None:
    from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

    image_model = Sam2Model.from_pretrained(grounded_sam_folder / "sam2")
    parts = {
        name: image_model.config.to_dict()[name]
        for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    }
    small = dict.fromkeys(
        (
            "memory_attention_hidden_size memory_attention_feed_forward_hidden_size "
            "memory_encoder_hidden_size mask_downsampler_embed_dim memory_fuser_embed_dim "
            "memory_fuser_intermediate_dim"
        ).split(),
        32,
    )
    one = dict.fromkeys(
        "memory_attention_num_layers memory_attention_num_attention_heads memory_fuser_num_layers".split(), 1
    )
    config = Sam2VideoConfig(**parts, image_size=64, memory_encoder_output_channels=16, **small, **one)
    video = Sam2VideoModel(config)
    assert video.load_state_dict(image_model.state_dict(), strict=False).unexpected_keys == []
    video.save_pretrained(tmp_path)
    heatmaps = [
        ivm.load(grounded_sam_folder, device="cpu", segmenter=folder)(IMAGE, "cup").values
        for folder in (None, tmp_path)
    ]
    np.testing.assert_array_equal(*heatmaps)


def test_a_segmenter_that_is_none(grounded_sam_folder: Path, clipseg_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="segmenter must be the folder of a SAM 2 model"):
        ivm.load(grounded_sam_folder, device="cpu", segmenter=tmp_path)
    with pytest.raises(ModelError):
        ivm.load(grounded_sam_folder, device="cpu", segmenter=clipseg_folder)


def test_a_threshold_outside_its_range(grounded_sam_folder: Path) -> None:
    with pytest.raises(OptionError, match=r"box_threshold must be in \[0, 1\], but got -1"):
        ivm.load(grounded_sam_folder, box_threshold=-1)
