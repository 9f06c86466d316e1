"""Compact model in torch -> a folder that `ivm.models.onnx` runs: three ONNX graphs, tokenizer, config.

    image.onnx    uint8 pictures           -> features           once a picture
    text.onnx     token ids                -> text tokens        once an instruction
    decoder.onnx  features + text tokens   -> logits, found      once a pair

Matrix products are quantised to int8 (dynamic, a scale a channel), the embedding table to int8 (a scale a
row); convolutions are stored in float16 and computed in float32.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ivm.errors import require
from ivm.models.compact import CompactModel

__all__ = ["OPSET", "export_compact", "quantise_graph"]

OPSET = 20


class _ImageGraph(nn.Module):
    def __init__(self, model: CompactModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.encode_image(images.permute(0, 3, 1, 2))


class _TextGraph(nn.Module):
    def __init__(self, model: CompactModel) -> None:
        super().__init__()
        self.model, self.encoder = model, model.text_encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model.encode_text(ids, mask.bool())


class _DecoderGraph(nn.Module):
    def __init__(self, model: CompactModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Tensor, map8: Tensor, map4: Tensor, text: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.model.decode((tokens, map8, map4), text, mask.bool())


def export_compact(
    model: CompactModel,
    tokenizer: Any,
    folder: Path,
    quantise: bool = True,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write the model into `folder` for `ivm.models.onnx.CompactRuntime`.

    Args:
        model: trained; its config's image_size fixes the graphs' picture size; batches are free.
        tokenizer: a `tokenizers.Tokenizer`.
        quantise: int8 matrix products and embeddings, float16 storage; False keeps float32 throughout.
        extra: further plain values for config.json, such as figures.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        OutputError: never partly: files are written under temporary names first.
    """
    require("onnxscript", "train")
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval().float()
    config = model.config
    size = config.image_size
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    ids = torch.ones(2, 9, dtype=torch.int64)
    mask = torch.ones(2, 9, dtype=torch.int64)
    with torch.no_grad():
        features = model.encode_image(images.permute(0, 3, 1, 2))
        text = model.encode_text(ids, mask.bool())
    batch, length = (
        torch.export.Dim("batch", min=1, max=256),
        torch.export.Dim("length", min=2, max=config.max_tokens),
    )
    graphs = {
        "image": (_ImageGraph(model), (images,), ["images"], ["tokens", "map8", "map4"], ({0: batch},)),
        "text": (
            _TextGraph(model),
            (ids, mask),
            ["ids", "mask"],
            ["text"],
            ({0: batch, 1: length}, {0: batch, 1: length}),
        ),
        "decoder": (
            _DecoderGraph(model),
            (*features, text, mask),
            ["tokens", "map8", "map4", "text", "mask"],
            ["logits", "found"],
            ({0: batch}, {0: batch}, {0: batch}, {0: batch, 1: length}, {0: batch, 1: length}),
        ),
    }
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        written = []
        for name, (module, inputs, input_names, output_names, shapes) in graphs.items():
            raw, final = Path(scratch) / f"{name}.raw.onnx", Path(scratch) / f"{name}.onnx"
            with _quiet():
                torch.onnx.export(
                    module.eval(),
                    inputs,
                    raw,
                    input_names=input_names,
                    output_names=output_names,
                    dynamic_shapes=shapes,
                    opset_version=OPSET,
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
                if quantise:
                    quantise_graph(raw, final)
                else:
                    raw.replace(final)
            written.append(final)
        content = {"kind": "compact", **config.to_dict(), "quantised": quantise, **(extra or {})}
        (Path(scratch) / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        tokenizer.save(str(Path(scratch) / "tokenizer.json"), pretty=False)
        for file in (*written, Path(scratch) / "tokenizer.json", Path(scratch) / "config.json"):
            file.replace(folder / file.name)


def quantise_graph(source: Path, target: Path) -> None:
    """int8 MatMul and Gemm, int8 embedding tables; what stays float32 and is large is stored as float16."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    del model.graph.value_info[:]  # shapes from the exporter disagree with the quantiser's own inference
    quantize_dynamic(
        model, target, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8
    )
    model = onnx.load(target)
    nodes = []
    large = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= 4096
    }
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in large:
            nodes += _int8_look_up(node, large.pop(node.input[0]), model.graph)
        else:
            nodes.append(node)
    casts = []
    for name, tensor in large.items():
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + "_f16"))
        casts.append(onnx.helper.make_node("Cast", [name + "_f16"], [name], to=onnx.TensorProto.FLOAT))
    kept = casts + nodes
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _int8_look_up(node: Any, tensor: Any, graph: Any) -> list[Any]:
    """The nodes that look rows up in an int8 copy of the table, with one scale a row."""
    from onnx import TensorProto, helper, numpy_helper

    table = numpy_helper.to_array(tensor)
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8) / 127.0
    name, ids = tensor.name, node.input[1]
    tensor.CopyFrom(numpy_helper.from_array(np.round(table / scale).astype(np.int8), name + "_i8"))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), name + "_scale"))
    return [
        helper.make_node("Gather", [name + "_i8", ids], [name + "_rows"], axis=0),
        helper.make_node("Cast", [name + "_rows"], [name + "_float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [name + "_scale", ids], [name + "_scales"], axis=0),
        helper.make_node("Mul", [name + "_float", name + "_scales"], [node.output[0]]),
    ]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks much about what is not wrong."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "root")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
