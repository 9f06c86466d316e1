"""The benchmark's two ways compute the same, so that their times can be compared."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from ivm.masker import Masker  # noqa: E402
from ivm.models.full import FullModel  # noqa: E402
from ivm.models.tiny import write_tiny  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).resolve().parents[2] / "runs" / "bench_full_size.py"
    spec = importlib.util.spec_from_file_location("bench_full_size", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_ways_give_the_same_heatmaps(bench, tmp_path):
    model = bench.build("tiny", CPU, torch.float32, tmp_path)
    images = bench.photos(8, 60, 90)
    ours = Masker(FullModel.of(model)).batch(images, bench.INSTRUCTIONS)
    theirs = bench.by_the_reference(model, images, bench.INSTRUCTIONS)
    for one, other in zip(ours, theirs, strict=True):
        # One bilinear step of ours against two, for tiny has no square to go by.
        np.testing.assert_allclose(one.values, other, atol=0.05)
    assert len({image.tobytes() for image in images}) == 8


@pytest.mark.parametrize("lmm", ["llava", "qwen3_vl", "smolvlm"])
def test_a_model_without_published_weights_is_built_in_half_precision(bench, monkeypatch, tmp_path, lmm):
    config = write_tiny(tmp_path, lmm)
    monkeypatch.setattr(bench, "full_preset", lambda name: config)
    model = bench.build("ivm-v1", CPU, torch.bfloat16, tmp_path)
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    heatmap = Masker(FullModel.of(model))(bench.photos(1, 60, 90)[0], "the red cup")
    assert heatmap.values.shape == (60, 90)


def test_tiny_runs_through_and_a_missing_gpu_is_told(bench, tmp_path, capsys):
    assert bench.main(["--preset", "tiny", "--repeats", "1", "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["many"]["ratio"] > 0
    assert report["batch"]["limit"] == 2.0
    if not torch.cuda.is_available():
        assert bench.main([]) == 0
        assert "skipped: ivm-v1 is measured on a CUDA GPU" in capsys.readouterr().out
