"""Compact model in torch -> a folder that `ivm.models.onnx` runs: three ONNX graphs, tokenizer, config.

    image.onnx    uint8 pictures           -> features           once a picture
    text.onnx     token ids                -> text tokens        once an instruction
    decoder.onnx  features + text tokens   -> logits, found      once a pair

Matrix products are quantised to int8 (dynamic, a scale a channel), the embedding table to int8 (a scale a
row); the kernels of convolutions are stored in int8 (a scale an output) and computed in float32.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ivm.errors import ModelError, OutputError, require
from ivm.models.compact import CompactModel

__all__ = [
    "FLOAT_LIMIT",
    "OPSET",
    "Parity",
    "export_compact",
    "make_folder",
    "measure_parity",
    "quantise_graph",
    "write_graph",
]

OPSET = 20

FLOAT_LIMIT = 1e-4
"""How far float graphs may be from torch, in logits as a share of the largest; they come within 1e-5."""

_ASKED = (
    "the dog",
    "what time is it?",
    "pick up the red cup and put it on the green plate",
    "how many motorcycles are there to the left of the man who is wearing a white helmet?",
)

# Of heatmaps and found scores, on average; the shipped weights come within 0.002 and 0.012. What quantisation
# costs on held-out questions is measured by runs/compact_checks.py.
_INT8_LIMITS = (0.05, 0.1)

_FEW = 32  # a matrix with fewer outputs is not worth quantising


@dataclass(frozen=True)
class Parity:
    """How far exported graphs are from the torch model they come from, on the same made-up inputs.

    Attributes:
        logits: largest difference of a logit, as a share of the largest logit (or of 1, if that is larger).
        heatmap: mean difference of heatmap values.
        found: mean difference of found probabilities.
    """

    logits: float
    heatmap: float
    found: float

    def __str__(self) -> str:
        return (
            f"next to torch, logits differ by at most {self.logits:.1e} of the largest, heatmaps by "
            f"{self.heatmap:.1e} and found scores by {self.found:.1e} on average"
        )


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
) -> Parity:
    """Write the model into `folder` for `ivm.models.onnx.CompactRuntime`; returns how near it is to torch.

    Args:
        model: trained; its config's image_size fixes the graphs' picture size; batches are free.
        tokenizer: a `tokenizers.Tokenizer`.
        quantise: as `quantise_graph` does; False keeps float32 throughout.
        extra: further plain values for config.json, such as figures.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ModelError: the graphs do not compute what the model does; nothing is written then.
        OutputError: the folder cannot be written. Files are written under temporary names first.
    """
    require("onnxscript", "train")
    make_folder(folder)
    model = model.eval().float()
    config = model.config
    size = config.image_size
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    ids = torch.ones(2, min(9, config.max_tokens), dtype=torch.int64)
    mask = torch.ones_like(ids)
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
        for name, (module, inputs, input_names, output_names, shapes) in graphs.items():
            write_graph(module, inputs, Path(scratch) / f"{name}.onnx", input_names, output_names, shapes)
        parity = measure_parity(model, Path(scratch), tokenizer)
        if not parity.logits <= FLOAT_LIMIT:  # also refuses NaN
            raise ModelError(
                f"the float graphs must agree with torch within {FLOAT_LIMIT:g}, but {parity}; "
                "nothing is written"
            )
        if quantise:
            for name in graphs:
                raw = (Path(scratch) / f"{name}.onnx").rename(Path(scratch) / f"{name}.raw.onnx")
                with _quiet():
                    quantise_graph(raw, Path(scratch) / f"{name}.onnx")
            parity = measure_parity(model, Path(scratch), tokenizer)
            heatmap, found = _INT8_LIMITS
            if not (parity.heatmap <= heatmap and parity.found <= found):
                raise ModelError(
                    f"the int8 graphs must agree with torch within {heatmap:g} in heatmaps and {found:g} in "
                    f"found scores, but {parity}; nothing is written: export without quantising"
                )
        content = {"kind": "compact", **config.to_dict(), "quantised": quantise, **(extra or {})}
        (Path(scratch) / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        tokenizer.save(str(Path(scratch) / "tokenizer.json"), pretty=False)
        for file in (*(f"{name}.onnx" for name in graphs), "tokenizer.json", "config.json"):
            (Path(scratch) / file).replace(folder / file)
    return parity


def make_folder(folder: Path) -> None:
    """Make a folder that is to be written.

    Raises:
        OutputError: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {str(folder)!r}: {error.strerror or error}") from error


