"""What the script counts is what a model has, and what the page shows is what the script counts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from ivm.models.checkpoint import assemble, runner_of  # noqa: E402
from ivm.models.full import FullModel  # noqa: E402
from ivm.models.tiny import write_tiny  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("full_size_memory", ROOT / "runs" / "full_size_memory.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("lmm", "image"), [("llava", "sam"), ("qwen3_vl", "sam2"), ("smolvlm", "sam2")], ids=str
)
def test_it_counts_what_a_model_has_and_keeps(script, tmp_path, lmm, image):
    config = write_tiny(tmp_path, lmm, image)
    counted = script.memory(config)
    model = assemble(config, runner_of("cpu", "bfloat16"))
    positions = model.mask_decoder.pe_layer.positional_encoding_gaussian_matrix
    weights = sum(value.numel() * value.element_size() for value in model.parameters())
    assert counted["bfloat16"] == weights + 2 * positions.numel()
    assert counted["float32"] == 2 * counted["bfloat16"]
    backend = FullModel.of(model)
    (kept,) = backend.encode_images([np.zeros((40, 60, 3), np.uint8)])
    assert counted["features"] == kept.features.numel() * kept.features.element_size()
    held = sum(part.numel() * part.element_size() for layer in kept.prefix.layers for part in layer)
    prefix = len(model.instruction_encoder.tokens.prefix)
    assert counted["prefix"] * prefix == held * counted["tokens"]  # the rest is the template's
    assert counted["bfloat16"] > counted["8bit"] > counted["4bit"] > counted["offload"]


def test_the_page_shows_what_the_script_counts(script):
    page = (ROOT / "docs" / "full-size.md").read_text(encoding="utf-8")
    for line in filter(None, script.tables().splitlines()):
        if line.startswith("| `"):
            assert line in page, f"run  python runs/full_size_memory.py  and copy its tables: {line}"
