from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import ivm

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
TEXTS = ["a red cup", "dog", "the table behind the dog"]


def test_logits_are_those_of_transformers_own_processor_and_model(clipseg_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPSegForImageSegmentation
    from transformers.models.clipseg.processing_clipseg import CLIPSegProcessor
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor = CLIPSegProcessor(
        ViTImageProcessorPil.from_pretrained(clipseg_folder), AutoTokenizer.from_pretrained(clipseg_folder)
    )
    model = CLIPSegForImageSegmentation.from_pretrained(clipseg_folder).eval()
    inputs = processor(text=TEXTS, images=[IMAGE] * 3, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**inputs).logits.numpy()

    backend = ivm.load(clipseg_folder, device="cpu").backend
    ours, found = backend.decode(backend.encode_images([IMAGE]) * 3, TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert theirs.std() > 0.05, "the comparison says something"
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-theirs.max(axis=(1, 2)))), atol=1e-5)


def test_the_published_image_processor_is_of_an_older_form(clipseg_folder: Path, broken) -> None:
    import json

    copy = broken(clipseg_folder)
    content = {
        "feature_extractor_type": "ViTFeatureExtractor", "do_normalize": True, "do_resize": True,
        "resample": 2, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": 64,
    }  # fmt: skip
    (copy / "preprocessor_config.json").write_text(json.dumps(content))
    old, new = (ivm.load(folder, device="cpu")(IMAGE, "cup").values for folder in (copy, clipseg_folder))
    np.testing.assert_array_equal(old, new)


def test_what_nothing_lights_up_for_is_not_found(clipseg_folder: Path) -> None:
    masker = ivm.load(clipseg_folder, device="cpu")
    assert masker(IMAGE, "cup").found
    with torch.no_grad():
        masker.backend._model.decoder.transposed_convolution[-1].bias.fill_(-6.0)
    heatmap = masker(IMAGE, "cup")
    assert not heatmap.found
    assert heatmap.score < 0.3
    assert heatmap.values.max() == pytest.approx(heatmap.score, abs=0.02)
