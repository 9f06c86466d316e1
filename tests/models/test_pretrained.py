"""What holds for every model of transformers, shown on each zero-shot masker with tiny random weights."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import ivm
from ivm.errors import CheckpointError, InstructionError, MissingExtraError, ModelError, OptionError
from ivm.models.pretrained import Runner, to_squares
from ivm.types import Masking

FOLDERS = ("clipseg_folder", "grounded_sam_folder", "sam3_folder")
TEXTS = ["a red cup", "dog", "a red cup and a dog"]


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((50, 80), (70, 60))]


def test_a_folder_becomes_a_masker(folder: Path, images: list[np.ndarray], tmp_path: Path) -> None:
    masker = ivm.load(folder, device="cpu", threads=1)
    assert isinstance(masker, Masking)
    assert masker.name == folder.name
    heatmap = masker(images[0], TEXTS[0])
    assert heatmap.values.shape == images[0].shape[:2]
    assert heatmap.values.std() > 1e-3
    assert heatmap.found == (heatmap.score >= masker.backend.found_threshold)
    assert heatmap.threshold == masker.threshold
    # The same picture in every form.
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    content = io.BytesIO()
    Image.fromarray(images[0]).save(content, format="PNG")
    for form in (tmp_path / "a.png", content.getvalue(), Image.fromarray(images[0])):
        np.testing.assert_allclose(masker(form, TEXTS[0]).values, heatmap.values, atol=1e-6)


def test_a_batch_is_what_its_pairs_are_alone(folder: Path, images: list[np.ndarray]) -> None:
    masker = ivm.load(str(folder), device="cpu")
    pairs = [(image, text) for text in TEXTS for image in images]  # images alternate
    alone = [masker(image, text) for image, text in pairs]
    together = masker.batch([image for image, _ in pairs], [text for _, text in pairs], batch_size=4)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=2e-5)
        assert one.score == pytest.approx(other.score, abs=1e-5)
    # The text matters, and so does the image.
    assert np.abs(alone[0].values - alone[2].values).max() > 1e-4
    assert alone[0].score != pytest.approx(alone[1].score, abs=1e-6)


def count_calls(module: torch.nn.Module) -> list[int]:
    """The batch sizes that a module is called with, from now on."""
    sizes: list[int] = []
    module.register_forward_pre_hook(
        lambda _, given, named: sizes.append(len(given[0] if given else named["pixel_values"])),
        with_kwargs=True,
    )
    return sizes


def image_encoders(masker: ivm.Masker) -> list[torch.nn.Module]:
    backend = masker.backend
    if hasattr(backend, "_detector"):
        return [backend._detector.model.backbone.backbone, backend._segmenter.vision_encoder]
    model = backend._model
    return [model.clip.vision_model if hasattr(model, "clip") else model.vision_encoder]


def test_an_image_is_encoded_once_for_many_instructions(folder: Path, images: list[np.ndarray]) -> None:
    masker = ivm.load(folder, device="cpu")
    seen = [count_calls(encoder) for encoder in image_encoders(masker)]
    many = masker.batch([images[0]], [f"cup {i}" for i in range(20)], batch_size=8)
    assert len(many) == 20
    assert [sum(sizes) for sizes in seen] == [1] * len(seen)
    features = masker.encode_image(images[0])
    again = masker.batch([features], ["cup 3", "cup 19"])
    assert [sum(sizes) for sizes in seen] == [2] * len(seen)
    np.testing.assert_allclose(again[0].values, many[3].values, atol=2e-5)
    np.testing.assert_allclose(again[1].values, many[19].values, atol=2e-5)


def test_many_instructions_are_never_decoded_at_once(folder: Path, images: list[np.ndarray]) -> None:
    masker = ivm.load(folder, device="cpu")
    texts: list[int] = []
    backend = masker.backend
    model = backend._detector if hasattr(backend, "_detector") else backend._model
    original = model.forward
    if hasattr(model, "clip"):
        model.decoder.register_forward_pre_hook(lambda _, given: texts.append(len(given[1])))
    else:
        model.forward = lambda **given: texts.append(len(given["input_ids"])) or original(**given)
    masker.batch([images[0]], [f"cup {i}" for i in range(21)], batch_size=8)
    assert texts == [8, 8, 5]


def test_features_do_not_hold_their_batch(folder: Path, images: list[np.ndarray]) -> None:
    def held(value: object) -> int:
        if isinstance(value, torch.Tensor):
            return value.untyped_storage().nbytes()
        if isinstance(value, list | tuple):
            return sum(held(entry) for entry in value)
        return sum(held(entry) for entry in vars(value).values()) if hasattr(value, "__dict__") else 0

    backend = ivm.load(folder, device="cpu").backend
    alone, among_others = backend.encode_images(images[:1])[0], backend.encode_images(images[:1] * 6)[0]
    assert held(among_others) == held(alone) > 0


def test_nothing_in_nothing_out(folder: Path) -> None:
    masker = ivm.load(folder, device="cpu")
    assert masker.batch([], []) == []
    assert masker.backend.encode_images([]) == []
    logits, found = masker.backend.decode([], [])
    assert (len(logits), len(found)) == (0, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_halves_are_near(folder: Path, images: list[np.ndarray], dtype: str) -> None:
    whole = ivm.load(folder, device="cpu")(images[0], TEXTS[0])
    half = ivm.load(folder, device="cpu", dtype=dtype)
    assert image_encoders(half)[0].parameters().__next__().dtype == getattr(torch, dtype)
    near = half(images[0], TEXTS[0])
    assert near.values.dtype == np.float32
    assert near.score == pytest.approx(whole.score, abs=0.05)


def test_an_instruction_that_is_too_long_is_not_cut(folder: Path, images: list[np.ndarray]) -> None:
    masker = ivm.load(folder, device="cpu")
    with pytest.raises(
        InstructionError, match=r"must be at most \d+ tokens for this model, but has \d+: name"
    ):
        masker(images[0], "the cup beside the dog " * 5)


def test_a_wrong_option_names_the_right_ones(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"has no option prompt: it has (box_threshold, )?dtype"):
        ivm.load(folder, prompt="cup")
    with pytest.raises(OptionError, match=r"dtype must be one of auto, float32, .* but got 'int8'"):
        ivm.load(folder, dtype="int8")


def test_a_gpu_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="device cuda needs a CUDA GPU"):
        ivm.load(folder, device="cuda")


@pytest.mark.parametrize("module", ["torch", "transformers"])
def test_an_absent_library_is_the_command(folder: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("importlib.import_module", absent(module))
    with pytest.raises(MissingExtraError, match=r"pip install 'ivm\[full\]'"):
        Runner()


def absent(name: str):
    import importlib

    original = importlib.import_module

    def import_module(wanted: str, package: str | None = None):
        if wanted == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(wanted, package)

    return import_module


def test_torchvision_is_never_imported(folder: Path, images: list[np.ndarray], monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it fails
    ivm.load(folder, device="cpu")(images[0], "cup")


def test_weights_that_do_not_fit_are_named(folder: Path, broken) -> None:
    name = {"tiny-clipseg": "reduce_dim", "tiny-dino": "num_queries", "tiny-sam3": "detr_decoder_config"}
    changes = {
        "reduce_dim": 12,
        "num_queries": 12,
        "detr_decoder_config": {"num_queries": 12, "hidden_size": 32},
    }
    key = name[folder.name]
    with pytest.raises(CheckpointError, match=r"the weights in .* (lack|have another shape)"):
        ivm.load(broken(folder, **{key: changes[key]}), device="cpu")


def test_missing_weights_are_named(folder: Path, broken) -> None:
    from safetensors.torch import load_file, save_file

    copy = broken(folder)
    weights = load_file(copy / "model.safetensors")
    gone = sorted(
        name for name in weights if name.endswith("layer_norm1.weight") or "decoder.layers.0" in name
    )[0]
    del weights[gone]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"the weights in .* lack "):
        ivm.load(copy, device="cpu")


def test_damaged_weights(folder: Path, broken) -> None:
    copy = broken(folder)
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded as"):
        ivm.load(copy, device="cpu")


def test_pickles_are_not_read(folder: Path, broken) -> None:
    copy = broken(folder)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"must hold the weights as model.safetensors.*a pickled .bin is not read"
    ):
        ivm.load(copy, device="cpu")


def test_a_missing_tokenizer(folder: Path, broken) -> None:
    copy = broken(folder)
    for file in copy.glob("*"):
        if file.is_file() and file.name not in {
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
        }:
            file.unlink()
    with pytest.raises(CheckpointError, match=r"must hold a tokenizer, but has neither tokenizer.json nor"):
        ivm.load(copy, device="cpu")


def test_a_damaged_tokenizer(folder: Path, broken) -> None:
    copy = broken(folder)
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"the tokenizer in .* cannot be loaded"):
        ivm.load(copy, device="cpu")


@pytest.mark.parametrize("model", ["clipseg_folder", "grounded_sam_folder"])
def test_a_missing_image_processor(model: str, broken, request: pytest.FixtureRequest) -> None:
    copy = broken(request.getfixturevalue(model))
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json\) cannot be loaded"):
        ivm.load(copy, device="cpu")


def test_threads_hold_only_while_the_model_computes() -> None:
    before = torch.get_num_threads()
    with Runner("cpu", threads=before + 1)():
        assert torch.get_num_threads() == before + 1
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == before


def test_a_full_gpu_says_what_helps() -> None:
    with (
        pytest.raises(ModelError, match="smaller batch_size, dtype='bfloat16' or device='cpu'"),
        Runner("cpu")(),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_squares_are_normalised_images(images: list[np.ndarray]) -> None:
    squares = to_squares(images, 32, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), Runner("cpu"))
    assert squares.shape == (2, 3, 32, 32)
    flat = [np.full((7, 9, 3), 51, np.uint8)]
    grey = to_squares(flat, 4, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), Runner("cpu"))[0, :, 0, 0]
    np.testing.assert_allclose(grey, [-3.0, -1.0, -1 / 3], atol=1e-5)
