"""The exported folder on ONNX Runtime against the torch model it came from."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from ivm.errors import CheckpointError, ModelError, OptionError  # noqa: E402
from ivm.models.guided_filter import guided_filter, make_guide  # noqa: E402
from ivm.models.onnx import CompactRuntime, shift_logits  # noqa: E402


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_runtime_agrees_with_torch_on_any_batch(exported, tiny_compact, tiny_tokenizer):
    runtime = CompactRuntime(exported, device="cpu", threads=1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    texts = ["dog", "the red cup on the left", "where is the zebra ?"]
    features = runtime.encode_images(images)
    logits, found = runtime.answer(features, texts)
    encoded = tiny_tokenizer.encode_batch(texts)
    tiny_compact.eval()
    with torch.no_grad():
        want, want_found = tiny_compact(
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
            torch.tensor([e.ids for e in encoded]),
            torch.tensor([e.attention_mask for e in encoded]).bool(),
            torch.arange(3),
        )
    np.testing.assert_allclose(logits, want.numpy(), atol=1e-4)
    np.testing.assert_allclose(found, want_found.numpy(), atol=1e-4)
    fine, score = runtime.decode(features, texts)
    np.testing.assert_allclose(score, want_found.sigmoid().numpy(), atol=1e-4)
    for answer, coarse, image in zip(fine, logits, images, strict=True):
        np.testing.assert_allclose(answer, guided_filter(coarse, make_guide(image, 48)), atol=1e-5)
    one, _ = runtime.decode(features[1:2], texts[1:2])
    np.testing.assert_allclose(one[0], fine[1], atol=1e-3)
    none, no_score = runtime.decode([], [])
    assert none.shape == (0, 48, 48)
    assert no_score.shape == (0,)


@pytest.mark.filterwarnings("ignore")
def test_pictures_of_any_size_are_squashed(exported):
    runtime = CompactRuntime(exported, device="cpu", threads=1)
    grey = [np.full(shape, 77, np.uint8) for shape in ((10, 300, 3), (500, 20, 3), (64, 64, 3))]
    features = runtime.encode_images(grey)
    for feature in features[1:]:
        np.testing.assert_allclose(feature.tokens, features[0].tokens, atol=1e-5)


def with_config(folder, copy, **changes):
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    content = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps(content))
    return copy


@pytest.mark.filterwarnings("ignore")
def test_the_found_score_is_scaled_as_the_folder_says(exported, tmp_path):
    plain = CompactRuntime(exported, device="cpu", threads=1)
    scaled = CompactRuntime(
        with_config(exported, tmp_path / "copy", found_scale=2.0, found_shift=-1.0), device="cpu", threads=1
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    features, texts = plain.encode_images([image]) * 2, ["dog", "the red cup"]
    logits, before = plain.decode(features, texts)
    same, after = scaled.decode(features, texts)
    np.testing.assert_array_equal(same, logits)
    odds = np.log(before / (1 - before))
    np.testing.assert_allclose(after, 1 / (1 + np.exp(1.0 - 2.0 * odds)), atol=1e-5)
    assert after.dtype == np.float32
    with pytest.raises(CheckpointError, match="found_scale must be above 0"):
        CompactRuntime(with_config(exported, tmp_path / "copy", found_scale=-1.0), device="cpu")


@pytest.mark.filterwarnings("ignore")
def test_a_heatmap_is_shifted_by_how_hot_it_gets(exported, tmp_path):
    plain = CompactRuntime(exported, device="cpu", threads=1)
    shifted = CompactRuntime(
        with_config(exported, tmp_path / "copy", logit_slope=0.5, logit_middle=2.0), device="cpu", threads=1
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    features, texts = plain.encode_images([image]) * 2, ["dog", "the red cup"]
    coarse, _ = plain.answer(features, texts)
    _, score = plain.decode(features, texts)
    after, same = shifted.decode(features, texts)
    np.testing.assert_array_equal(same, score)
    for one, two in zip(coarse, after, strict=True):
        by_hand = guided_filter(one + np.float32(0.5 * (2.0 - one.max())), features[0].guide)
        np.testing.assert_allclose(two, by_hand, atol=1e-5)
    assert after.dtype == np.float32
    for slope in (1.0, -0.1):
        with pytest.raises(CheckpointError, match="logit_slope must be at least 0 and below 1"):
            CompactRuntime(with_config(exported, tmp_path / "copy", logit_slope=slope), device="cpu")
    wrong = with_config(exported, tmp_path / "copy", logit_slope=0.5, logit_middle=float("inf"))
    with pytest.raises(CheckpointError, match="logit_middle must be finite"):
        CompactRuntime(wrong, device="cpu")


def test_shifted_heatmaps_lie_nearer_each_other_and_keep_their_order():
    logits = np.random.default_rng(0).normal(0, 3, (5, 8, 8)).astype(np.float32)
    shifted = shift_logits(logits, 0.25, 4.0)
    assert shifted.max(axis=(1, 2)) == pytest.approx(0.75 * logits.max(axis=(1, 2)) + 1.0, abs=1e-5)
    for before, after in zip(logits, shifted, strict=True):
        np.testing.assert_array_equal(before.ravel().argsort(), after.ravel().argsort())
    np.testing.assert_array_equal(shift_logits(logits, 0.0, 4.0), logits)


def test_wrong_folders_say_what_is_wrong(exported, tmp_path):
    with pytest.raises(ModelError, match=r"lacks config\.json"):
        CompactRuntime(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    (copy / "config.json").write_text('{"kind": "full"}')
    with pytest.raises(CheckpointError, match=r"config\.json"):
        CompactRuntime(copy)
    shutil.copy(exported / "config.json", copy)
    (copy / "image.onnx").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"image\.onnx cannot be loaded"):
        CompactRuntime(copy, device="cpu").encode_images([np.zeros((4, 4, 3), np.uint8)])
    with pytest.raises(OptionError, match="device must be"):
        CompactRuntime(exported, device="tpu")
    runtime = CompactRuntime(exported, device="cpu", threads=1)
    with pytest.raises(OptionError, match="as many features"):
        runtime.decode([], ["dog"])


@pytest.mark.filterwarnings("ignore")
def test_the_caller_computes_with_small_numbers_as_before(exported):
    """Denormals are 0 inside, for speed, and nowhere else."""
    small = np.full(8, 1e-40, np.float32)
    runtime = CompactRuntime(exported, device="cpu", threads=1)
    runtime.decode(runtime.encode_images([np.zeros((64, 64, 3), np.uint8)]), ["dog"])
    assert (small * np.float32(1) == small).all()


@pytest.mark.filterwarnings("ignore")
def test_it_runs_where_the_c_library_cannot_keep_the_state(exported, monkeypatch):
    from ivm.models import onnx

    image = [np.zeros((64, 64, 3), np.uint8)]
    usual = CompactRuntime(exported, device="cpu", threads=1)
    monkeypatch.setattr(onnx, "_fenv", lambda: None)
    other = CompactRuntime(exported, device="cpu", threads=1)
    small = np.full(8, 1e-40, np.float32)
    a, b = (runtime.decode(runtime.encode_images(image), ["dog"])[0] for runtime in (usual, other))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert (small * np.float32(1) == small).all()
