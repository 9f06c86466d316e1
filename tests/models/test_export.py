"""Quantised graphs against the float ones they come from."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import ivm
from ivm.errors import ModelError, OutputError
from ivm.models import export
from ivm.models.export import Parity, export_compact, measure_parity, quantise_graph
from ivm.models.onnx import CompactRuntime


def test_the_folder_is_whole_and_holds_nothing_else(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "config.json",
        "decoder.onnx",
        "image.onnx",
        "text.onnx",
        "tokenizer.json",
    ]
    config = json.loads((exported / "config.json").read_text())
    assert config["kind"] == "compact"
    assert config["note"] == "test"


@pytest.mark.filterwarnings("ignore")
def test_quantised_graphs_are_smaller_and_close(exported, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(exported / name, tmp_path)
    for name in ("image", "text", "decoder"):
        quantise_graph(exported / f"{name}.onnx", tmp_path / f"{name}.onnx")
    for name in ("image", "decoder"):
        assert (tmp_path / f"{name}.onnx").stat().st_size < 0.8 * (exported / f"{name}.onnx").stat().st_size
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    logits = []
    for folder in (exported, tmp_path):
        runtime = CompactRuntime(folder, device="cpu", threads=1)
        logits.append(runtime.decode(runtime.encode_images([image]), ["the red cup"])[0])
    assert np.abs(logits[0] - logits[1]).max() < 0.1 * max(1.0, np.abs(logits[0]).max())


def test_a_quantised_look_up_table_keeps_its_rows(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    table = np.random.default_rng(0).normal(0, 1, (500, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0)],
        "look_up",
        [helper.make_tensor_value_info("ids", proto.INT64, ["n"])],
        [helper.make_tensor_value_info("rows", proto.FLOAT, ["n", 16])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "float.onnx")
    quantise_graph(tmp_path / "float.onnx", tmp_path / "small.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"ids": np.array([3, 499, 0])})
    np.testing.assert_allclose(rows, table[[3, 499, 0]], atol=np.abs(table).max() / 127)
    assert (tmp_path / "small.onnx").stat().st_size < 0.5 * (tmp_path / "float.onnx").stat().st_size


def test_kernels_become_int8_and_come_back_within_half_a_step(tmp_path):
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernels = (rng.standard_normal((64, 128, 1, 1)) * rng.uniform(0.01, 10, (64, 1, 1, 1))).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "kernels"], ["y"])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 128, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 1, 1])],
        [numpy_helper.from_array(kernels, "kernels")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "float.onnx")
    quantise_graph(tmp_path / "float.onnx", tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    steps = np.abs(kernels).max((1, 2, 3)) / 127
    for channel in (0, 77):  # one channel at a time reads the kernels back
        x = np.zeros((1, 128, 1, 1), np.float32)
        x[0, channel] = 1
        (y,) = session.run(None, {"x": x})
        assert (np.abs(y[0, :, 0, 0] - kernels[:, channel, 0, 0]) <= 0.5001 * steps).all()
    assert (tmp_path / "small.onnx").stat().st_size < 0.35 * (tmp_path / "float.onnx").stat().st_size


def test_parity_sees_what_differs(exported, tiny_compact, tiny_tokenizer):
    same = measure_parity(tiny_compact.eval(), exported, tiny_tokenizer)
    assert same.logits < 1e-5
    assert same.heatmap < 1e-5
    assert same.found < 1e-5
    tiny_compact.conv2.weight.data *= 1.5
    image = measure_parity(tiny_compact, exported, tiny_tokenizer)
    assert image.logits > export.FLOAT_LIMIT
    tiny_compact.conv2.weight.data /= 1.5
    tiny_compact.text_norm.weight.data *= 2
    text = measure_parity(tiny_compact, exported, tiny_tokenizer)
    assert text.logits > export.FLOAT_LIMIT
    assert "logits differ by at most" in str(text)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("parities", "message"),
    [
        ([Parity(1e-3, 0, 0)], "float graphs must agree with torch within 0.0001"),
        ([Parity(float("nan"), 0, 0)], "float graphs must agree"),
        ([Parity(0, 0, 0), Parity(0.5, 0.2, 0)], "int8 graphs must agree .* export without quantising"),
        ([Parity(0, 0, 0), Parity(0.5, 0, 0.4)], "int8 graphs must agree"),
    ],
)
def test_graphs_that_compute_something_else_are_not_written(
    tiny_compact, tiny_tokenizer, tmp_path, monkeypatch, parities, message, exported
):
    import shutil

    def copy_graph(module, inputs, path, **options):
        shutil.copy(exported / path.name, path)

    monkeypatch.setattr(export.torch.onnx, "export", copy_graph)  # seconds each
    monkeypatch.setattr(export, "measure_parity", lambda *_: parities.pop(0))
    with pytest.raises(ModelError, match=message):
        export_compact(tiny_compact, tiny_tokenizer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_example_is_no_longer_than_an_instruction_may_be(
    tiny_compact, tiny_tokenizer, tmp_path, monkeypatch
):
    """Else a model of short instructions would be trained, and then not exported."""
    monkeypatch.setattr(tiny_compact, "config", replace(tiny_compact.config, max_tokens=5))
    seen = {}

    def note(module, inputs, file, *names):
        seen[file.name] = inputs

    monkeypatch.setattr(export, "write_graph", note)
    monkeypatch.setattr(export, "measure_parity", lambda *_: Parity(1, 1, 1))
    with pytest.raises(ModelError, match="nothing is written"):
        export_compact(tiny_compact, tiny_tokenizer, tmp_path)
    assert seen["text.onnx"][0].shape == (2, 5)


@pytest.mark.filterwarnings("ignore")
def test_an_export_says_how_near_it_is_and_loads(
    tiny_compact, tiny_tokenizer, tmp_path, monkeypatch, exported
):
    import shutil

    def copy_graph(module, inputs, path, **options):
        shutil.copy(exported / path.name, path)

    monkeypatch.setattr(export.torch.onnx, "export", copy_graph)
    parity = export_compact(tiny_compact, tiny_tokenizer, tmp_path / "model")
    assert 1e-7 < parity.heatmap < 0.03
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    heatmap = ivm.load(tmp_path / "model", device="cpu")(image, "the red cup")
    assert heatmap.shape == (48, 64)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export_compact(tiny_compact, tiny_tokenizer, tmp_path / "file" / "model")