def write_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    file: Path,
    input_names: list[str],
    output_names: list[str],
    shapes: tuple[dict[int, Any], ...],
) -> None:
    """One module as one ONNX file, without a word.

    Args:
        inputs: an example, of a batch of at least 2: the exporter would take 1 for a constant.
        shapes: of each input, its free axes as `torch.export.Dim`.
    """
    with _quiet():
        torch.onnx.export(
            module.eval(),
            inputs,
            file,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def measure_parity(model: CompactModel, folder: Path, tokenizer: Any) -> Parity:
    """Compare image.onnx, text.onnx and decoder.onnx of `folder`, run one after the other, with the model.

    Four smooth random pictures, each asked all of `_ASKED`; the same at every call.

    Args:
        model: the torch model.
        folder: holds the graphs.
        tokenizer: a `tokenizers.Tokenizer` that pads.
    """
    import onnxruntime

    size, random = model.config.image_size, torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 12, 12, generator=random)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    images = (smooth * 255).round().to(torch.uint8)
    images = images.repeat_interleave(len(_ASKED), dim=0)
    encoded = tokenizer.encode_batch(list(_ASKED) * 4)
    ids, mask = (torch.tensor([getattr(e, k) for e in encoded]) for k in ("ids", "attention_mask"))
    with torch.no_grad():
        text = model.encode_text(ids, mask.bool())
        logits, found = model.decode(model.encode_image(images), text, mask.bool())

    def run(name: str, **inputs: Any) -> list[np.ndarray]:
        file = str(folder / f"{name}.onnx")
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        answer: list[np.ndarray] = session.run(None, inputs)
        return answer

    tokens, map8, map4 = run("image", images=images.permute(0, 2, 3, 1).numpy())
    (words_BTD,) = run("text", ids=ids.numpy(), mask=mask.numpy())
    theirs, theirs_found = (
        torch.from_numpy(answer)
        for answer in run("decoder", tokens=tokens, map8=map8, map4=map4, text=words_BTD, mask=mask.numpy())
    )
    return Parity(
        logits=float((logits - theirs).abs().max() / logits.abs().max().clamp(min=1.0)),
        heatmap=float((logits.sigmoid() - theirs.sigmoid()).abs().mean()),
        found=float((found.sigmoid() - theirs_found.sigmoid()).abs().mean()),
    )


def quantise_graph(source: Path, target: Path) -> None:
    """int8 MatMul and Gemm; what else is large is stored smaller, and computed in float32: embedding tables
    and the kernels of convolutions as int8, the rest as float16.

    Matrices with few outputs stay as they are: scores and votes for places, small and straight to the answer.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    del model.graph.value_info[:]  # shapes from the exporter disagree with the quantiser's own inference
    outputs = {tensor.name: min(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 2}
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=[n.name for n in products if outputs.get(n.input[1], _FEW) < _FEW],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(target)
    nodes = []
    large = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= 4096
    }
    casts = []
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0] in large:
            nodes += _int8_look_up(node, large.pop(node.input[0]), model.graph)
            continue
        nodes.append(node)
        if node.op_type == "Conv" and node.input[1] in large:
            casts += _int8_kernels(large.pop(node.input[1]), model.graph)
    for name, tensor in large.items():
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name + "_f16"))
        casts.append(onnx.helper.make_node("Cast", [name + "_f16"], [name], to=onnx.TensorProto.FLOAT))
    kept = casts + nodes
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def _int8_kernels(tensor: Any, graph: Any) -> list[Any]:
    """The nodes that make kernels [O, I, h, w] of an int8 copy, with one scale an output; run at loading."""
    from onnx import TensorProto, helper, numpy_helper

    kernels = numpy_helper.to_array(tensor)
    scale = np.maximum(np.abs(kernels).max(axis=(1, 2, 3), keepdims=True), 1e-8) / 127.0
    name = tensor.name
    tensor.CopyFrom(numpy_helper.from_array(np.round(kernels / scale).astype(np.int8), name + "_i8"))
    graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), name + "_scale"))
    return [
        helper.make_node("Cast", [name + "_i8"], [name + "_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [name + "_float", name + "_scale"], [name]),
    ]


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
