"""Quantised graphs against the float ones they come from."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from ivm.models.export import quantise_graph
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
