from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import ivm
from ivm.errors import OptionError
from ivm.models.pretrained import Runner, to_squares

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
TEXTS = ["a red cup", "dog"]


def answer_of_the_plain_model(folder: Path):
    """Scores [B, N] and mask logits [B, N, h, w] of transformers' model, one forward pass from pixels."""
    from transformers import AutoTokenizer, Sam3Model

    model = Sam3Model.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", max_length=32, return_tensors="pt"
    )
    pixels = to_squares([IMAGE] * 2, 56, [0.5] * 3, [0.5] * 3, Runner("cpu"))
    with torch.no_grad():
        answer = model(
            pixel_values=pixels, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
    return (
        answer.pred_logits.sigmoid() * answer.presence_logits.sigmoid()
    ).numpy(), answer.pred_masks.numpy()


@pytest.mark.parametrize("limit", [0.05, 0.25, 0.5])
def test_instances_are_fused_as_the_plain_model_gives_them(sam3_folder: Path, limit: float) -> None:
    scores, masks = answer_of_the_plain_model(sam3_folder)
    backend = ivm.load(sam3_folder, device="cpu", instance_threshold=limit).backend
    logits, found = backend.decode(backend.encode_images([IMAGE]) * 2, TEXTS)
    np.testing.assert_allclose(found, scores.max(axis=1), atol=1e-5)
    for row in range(2):
        kept = scores[row] >= limit
        kept[scores[row].argmax()] = True
        np.testing.assert_allclose(logits[row], masks[row][kept].max(axis=0), atol=1e-3)


def test_below_the_limit_the_best_instance_is_shown_and_not_found(sam3_folder: Path) -> None:
    strict, lenient = (
        ivm.load(sam3_folder, device="cpu", instance_threshold=limit)(IMAGE, "cup") for limit in (0.99, 0.01)
    )
    assert (strict.found, lenient.found) == (False, True)
    assert strict.score == pytest.approx(lenient.score)
    assert strict.values.max() > 0
    assert (lenient.values >= strict.values - 1e-6).all()


def test_the_published_folder_with_the_video_model_is_known(sam3_folder: Path, broken) -> None:
    copy = broken(sam3_folder)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({"model_type": "sam3_video", "detector_config": config}))
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    inside = {f"detector_model.{name}": value for name, value in weights.items()}
    save_file(
        {**inside, "tracker_model.x": torch.zeros(1)}, copy / "model.safetensors", metadata={"format": "pt"}
    )
    expected = ivm.load(sam3_folder, device="cpu")(IMAGE, "cup")
    np.testing.assert_allclose(ivm.load(copy, device="cpu")(IMAGE, "cup").values, expected.values, atol=1e-6)


def test_a_threshold_outside_its_range(sam3_folder: Path) -> None:
    with pytest.raises(OptionError, match=r"instance_threshold must be in \[0, 1\], but got 2"):
        ivm.load(sam3_folder, instance_threshold=2)
